"""Campaigns: what is said to whom, when and how often, as data. Durations are in seconds of event time."""

from __future__ import annotations

import difflib
import math
from datetime import datetime
from typing import Annotated, Literal

from msgspec import NODEFAULT, Meta, Struct, field
from msgspec.structs import fields

from schemas.catalogue import Id
from schemas.conditions import Condition
from schemas.events import EVENT_NAMES, MAX_NUMBER

__all__ = [
    "MAX_WINDOW_S",
    "Absence",
    "Budget",
    "Campaign",
    "CampaignConsent",
    "Cap",
    "EventMatch",
    "check_hours",
]

DAY_S = 86_400.0
MAX_WINDOW_S = 31 * DAY_S  # of a rolling cap: a user's log of messages is kept for so long

Seconds = Annotated[float, Meta(ge=0, le=366 * 86_400)]
Money = Annotated[float, Meta(ge=0, le=MAX_NUMBER)]
Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
EventNames = Annotated[list[str], Meta(min_length=1, max_length=16)]
LocalHours = Annotated[str, Meta(pattern=r"^(none|([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)$")]

Kind = Literal[
    "cart_abandonment",
    "browse_abandonment",
    "checkout_abandonment",
    "event",
    "sequence",
    "price_drop",
    "back_in_stock",
    "win_back",
    "post_purchase",
    "replenishment",
    "milestone",
    "segment_entry",
    "score_threshold",
]
# Fields that belong to some kinds only; elsewhere they would say nothing, so they are refused.
_OF_KINDS: dict[str, tuple[str, ...]] = {
    "when": (
        "event",
        "sequence",
        "price_drop",
        "back_in_stock",
        "score_threshold",
        "post_purchase",
        "replenishment",
    ),
    "unless_before": ("event", "sequence"),
    "min_views": ("browse_abandonment",),
    "watch_s": ("price_drop", "back_in_stock"),
    "min_drop_share": ("price_drop",),
    "counter": ("milestone",),
    "thresholds": ("milestone",),
    "segment": ("segment_entry",),
    "segment_change": ("segment_entry",),
    "min_score": ("score_threshold",),
    "immediate": ("event", "sequence", "milestone", "segment_entry", "score_threshold"),
}
_NEEDED: dict[str, tuple[str, ...]] = {
    "event": ("when",),
    "sequence": ("when",),
    "milestone": ("counter", "thresholds"),
    "segment_entry": ("segment",),
    "score_threshold": ("min_score",),
}
_SLOW = ("win_back", "replenishment")
# What a campaign is about that does not say it; of kinds that are not here, a product.
_ABOUT: dict[str, Literal["cart", "user"]] = {
    "checkout_abandonment": "cart",
    "event": "user",
    "sequence": "user",
    "win_back": "user",
    "milestone": "user",
    "segment_entry": "user",
}
# Keys of kinds that are about one thing only; the others may have any.
_KEYS: dict[str, tuple[str, ...]] = {
    "price_drop": ("product",),
    "back_in_stock": ("product",),
    "score_threshold": ("product", "variant"),
    "win_back": ("user",),
    "milestone": ("user",),
    "segment_entry": ("user",),
}


class EventMatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events by name, as often as ``at_least`` within ``within_s``, each fulfilling ``where``."""

    events: EventNames
    at_least: Annotated[int, Meta(ge=1, le=32)] = 1
    within_s: Annotated[float, Meta(gt=0, le=366 * 86_400)] | None = None
    where: Condition | None = None

    def __post_init__(self) -> None:
        """Refuse names that no event has."""
        _check_events("events", self.events)


class Absence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events that must not have been for ``within_s`` before."""

    events: EventNames
    within_s: Annotated[float, Meta(gt=0, le=366 * 86_400)]

    def __post_init__(self) -> None:
        """Refuse names that no event has."""
        _check_events("events", self.events)


class CampaignConsent(Struct, frozen=True, forbid_unknown_fields=True):
    """Which consent a campaign needs, and what an unknown answer means."""

    purpose: Name = "contact"
    when_unknown: Literal["allow", "deny"] | None = None


