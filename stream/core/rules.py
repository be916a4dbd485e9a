"""Campaigns compiled: what arms them, what ends them, indexed by the kind of event that may.

An event meets only the rules of its kind and name whose bounds its user keeps, so a hundred campaigns cost an
event what those few cost.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from schemas.aliases import ALIASES, ALSO
from schemas.events import EVENT_NAMES
from schemas.ids import id_of
from schemas.reasons import EventKind
from stream.core.conditions import all_of, always, compiled
from stream.core.indexing import Index, split
from stream.core.profiles import PASSIVE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.campaigns import Campaign
    from schemas.conditions import Condition
    from schemas.events import Event
    from stream.core.conditions import Test

__all__ = ["Absent", "Grain", "Rule", "RuleBook", "Watched", "rule_of"]

_K = EventKind
Key = Literal["product", "cart", "user"]
# Of what events are counted; a line is all that an event says of a variant.
Grain = Literal["product", "variant", "line", "user"]

# What arms a campaign of a kind and what ends its timers, where the campaign names no events; and its key.
_ARMING: Final[dict[str, frozenset[EventKind]]] = {
    "cart_abandonment": frozenset({_K.CART_ADD}),
    "browse_abandonment": frozenset({_K.VIEW}),
    "checkout_abandonment": frozenset({_K.CHECKOUT}),
    "price_drop": frozenset({_K.VIEW, _K.CART_ADD, _K.WISH_ADD}),
    "back_in_stock": frozenset({_K.VIEW, _K.CART_ADD, _K.WISH_ADD}),
    "win_back": frozenset(set(_K) - PASSIVE - {_K.EMAIL_OPEN, _K.UNKNOWN}),
    "post_purchase": frozenset({_K.ORDER}),
    "replenishment": frozenset({_K.ORDER}),
    "score_threshold": frozenset({_K.VIEW, _K.CART_ADD}),
}
_ENDING: Final[dict[str, frozenset[EventKind]]] = {
    "cart_abandonment": frozenset({_K.ORDER, _K.CART_REMOVE}),
    "browse_abandonment": frozenset({_K.ORDER, _K.CART_ADD}),
    "checkout_abandonment": frozenset({_K.ORDER, _K.CART_REMOVE}),
    "price_drop": frozenset({_K.ORDER}),
    "back_in_stock": frozenset({_K.ORDER}),
    "post_purchase": frozenset({_K.REFUND, _K.CANCEL}),
    "replenishment": frozenset({_K.REFUND, _K.CANCEL}),
    "score_threshold": frozenset({_K.ORDER}),
}
_COUNTED: Final[dict[str, frozenset[EventKind]]] = {
    "n_orders": frozenset({_K.ORDER}),
    "revenue": frozenset({_K.ORDER}),
    "n_views": frozenset({_K.VIEW}),
    "n_adds": frozenset({_K.CART_ADD}),
    "n_events": frozenset(set(_K) - {_K.UNKNOWN}),
}
_WATCHING: Final = frozenset({"price_drop", "back_in_stock"})
_ABOUT_PAST: Final = frozenset({"post_purchase", "win_back", "milestone", "segment_entry"})


@dataclass(frozen=True, slots=True)
class Watched:
    """Which events are meant: their kinds and, where a kind is too coarse, their names.

    ``mark`` names the same choice the same way in every campaign, so that what is counted is counted once.
    """

    kinds: frozenset[EventKind]
    names: frozenset[tuple[EventKind, str]] | None = None
    where: Test = always
    mark: str = ""
    grain: Grain = "product"

    def means(self, event: Event) -> bool:
        """Whether an event is one of these, its condition apart."""
        kind = event.kind
        return kind in self.kinds and (self.names is None or (kind, event.name) in self.names)

    def names_of(self, kind: EventKind) -> frozenset[str] | None:
        """Names of the events of a kind that are meant; ``None``: all."""
        return None if self.names is None else frozenset(name for of, name in self.names if of is kind)

    def of(self, grain: Grain) -> Watched:
        """Return the same events, counted of something else: what is counted there has a name of its own."""
        mark = self.mark if grain == "product" else f"{self.mark}/{grain}"
        return replace(self, mark=mark, grain=grain)


@dataclass(frozen=True, slots=True)
class Absent:
    """Events that must not have been for ``within_s`` before the trigger."""

    events: Watched
    within_s: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A campaign as the engine runs it."""

    campaign: Campaign
    key: Key
    arming: Watched
    ending: Watched
    audience: Test
    bounds: list[Condition]  # of the audience: what an index of many rules looks up
    rest: Test  # of the audience: what is left to ask then
    at_least: int
    within_s: float  # infinity: however long ago
    before: Absent | None
    per_variant: bool  # of a product; the key is the variant, and "bought" means it
    waits_for_item: bool  # price drop, back in stock
    advertises: bool  # a product that cannot be bought now is not to be written about
    counts: bool  # it takes more than one event to arm
    ends_by_order: bool


