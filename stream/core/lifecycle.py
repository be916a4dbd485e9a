"""Lifecycle stage and RFM scores of a user: functions of the profile and the time, with fixed thresholds.

Thresholds do not follow the other users: so a score means the same next month, in every partition and in a
replay, and a user changes it only by what the user does, or leaves undone.

RFM after Hughes, A. M. (1994), Strategic Database Marketing, with thresholds in place of quintiles.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stream.core.rows import Profile

__all__ = [
    "ACTIVE_S",
    "LAPSED_S",
    "NEW_S",
    "RECENCY_S",
    "STAGES",
    "WON_BACK_S",
    "frequency",
    "monetary",
    "note_activity",
    "recency",
    "stage",
]

DAY_S: Final = 86_400.0
NEW_S: Final = 30 * DAY_S  # after the first event a user is new for so long
ACTIVE_S: Final = 30 * DAY_S  # without activity for longer, a user is at risk
LAPSED_S: Final = 90 * DAY_S  # without activity for longer, a user has lapsed
WON_BACK_S: Final = 30 * DAY_S  # after the return, a user who had lapsed is won back for so long
STAGES: Final = ("new", "active", "at_risk", "lapsed", "won_back")

# Seconds since the last order up to which recency scores 5, 4, 3 and 2; beyond, and without an order, 1.
RECENCY_S: Final = (30 * DAY_S, 90 * DAY_S, 180 * DAY_S, 365 * DAY_S)
ORDERS: Final = (2, 3, 5, 10)  # so many orders score 2, 3, 4 and 5
# Net revenue from which monetary scores 2, 3, 4 and 5, in units of a currency worth about a euro.
REVENUE: Final = (50.0, 100.0, 250.0, 500.0)
# Units that are worth about a euro, by order of magnitude; another currency counts as a euro.
UNITS: Final = {
    "JPY": 100.0,
    "KRW": 1000.0,
    "CNY": 10.0,
    "INR": 100.0,
    "RUB": 100.0,
    "SEK": 10.0,
    "NOK": 10.0,
}


def note_activity(profile: Profile, time: float) -> None:
    """Note that the user did something, and whether that was a return."""
    if time - profile.last_active >= LAPSED_S and profile.last_active > float("-inf"):
        profile.returned_at = time
    profile.last_active = max(profile.last_active, time)


def stage(profile: Profile, now: float) -> str | None:
    """One of ``STAGES``; ``None`` for who never did anything."""
    if profile.last_active == float("-inf"):
        return None
    quiet_s = now - profile.last_active
    if quiet_s >= LAPSED_S:
        return "lapsed"
    if quiet_s >= ACTIVE_S:
        return "at_risk"
    if now - profile.returned_at < WON_BACK_S:
        return "won_back"
    return "new" if now - profile.first_seen < NEW_S else "active"


def recency(profile: Profile, now: float) -> int:
    """Score of the time since the last order, 1 to 5."""
    since = now - profile.last_order_at
    return next((5 - n for n, bound in enumerate(RECENCY_S) if since < bound), 1)


def frequency(profile: Profile) -> int:
    """Score of the number of orders, 1 to 5."""
    return 1 + bisect_right(ORDERS, profile.n_orders)


def monetary(profile: Profile) -> int:
    """Score of the net revenue, 1 to 5: that of the best currency, for amounts in two are never added."""
    scaled = (amount / UNITS.get(currency, 1.0) for currency, amount in profile.revenue.items())
    return 1 + bisect_right(REVENUE, max(scaled, default=0.0))
