"""What campaigns count of a user's events, kept in order of event time whatever order they came in.

So an event that comes late, within what is kept, leads to the same message as if it had come in time.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from stream.core.conditions import always
from stream.core.rows import Match
from stream.core.variants import key_of, line_of, may_be_same

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schemas.events import Event
    from stream.core.conditions import Facts
    from stream.core.rows import Profile
    from stream.core.rules import Grain, Rule, RuleBook, Watched

__all__ = ["ANYTHING", "SEPARATOR", "ended_after", "happened_within", "latest_occasion", "note"]

MAX_KEYS: Final = 128  # of a user
MAX_MATCHES: Final = 1024  # of all keys together, some 60 B each
MAX_TOGETHER: Final = 8  # times that are kept of products whose own are forgotten
SEPARATOR: Final = "\x1f"
ANYTHING: Final = "\x1d"  # asked for: whatever an event was about; ids are printable


def note(facts: Sequence[Facts], event: Event, profile: Profile, book: RuleBook) -> None:
    """Remember an event for the rules that count it, or ask whether it has been.

    ``facts`` are one for each of the event's products; one without a product where it has none.
    """
    for events, n in book.remembered[event.kind].values():
        if not events.means(event):
            continue
        # Of an event that ends something only the time is asked; of one that arms, which it was.
        match = Match(event.time, event.message_id, event.name) if n > 1 else Match(event.time, "", "")
        meant = facts if events.where is always else [fact for fact in facts if events.where(fact)]
        for key in [""] * bool(meant) if events.grain == "user" else [_key(f, events.grain) for f in meant]:
            _insert(profile, f"{events.mark}{SEPARATOR}{key}", match, n)
    while _has_too_many(profile, book):
        _forget_one(profile, book.objections)


def _has_too_many(profile: Profile, book: RuleBook) -> bool:
    """Whether more is counted than may be; one key is left to each objection in any case."""
    matched, least = profile.matched, len(book.objections)
    if len(matched) > max(MAX_KEYS, least):
        return True
    return len(matched) > least and sum(map(len, matched.values())) > max(MAX_MATCHES, MAX_TOGETHER * least)


def _key(facts: Facts, grain: Grain) -> str:
    if facts.product is None:
        return ""
    return (
        line_of(facts.product) if grain == "line" else key_of(facts.product, per_variant=grain == "variant")
    )


def _about(events: Watched, asked: str, profile: Profile) -> Iterator[list[Match]]:
    """What is kept of events about what is asked for; an event without products means it as well."""
    matched, start = profile.matched, f"{events.mark}{SEPARATOR}"
    if asked != ANYTHING and events.grain != "line":
        for key in (asked, "") if asked else ("",):
            if (matches := matched.get(f"{start}{key}")) is not None:
                yield matches
        return
    for name, matches in matched.items():
        if name.startswith(start):
            line = name[len(start) :]
            if asked == ANYTHING or not line or may_be_same(line, asked):
                yield matches


def _insert(profile: Profile, name: str, match: Match, n: int) -> None:
    matched = profile.matched
    matches = matched.pop(name, [])
    place = bisect_left(matches, match)
    if matches[place : place + 1] != [match]:  # an order may name a product in two of its lines
        matches.insert(place, match)
    if len(matches) > n:
        del matches[0]
    matched[name] = matches


def _forget_one(profile: Profile, objections: set[str]) -> None:
    """Forget the least recently counted, but rather a message that could be sent than one against it.

    What objects to messages goes when nothing else is left, and not without a trace: it counts for every
    product then, as an event without products does.
    """
    matched = profile.matched
    counted = (name for name in matched if name.partition(SEPARATOR)[0] not in objections)
    of_a_product = (name for name in matched if not name.endswith(SEPARATOR))
    goes = next(counted, None) or next(of_a_product)  # at most one key for each objection is of no product
    forgotten, mark = matched.pop(goes), goes.partition(SEPARATOR)[0]
    if mark in objections:
        for match in forgotten:
            together = f"{mark}{SEPARATOR}"
            _insert(profile, together, match, max(MAX_TOGETHER, len(matched.get(together, ()))))


def latest_occasion(rule: Rule, key: str, since: float, profile: Profile) -> Match | None:
    """The last event that, with those before it, makes the rule's number within its time; ``None``: none.

    An event that came late may complete a number for one that came earlier but happened later. Occasions
    from before ``since``, the event in hand, were seen when they came.
    """
    matches = profile.matched.get(f"{rule.arming.mark}{SEPARATOR}{key}", ())
    needed = rule.at_least
    for last in range(len(matches) - 1, needed - 2, -1):
        match = matches[last]
        if match.time < since:
            return None
        if match.time - matches[last - needed + 1].time <= rule.within_s:
            return match
    return None


def ended_after(events: Watched, asked: str, time: float, profile: Profile) -> bool:
    """Whether one of these events about a product, a line or ``ANYTHING`` happened at or after a time."""
    return any(matches[-1].time >= time for matches in _about(events, asked, profile))


def happened_within(events: Watched, asked: str, from_s: float, until_s: float, profile: Profile) -> bool:
    """Whether one of these events happened from one time on and before another."""
    for matches in _about(events, asked, profile):
        place = bisect_left(matches, from_s, key=lambda match: match.time)
        if place < len(matches) and matches[place].time < until_s:
            return True
    return False
