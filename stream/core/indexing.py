"""Which of many rules an event may concern, found without asking each of them.

Most campaigns do not concern most users. Bounds that an audience sets to a number of the user's are looked up
for all rules at once: for each fact the bounds are sorted, and each interval between two of them has the set
of rules that it satisfies, one bit a rule. The intersection over the facts is what is left to ask. This is
the idea of publish-subscribe matching, to test a predicate once and not once a subscription (Fabret et al.,
SIGMOD 2001).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from stream.core.conditions import NUMBERS, reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from schemas.conditions import Condition
    from stream.core.conditions import Facts, Read

__all__ = ["Index", "split"]

T = TypeVar("T")
_LIMITS: Final = ("at_least", "above", "at_most", "below")
_PLACES: Final[dict[str, Callable[[Sequence[float], float], int]]] = {
    # How many of the sorted limits a value leaves behind: these hold (lower bounds), or fail (upper ones).
    "at_least": bisect_right,
    "above": bisect_left,
    "at_most": bisect_left,
    "below": bisect_right,
}


def split(condition: Condition | None) -> tuple[list[Condition], list[Condition]]:
    """Divide what must all hold into bounds of the user's numbers and the rest."""
    if condition is None:
        return [], []
    parts = [condition] if condition.all is None else condition.all
    bounds = [part for part in parts if _is_bound(part)]
    return bounds, [part for part in parts if part not in bounds]


def _is_bound(part: Condition) -> bool:
    others = (part.is_, part.in_, part.contains, part.exists)
    return part.fact is not None and part.fact.startswith("user.") and all(other is None for other in others)


class Index(Generic[T]):
    """Rules with the bounds that each sets, in order; an event's names are looked up likewise.

    Parameters
    ----------
    rules : sequence of (rule, names, bounds)
        ``names`` are those of the events that concern the rule; ``None`` for any.
    """

    def __init__(self, rules: Sequence[tuple[T, frozenset[str] | None, Sequence[Condition]]]) -> None:
        self._rules = [rule for rule, _, _ in rules]
        self._any_name = sum(1 << n for n, (_, names, _) in enumerate(rules) if names is None)
        self._by_name: dict[str, int] = {}
        limits: dict[tuple[str, str], list[tuple[float, int]]] = {}
        for n, (_, names, bounds) in enumerate(rules):
            for name in names or ():
                self._by_name[name] = self._by_name.get(name, self._any_name) | 1 << n
            for bound in bounds:
                for kind in _LIMITS:
                    if (limit := getattr(bound, kind)) is not None:
                        limits.setdefault((bound.fact or "", kind), []).append((limit, n))
        everybody = (1 << len(rules)) - 1
        self._tables = [_Table(*named, found, everybody) for named, found in limits.items()]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def concerned(self, name: str, facts: Facts) -> Iterator[T]:
        """Yield the rules that an event of a name may concern, in order; each bound of theirs holds."""
        found = self._by_name.get(name, self._any_name)
        for table in self._tables:
            if not found:
                return
            found &= table.satisfied(facts)
        rules = self._rules
        while found:
            last = found & -found
            yield rules[last.bit_length() - 1]
            found ^= last


class _Table:
    """The bounds of one kind that rules set to one fact."""

    def __init__(self, fact: str, kind: str, limits: list[tuple[float, int]], everybody: int) -> None:
        self._read: Read = reader(fact)
        self._place = _PLACES[kind]
        self._limits = sorted({limit for limit, _ in limits})
        self._unknown = everybody & ~_bits({n for _, n in limits})
        lower = kind in {"at_least", "above"}
        self._satisfied = []
        for place in range(len(self._limits) + 1):
            failed = set(self._limits[place:] if lower else self._limits[:place])
            self._satisfied.append(everybody & ~_bits({n for limit, n in limits if limit in failed}))

    def satisfied(self, facts: Facts) -> int:
        """Rules whose bounds hold, and those that set none; what is not known or no number holds none."""
        value = self._read(facts)
        if type(value) not in NUMBERS:
            return self._unknown
        return self._satisfied[self._place(self._limits, value)]


def _bits(numbers: set[int]) -> int:
    return sum(1 << n for n in numbers)
