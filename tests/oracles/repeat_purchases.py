"""Which messages three campaigns about orders call for: whole histories, nothing of the engine.

Dear products are followed up after a week and, once ordered again within two months, after four weeks, unless
they are sent back; who orders nothing for thirty days is written to.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tests.oracles.campaign_messages import DAY_S, Due, Told, lasting

__all__ = ["CAMPAIGNS", "COOLDOWN_S", "DEAR", "armed"]

COOLDOWN_S = 10 * DAY_S
DEAR = 15.0  # price from which a product is followed up, of whatever currency
AGAIN_S = 60 * DAY_S
_COMMON: dict[str, Any] = {
    "version": 1,
    "message_class": "marketing",
    "consent": {"when_unknown": "allow"},
    "cooldown_s": COOLDOWN_S,
    "holdout_share": 0.25,
    "expires_after_s": 30 * DAY_S,  # the shop closes for days, and time is that of its events
}
_ORDERED = {"events": ["Order Completed"], "where": {"fact": "product.price", "at_least": DEAR}}
CAMPAIGNS: list[dict[str, Any]] = [
    _COMMON | {"campaign_id": "after", "kind": "post_purchase", "when": _ORDERED, "delay_s": 7 * DAY_S},
    _COMMON
    | {
        "campaign_id": "refill",
        "kind": "replenishment",
        "when": _ORDERED | {"at_least": 2, "within_s": AGAIN_S},
        "delay_s": 28 * DAY_S,
    },
    _COMMON | {"campaign_id": "win-back", "kind": "win_back", "delay_s": 30 * DAY_S},
]


def armed(user: str, told: list[Told]) -> list[Due]:
    """What comes due of a user's orders and refunds; each names one product, dear ones their product."""
    found = []
    for product in sorted({e.product for e in told if e.product}):
        mine = [e for e in told if e.product == product]
        orders = [e for e in mine if e.kind == "order"]
        refunds = [e for e in mine if e.kind == "refund"]
        found += lasting(user, "after", product, orders, refunds, 7 * DAY_S)
        again = [second for first, second in pairwise(orders) if second.time - first.time <= AGAIN_S]
        found += lasting(user, "refill", product, again, refunds, 28 * DAY_S)
    active = {e.message_id: e for e in told if e.kind == "order"}
    return found + lasting(user, "win-back", "", list(active.values()), [], 30 * DAY_S)