class Cap(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So many messages to a user in a calendar day of the user's zone, or in any ``window_s``.

    With a channel only that channel's messages count, and another channel may be taken instead.
    """

    max_messages: Annotated[int, Meta(ge=0, le=64)]
    window: Literal["calendar_day", "rolling"] = "calendar_day"
    window_s: Annotated[float, Meta(gt=0, le=MAX_WINDOW_S)] | None = None
    channel: Name | None = None

    def __post_init__(self) -> None:
        """Refuse a rolling cap without its window, and a day with one."""
        if (self.window == "rolling") != (self.window_s is not None):
            message = "window_s: goes with window: rolling, and only with it"
            raise ValueError(message)


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So many messages in all, or by UTC day; each partition holds an equal share, rounded down."""

    messages: Count
    per: Literal["day", "total"] = "total"


class Campaign(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule-driven message programme. Durations are in seconds.

    ``message_class`` has no default: caps, cooldown and holdout depend on it, and a transactional message
    under a marketing cap (or the reverse) is the classic fault of such systems.
    """

    campaign_id: Id
    version: str | int
    kind: Kind
    message_class: Literal["marketing", "transactional"]
    enabled: bool = True
    dry_run: bool = False
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    # Trigger.
    when: EventMatch | None = None
    unless_before: Absence | None = None
    cancel_on: Annotated[list[str], Meta(max_length=16)] | None = None
    key: Literal["product", "variant", "cart", "user"] | None = None
    delay_s: Seconds = 3600.0
    immediate: bool = False
    min_views: Annotated[int, Meta(ge=1, le=32)] = 2
    watch_s: Seconds = 90 * DAY_S
    min_drop_share: Share = 0.0
    counter: Literal["n_orders", "n_events", "n_views", "n_adds", "revenue"] | None = None
    thresholds: Annotated[list[float], Meta(max_length=64)] = field(default_factory=list)
    segment: Name | None = None
    segment_change: Literal["entry", "exit"] = "entry"
    min_score: Share | None = None
    # Audience and channel.
    audience: Condition | None = None
    consent: CampaignConsent = CampaignConsent()
    channel: Name = "email"
    channels: Annotated[list[Name], Meta(max_length=8)] = field(default_factory=list)
    # Policy.
    expires_after_s: Seconds = 86_400.0
    cooldown_s: Seconds = 86_400.0
    re_eligible_after_s: Seconds | Literal["never"] | None = None
    max_per_day: Annotated[int, Meta(ge=0)] | None = None
    caps: Annotated[list[Cap], Meta(max_length=8)] = field(default_factory=list)
    quiet_hours: LocalHours | None = None
    send_time: Literal["when_due", "users_hours"] = "when_due"
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    budget: Budget | None = None
    holdout_share: Share = 0.0
    # What it is worth.
    offers: bool = False
    value: Money | None = None
    cost: Money = 0.0
    currency: Annotated[str, Meta(min_length=3, max_length=3)] | None = None

    def __post_init__(self) -> None:
        """Refuse what a kind has no use for, lacks, or cannot mean. Messages begin with the field's name."""
        check_hours(self.quiet_hours or "none")
        if fault := self._fault() or self._never():
            raise ValueError(fault)

    def _fault(self) -> str | None:  # noqa: C901, PLR0911  one guard per rule
        for name, kinds in _OF_KINDS.items():
            if self.kind not in kinds and getattr(self, name) != _DEFAULTS[name]:
                return f"{name}: is not for {self.kind}, but for {', '.join(kinds)}"
        for name in _NEEDED.get(self.kind, ()):
            if not getattr(self, name) and getattr(self, name) != 0.0:
                return f"{name}: a {self.kind} campaign needs it"
        if self.kind == "sequence" and self.unless_before is None and not self.cancel_on:
            return "cancel_on: a sequence campaign needs an absence: cancel_on, unless_before, or both"
        if self.kind in _SLOW and self.delay_s < DAY_S:
            return f"delay_s: a {self.kind} campaign waits at least a day (86400), not {self.delay_s:g}"
        keys = _KEYS.get(self.kind)
        if self.key is not None and keys is not None and self.key not in keys:
            return f"key: a {self.kind} campaign is about one {' or '.join(keys)}, not about a {self.key}"
        if self.immediate and self.delay_s:
            return "immediate: needs delay_s: 0; without it a message waits for events that come late"
        if self.counter == "revenue" and self.currency is None:
            return "currency: revenue is counted in one currency"
        if self.value is not None and self.currency is None:
            return "currency: a value has one"
        if self.audience is not None and (
            bad := sorted(f for f in self.audience.facts() if f.startswith(("event.", "product.")))
        ):
            return f"audience: {bad[0]!r} is gone when the message is due; use when.where"
        if self.cancel_on is not None:
            _check_events("cancel_on", self.cancel_on)
        return None

    @property
    def about(self) -> Literal["product", "cart", "user"]:
        """What a message is about: its key, a variant being a product, or what is usual for the kind."""
        if self.key is None:
            return _ABOUT.get(self.kind, "product")
        return "product" if self.key == "variant" else self.key

    def _never(self) -> str | None:
        """What no user and no moment could fulfil."""
        if (fact := self._fact_of_no_item()) is not None:
            return (
                f"audience: {fact!r} is not known of a message that is not about one product; use when.where"
            )
        if self.starts_at is not None and self.ends_at is not None and self.ends_at <= self.starts_at:
            return "ends_at: is not after starts_at"
        if not all(math.isfinite(one) and one > 0 for one in self.thresholds):
            return "thresholds: are numbers above 0"
        return None

    def _fact_of_no_item(self) -> str | None:
        """A fact of the item in an audience that is asked about no product."""
        if self.audience is None or self.about == "product":
            return None
        return min((fact for fact in self.audience.facts() if fact.startswith("item.")), default=None)


_DEFAULTS = {
    named.name: named.default_factory() if named.default is NODEFAULT else named.default
    for named in fields(Campaign)
    if not named.required
}


def check_hours(hours: str) -> None:
    """Refuse hours that end where they begin: they could mean the whole day, or no time at all.

    Raises
    ------
    ValueError
        They do.
    """
    start, _, end = hours.partition("-")
    if start == end:
        message = f"quiet_hours: {hours} is the whole day or no time; write none, or other hours"
        raise ValueError(message)


def _check_events(where: str, names: list[str]) -> None:
    for name in names:
        if name not in EVENT_NAMES:
            near = difflib.get_close_matches(name, EVENT_NAMES, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            message = f"{where}: {name!r} is not an event that Nudge knows{hint}"
            raise ValueError(message)
