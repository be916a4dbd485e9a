"""Reference records: items, offers and campaigns, as they stand on the compacted topics and in files."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from schemas.events import Number

__all__ = ["Campaign", "CampaignConsent", "Item", "Offer"]

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Seconds = Annotated[float, Meta(ge=0, le=366 * 86_400)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Item(Struct, frozen=True, kw_only=True):
    """What can be recommended."""

    item_id: Id
    version: str | int
    name: str | None = None
    category: str | None = None
    brand: str | None = None
    price: Number | None = None
    currency: str | None = None
    stock: Number | None = None
    hidden: bool = False
    attributes: dict[str, str | float | bool] = field(default_factory=dict)
    updated_at: datetime | None = None

    @property
    def available(self) -> bool:
        """Whether the item may be shown: not hidden, and in stock where stock is known."""
        return not self.hidden and (self.stock is None or self.stock > 0)


class Offer(Struct, frozen=True, kw_only=True):
    """What a bandit chooses: an incentive with a cost and a value, both in ``currency`` per response.

    What is known of a category's offers is where a new offer of it begins.
    """

    offer_id: Id
    version: str | int
    cost: Number
    value: Number
    currency: str
    category: str | None = None
    budget: Number | None = None
    eligibility: dict[str, str | float | bool] = field(default_factory=dict)
    active_from: datetime | None = None
    active_to: datetime | None = None


class CampaignConsent(Struct, frozen=True, forbid_unknown_fields=True):
    """Which consent a campaign needs, and what an unknown answer means."""

    purpose: str = "contact"
    when_unknown: Literal["allow", "deny"] | None = None


class Campaign(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule-driven message programme. Durations are in seconds.

    ``message_class`` has no default: caps, cooldown and holdout depend on it, and a transactional message
    under a marketing cap (or the reverse) is the classic fault of such systems.
    """

    campaign_id: Id
    version: str | int
    kind: Literal["cart_abandonment", "browse_abandonment"]
    message_class: Literal["marketing", "transactional"]
    enabled: bool = True
    dry_run: bool = False
    channel: str = "email"
    delay_s: Seconds = 3600.0
    expires_after_s: Seconds = 86_400.0
    cooldown_s: Seconds = 86_400.0
    min_views: Annotated[int, Meta(ge=1, le=64)] = 2
    max_per_day: Annotated[int, Meta(ge=0)] | None = None
    holdout_share: Share = 0.0
    offers: bool = False
    consent: CampaignConsent = CampaignConsent()
    starts_at: datetime | None = None
    ends_at: datetime | None = None
