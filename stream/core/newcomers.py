"""Items of the catalogue that nobody has met yet, for users who look at such things.

A record counts from its ``updated_at`` on, or at once where it has none. The newest records of each category
and brand are kept; of those a user is offered the ones whose values the user's latest items have.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from itertools import islice
from typing import TYPE_CHECKING

from online_models.content import attribute_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from online_models.vocabulary import Vocabulary
    from schemas.catalogue import Item
    from stream.core.reference import Reference

__all__ = ["Newcomers", "values_of"]

N_KEPT = 64  # newest records of a value
N_OFFERED = 10  # newcomers of a slate at most
N_READ = 5  # latest items of a history that say what a user looks at
AGES = [math.exp(-0.3 * age) for age in range(N_READ)]  # as in the sequence source
LAST = "\U0010ffff"  # behind every id


def values_of(item: Item) -> list[str]:
    r"""Attribute values of a record, as the content source writes them.

    >>> from schemas.catalogue import Item
    >>> values_of(Item(item_id="a", version=1, category="shoes"))
    ['\x1fcategory=shoes']
    """
    named = (("category", item.category), ("brand", item.brand))
    return [attribute_value(name, value) for name, value in named if value]


class Newcomers:
    """Finds newcomers in a view of the catalogue, which it follows.

    Examples
    --------
    >>> from online_models.vocabulary import Vocabulary
    >>> from schemas.catalogue import Item
    >>> from stream.core.reference import Reference
    >>> items = {name: Item(item_id=name, version=1, category="shoes") for name in ("old", "new")}
    >>> met = Vocabulary(10)
    >>> met.begin()
    >>> row = met.touch("old", 0.0)
    >>> Newcomers(Reference(items)).of(["old"], 0.0, met)
    [('new', 1.0)]
    """

    def __init__(self, reference: Reference) -> None:
        self._items = reference.items
        self._revision = -1
        self._newest: dict[str, list[tuple[float, str]]] = {}  # by value: (minus the time, id), newest first
        self._values: dict[str, list[str]] = {}
        # The same without those that were met at the last look: while nobody loses a row, they stay met.
        self._unmet: dict[str, list[tuple[float, str]]] = {}
        self._losses = -1

    def of(self, history: Sequence[str], at: float, met: Vocabulary) -> list[tuple[str, float]]:
        """Newcomers for a user and how well each suits, from 0 to 1, best first.

        Parameters
        ----------
        history : sequence of str
            The user's items, newest first.
        at : float
            Event time, s.
        met : Vocabulary
            Items that somebody met; they are no newcomers.
        """
        if not self._items or not history:
            return []
        self._follow(met)
        wanted: dict[str, float] = {}
        for age, item_id in enumerate(history[:N_READ]):
            for value in self._values.get(item_id, ()):
                wanted[value] = wanted.get(value, 0.0) + AGES[age]
        fits: dict[str, float] = {}
        times: dict[str, float] = {}
        for value, weight in wanted.items():
            for minus_time, item_id in self._unmet_of(value, at, met):
                fits[item_id] = fits.get(item_id, 0.0) + weight
                times[item_id] = minus_time
        if not fits:
            return []
        total = sum(wanted.values())
        best = sorted(fits, key=lambda item_id: (-fits[item_id], times[item_id], item_id))[:N_OFFERED]
        return [(item_id, min(1.0, fits[item_id] / total)) for item_id in best]

    def _unmet_of(self, value: str, at: float, met: Vocabulary) -> list[tuple[float, str]]:
        """The newest records of a value that are in force, may be shown and have not been met."""
        unmet = self._unmet.get(value)
        if unmet is None:
            unmet = self._unmet[value] = self._newest.get(value, [])
        found: list[tuple[float, str]] = []
        n_met = 0
        for one in islice(unmet, bisect_left(unmet, (-at, LAST)), None):
            if one[1] in met:
                n_met += 1
            elif self._items[one[1]].available:
                found.append(one)
                if len(found) == N_OFFERED:
                    break
        if n_met:
            self._unmet[value] = [one for one in unmet if one[1] not in met]
        return found

    def values(self, item_id: str) -> list[str]:
        """Attribute values of an item, where the catalogue knows it."""
        item = self._items.get(item_id)
        return [] if item is None else values_of(item)

    def _follow(self, met: Vocabulary) -> None:
        """Take over what changed in the catalogue since the last look."""
        items = self._items
        if met.losses != self._losses:
            self._unmet.clear()
            self._losses = met.losses
        if items.revision == self._revision:
            return
        changed = items.changed_since(self._revision) if self._revision >= 0 else None
        if changed is None:
            self._newest.clear()
            self._values.clear()
            changed = list(items)
        for item_id in changed:
            self._take(item_id, items.get(item_id))
        self._unmet.clear()
        self._revision = items.revision

    def _take(self, item_id: str, item: Item | None) -> None:
        for value in self._values.pop(item_id, ()):
            self._newest[value] = [one for one in self._newest[value] if one[1] != item_id]
        if item is None:
            return
        self._values[item_id] = values_of(item)
        time = -math.inf if item.updated_at is None else item.updated_at.timestamp()
        for value in self._values[item_id]:
            newest = self._newest.setdefault(value, [])
            insort(newest, (-time, item_id))
            del newest[N_KEPT:]