@dataclass(slots=True)
class RuleBook:
    """All rules that may arm or end, by the kind of event; rebuilt whenever a campaign changes."""

    rules: dict[str, Rule] = field(default_factory=dict)
    arming: dict[EventKind, Index[Rule]] = field(default_factory=dict)
    ending: dict[EventKind, list[Rule]] = field(default_factory=dict)
    # Events to be remembered, by kind: mark -> what is meant, and how many of them.
    remembered: dict[EventKind, dict[str, tuple[Watched, int]]] = field(default_factory=dict)
    objections: set[str] = field(default_factory=set)  # marks of what speaks against a message
    by_segment: dict[str, list[Rule]] = field(default_factory=dict)

    @classmethod
    def of(cls, campaigns: Iterable[Campaign]) -> RuleBook:
        """Compile campaigns; those that are switched off still end timers, but arm none."""
        book = cls()
        for campaign in sorted(campaigns, key=lambda one: one.campaign_id):
            rule = book.rules[campaign.campaign_id] = rule_of(campaign)
            for kind in rule.ending.kinds:
                book.ending.setdefault(kind, []).append(rule)
            if campaign.enabled:
                book._enable(rule)
        enabled = [rule for rule in book.rules.values() if rule.campaign.enabled]
        for kind in EventKind:
            armed = [(r, r.arming.names_of(kind), r.bounds) for r in enabled if kind in r.arming.kinds]
            if armed:
                book.arming[kind] = Index(armed)
        return book

    def _enable(self, rule: Rule) -> None:
        if rule.campaign.segment is not None:
            self.by_segment.setdefault(rule.campaign.segment, []).append(rule)
        if rule.counts:
            self._remember(rule.arming, 2 * rule.at_least + 2)
        if rule.before is not None:
            self._remember(rule.before.events, 4)
            self.objections.add(rule.before.events.mark)
        self._remember(rule.ending, 1)
        self.objections.add(rule.ending.mark)

    def _remember(self, events: Watched, n: int) -> None:
        """Remember the last ``n`` events that are meant, once for all rules that mean the same."""
        for kind in events.kinds:
            wanted = self.remembered.setdefault(kind, {})
            known = wanted.get(events.mark)
            wanted[events.mark] = (events, max(n, known[1] if known else 0))


def rule_of(campaign: Campaign) -> Rule:
    """Compile one campaign."""
    kind, when = campaign.kind, campaign.when
    if when is not None:
        arming = _named(when.events, "" if when.where is None else repr(when.where))
        arming = Watched(arming.kinds, arming.names, compiled(when.where), arming.mark)
    elif kind == "milestone":
        arming = _kinds(_COUNTED[campaign.counter or "n_events"])
    else:
        arming = _kinds(_ARMING.get(kind, frozenset()))
    per_variant = campaign.key == "variant"
    key: Key = campaign.about
    ends = _ENDING.get(kind, frozenset())
    if kind in {"event", "sequence"} and key != "user":
        ends = frozenset({_K.ORDER}) - arming.kinds
    ending = _kinds(ends)
    if campaign.cancel_on is not None:  # as well, not in its place: nobody who bought is to be reminded
        ending = _named([*campaign.cancel_on, *(name for name, of in EVENT_NAMES.items() if of in ends)])
    before = campaign.unless_before
    at_least = 1 if when is None else when.at_least
    if kind == "browse_abandonment":
        at_least = campaign.min_views
    absent = None if before is None else Absent(_named(before.events), before.within_s)
    line: Grain = "line" if per_variant else "product"
    counted: Grain = "variant" if per_variant else "product"
    if absent is not None:
        absent = replace(absent, events=absent.events.of(line if key == "product" else "user"))
    bounds, rest = split(campaign.audience)
    return Rule(
        campaign=campaign,
        key=key,
        arming=arming.of(counted if key == "product" else "user"),
        ending=ending.of("user" if key == "user" else line),
        audience=compiled(campaign.audience),
        bounds=bounds,
        rest=all_of(rest),
        at_least=at_least,
        within_s=float("inf") if when is None or when.within_s is None else when.within_s,
        before=absent,
        per_variant=per_variant,
        waits_for_item=kind in _WATCHING,
        advertises=kind not in _ABOUT_PAST,
        counts=at_least > 1,
        ends_by_order=_K.ORDER in ending.kinds,
    )


def _kinds(kinds: frozenset[EventKind]) -> Watched:
    return Watched(kinds, mark="+".join(sorted(kinds)) if len(kinds) < len(_K) // 2 else "any")


def _named(events: Iterable[str], condition: str = "") -> Watched:
    """Events by name; a name and what it is called elsewhere mean the same."""
    current = sorted({ALIASES.get(name, name) for name in events})
    called = {(name, name) for name in EVENT_NAMES} | {*ALIASES.items()} | ALSO
    names = frozenset((EVENT_NAMES[name], wire) for wire, name in called if name in current)
    mark = id_of("events", *current, condition)[:12]
    return Watched(frozenset(kind for kind, _ in names), names, mark=mark)
