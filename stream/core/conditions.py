"""Conditions compiled to closures: what is said once in a campaign is decided once, not with every event.

A closure takes :class:`Facts` and answers yes or no; it costs well under a microsecond per comparison
(``benchmarks/campaigns.py``).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.aliases import ALIASES
from stream.core import lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schemas.catalogue import Item
    from schemas.conditions import Condition
    from schemas.events import Event, Product
    from stream.core.rows import Profile

    Test = Callable[["Facts"], bool]
    Read = Callable[["Facts"], Any]

__all__ = ["NUMBERS", "Facts", "all_of", "always", "compiled", "reader"]

NUMBERS = frozenset({int, float})


@dataclass(slots=True)
class Facts:
    """What a condition may look at; ``now`` is event time in seconds."""

    profile: Profile
    now: float
    event: Event | None = None
    product: Product | None = None
    item: Item | None = None


def always(_facts: Facts) -> bool:
    """No condition at all."""
    return True


def compiled(condition: Condition | None) -> Test:
    """Turn a condition into a function of the facts; none is always fulfilled."""
    if condition is None:
        return always
    if condition.all is not None:
        return _all([compiled(inner) for inner in condition.all])
    if condition.any is not None:
        return _any([compiled(inner) for inner in condition.any])
    if condition.not_ is not None:
        inner = compiled(condition.not_)
        return lambda facts: not inner(facts)
    return _comparison(condition)


def all_of(conditions: Sequence[Condition]) -> Test:
    """Return a test of all conditions; of none it always holds."""
    tests = [compiled(condition) for condition in conditions]
    return _all(tests) if len(tests) > 1 else tests[0] if tests else always


def _all(tests: list[Test]) -> Test:
    def test(facts: Facts) -> bool:
        for inner in tests:  # noqa: SIM110  all() with a generator takes twice as long
            if not inner(facts):
                return False
        return True

    return test


def _any(tests: list[Test]) -> Test:
    def test(facts: Facts) -> bool:
        for inner in tests:  # noqa: SIM110  any() with a generator takes twice as long
            if inner(facts):
                return True
        return False

    return test


def _comparison(condition: Condition) -> Test:
    read = reader(condition.fact or "")
    tests = [_numeric(read, compare, limit) for compare, limit in _limits(condition)]
    tests += [_known(read, bound) for bound in _bounds(condition)]
    if condition.exists is not None:
        exists = condition.exists
        tests.append(lambda facts: (read(facts) is not None) is exists)
    return tests[0] if len(tests) == 1 else _all(tests)


def _limits(condition: Condition) -> list[tuple[Callable[[Any, Any], bool], float]]:
    compared = (
        (operator.ge, condition.at_least),
        (operator.le, condition.at_most),
        (operator.gt, condition.above),
        (operator.lt, condition.below),
    )
    return [(compare, limit) for compare, limit in compared if limit is not None]


def _numeric(read: Read, compare: Callable[[Any, Any], bool], limit: float) -> Test:
    """Return a test that holds for numbers only, and neither for what is not known."""

    def test(facts: Facts) -> bool:
        value = read(facts)
        return type(value) in NUMBERS and compare(value, limit)

    return test


def _known(read: Read, bound: Callable[[Any], bool]) -> Test:
    def test(facts: Facts) -> bool:
        value = read(facts)
        return value is not None and bound(value)

    return test


def _bounds(condition: Condition) -> list[Callable[[Any], bool]]:
    """Return a test of a known value for each bound that is not one of numbers."""
    found: list[Callable[[Any], bool]] = []
    is_, in_ = condition.is_, condition.in_
    if condition.fact == "event.name":  # a name and what it is called elsewhere mean the same
        is_ = None if is_ is None else ALIASES.get(str(is_), is_)
        in_ = None if in_ is None else [ALIASES.get(str(one), one) for one in in_]
    if is_ is not None:
        found.append(lambda value: _same(value, is_))
    if in_ is not None:
        found.append(lambda value: any(_same(value, one) for one in in_))
    if (contains := condition.contains) is not None:
        found.append(lambda value: not isinstance(value, bool | int | float) and contains in value)
    return found


def _same(value: Any, other: Any) -> bool:
    """Whether two values are the same; ``true`` is not 1."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def reader(fact: str) -> Read:
    """Return how a fact is read; ``None`` is what is not known."""
    source, _, name = fact.partition(".")
    if source == "user":
        return _of_user(name)
    if source == "item":
        return _of_item(name)
    if source == "product":
        return lambda facts: None if facts.product is None else getattr(facts.product, name)
    if name == "name":
        return lambda facts: None if facts.event is None else ALIASES.get(facts.event.name, facts.event.name)
    return lambda facts: None if facts.event is None else getattr(facts.event.properties, name)


def _of_item(name: str) -> Read:
    stem, _, attribute = name.partition(".")
    if stem == "attributes":
        return lambda facts: None if facts.item is None else facts.item.attributes.get(attribute)
    return lambda facts: None if facts.item is None else getattr(facts.item, name)


def _of_user(name: str) -> Read:
    stem, _, key = name.partition(".")
    match stem:
        case "revenue":
            currency = key.upper()
            return lambda facts: facts.profile.revenue.get(currency, 0.0)
        case "consent":
            return lambda facts: facts.profile.answer(key)
        case _:
            return _COMPUTED.get(name) or operator.attrgetter(f"profile.{name}")


def _active_age(facts: Facts) -> float | None:
    """Seconds since the user last did something."""
    last = facts.profile.last_active
    return facts.now - last if last > float("-inf") else None


def _order_age(facts: Facts) -> float | None:
    """Seconds since the user's last order; none before the first."""
    last = facts.profile.last_order_at
    return facts.now - last if last > float("-inf") else None


# Facts that are no field of the profile.
_COMPUTED: dict[str, Read] = {
    "age_s": lambda facts: facts.now - facts.profile.first_seen,
    "order_age_s": _order_age,
    "active_age_s": _active_age,
    "stage": lambda facts: lifecycle.stage(facts.profile, facts.now),
    "recency": lambda facts: lifecycle.recency(facts.profile, facts.now),
    "frequency": lambda facts: lifecycle.frequency(facts.profile),
    "monetary": lambda facts: lifecycle.monetary(facts.profile),
}
