"""Which messages three campaigns call for: whole histories looked at from their end, nothing of the engine.

The campaigns are those of :data:`CAMPAIGNS`: a cart reminder, a browse reminder and a sequence with absences.
The oracle sorts each user's events by time and asks of every event whether a message follows from it, in the
words of the design: one live timer per key that later events move, ended by what concludes it, then consent,
cooldown and a daily cap in the order in which messages come due.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CAMPAIGNS", "DAILY_CAP", "DAY_S", "LATENESS_S", "Due", "Told", "lasting", "messages"]

LATENESS_S = 300.0
DAY_S = 86_400.0
HOUR_S = 3600.0
_COMMON: dict[str, Any] = {
    "version": 1,
    "message_class": "marketing",
    "consent": {"when_unknown": "allow"},
    "cooldown_s": 2 * HOUR_S,
    "holdout_share": 0.25,
}
CAMPAIGNS: list[dict[str, Any]] = [
    _COMMON | {"campaign_id": "browse", "kind": "browse_abandonment", "min_views": 2, "delay_s": 2800.0},
    _COMMON | {"campaign_id": "cart", "kind": "cart_abandonment", "delay_s": 1600.0},
    _COMMON
    | {
        "campaign_id": "sequence",
        "kind": "sequence",
        "when": {"events": ["Product Viewed"], "at_least": 3, "within_s": 1800},
        "unless_before": {"events": ["Order Completed"], "within_s": 3600},
        "cancel_on": ["Order Completed", "Product Added"],
        "delay_s": 400.0,
    },
]
DAILY_CAP = 3


@dataclass(frozen=True, order=True)
class Told:
    """An event as it was produced."""

    time: float
    message_id: str
    user: str
    kind: str  # view, add, remove, order, yes or no
    product: str = ""


@dataclass
class Due:
    """A message that comes due."""

    at: float
    user: str
    campaign: str
    key: str
    message_id: str

    def place(self) -> tuple[float, str, str]:
        """Order in which messages come due."""
        return self.at, self.user, f"{self.campaign}\x1f{self.key}"


@dataclass
class _User:
    """What was said to a user so far."""

    last: dict[str, float] = field(default_factory=dict)
    today: dict[int, int] = field(default_factory=lambda: defaultdict(int))


def messages(
    events: set[Told],
    held_out: set[tuple[str, str]],
    armed: Callable[[str, list[Told]], list[Due]] | None = None,
    *,
    cooldown_s: float = 2 * HOUR_S,
) -> list[tuple[str, str, str]]:
    """(campaign, user, messageId) of all messages that go out, in order, once everything has come due.

    ``held_out`` are pairs of user and campaign. ``armed`` says what comes due of a user's history, in order
    of time; without it, what :data:`CAMPAIGNS` call for.
    """
    by_user: dict[str, list[Told]] = defaultdict(list)
    for event in sorted(events):
        by_user[event.user].append(event)
    due = [one for user, told in by_user.items() for one in (armed or _armed)(user, told)]
    sent: list[tuple[str, str, str]] = []
    users: dict[str, _User] = defaultdict(_User)
    for one in sorted(due, key=Due.place):
        user = users[one.user]
        # The last answer counts, and of one moment's answers the refusal.
        answers = [e for e in by_user[one.user] if e.kind in {"yes", "no"} and e.time <= one.at]
        if answers and max(answers, key=lambda e: (e.time, e.kind == "no")).kind == "no":
            continue
        if one.at - user.last.get(one.campaign, float("-inf")) < cooldown_s:
            continue
        if user.today[int(one.at // DAY_S)] >= DAILY_CAP:
            continue
        user.last[one.campaign] = one.at
        user.today[int(one.at // DAY_S)] += 1
        if (one.user, one.campaign) not in held_out:
            sent.append((one.campaign, one.user, one.message_id))
    return sent


def _armed(user: str, told: list[Told]) -> list[Due]:
    views, orders = [e for e in told if e.kind == "view"], [e for e in told if e.kind == "order"]
    found = []
    for product in sorted({e.product for e in told if e.product}):
        mine = [e for e in told if e.product == product]
        added = [e for e in mine if e.kind == "add"]
        found += lasting(
            user, "cart", product, added, [e for e in mine if e.kind in {"order", "remove"}], 1600.0
        )
        seen = [e for e in mine if e.kind == "view"][1:]  # from the second view on
        found += lasting(
            user, "browse", product, seen, [e for e in mine if e.kind in {"order", "add"}], 2800.0
        )
    thirds = [
        third
        for first, _, third in zip(views, views[1:], views[2:], strict=False)
        if third.time - first.time <= 1800.0
        and not any(third.time - HOUR_S <= order.time < third.time for order in orders)
    ]
    ends = [e for e in told if e.kind in {"order", "add"}]
    return found + lasting(user, "sequence", "", thirds, ends, 400.0)


def lasting(
    user: str, campaign: str, key: str, arming: list[Told], ending: list[Told], delay_s: float
) -> list[Due]:
    """Of the events that arm, those that no later one moves and nothing ends before the message goes."""
    found = []
    for event in arming:
        fires = event.time + delay_s + LATENESS_S
        moved = any(
            (event.time, event.message_id) < (e.time, e.message_id) and e.time < fires for e in arming
        )
        ended = any(event.time <= end.time < fires for end in ending)
        # What ends between two that arm leaves the earlier one moved all the same: it is gone either way.
        if not ended and not moved:
            found.append(Due(fires, user, campaign, key, event.message_id))
    return found
