"""A campaign, and users who agreed to everything, without holdout or caps unless a test asks."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.campaigns import Campaign
from stream.settings import Settings
from stream.testing import Driver, event

DAY: Final = 86_400.0

FREE = {"holdout_share": 0.0, "daily_cap": None, "cooldowns": False}


def campaign(kind: str = "cart_abandonment", **fields: Any) -> Campaign:
    """A marketing campaign that waits for ten minutes unless told otherwise."""
    basis = {"campaign_id": "c", "version": 1, "message_class": "marketing", "delay_s": 600.0, "kind": kind}
    return msgspec.convert(basis | fields, Campaign)


def driver(*campaigns: Campaign, policy: dict[str, Any] | None = None, **more: Any) -> Driver:
    """Users who agreed to everything, without caps unless the policy says so."""
    settings = Settings(
        max_items=256, click_slots=2**10, consent={"when_unknown": "allow"}, campaigns=FREE | (policy or {})
    )
    return Driver(settings=settings, campaigns=campaigns, **more)


def sent(stream: Driver, idle_s: float = DAY) -> list[str]:
    """Campaigns that have written since the last look and after so much idle time."""
    stream.advance(idle_s)
    return [trigger.campaign_id for trigger in stream.take("triggers")]


def added(at: float, **product: Any) -> bytes:
    """Something was put into the cart."""
    return event("Product Added", user="u1", at=at, **({"product_id": "p"} | product))
