"""Items of the catalogue that nobody has met yet, for users who look at such things.

A record counts from its ``updated_at`` on, or at once where it has none. The newest records of each category
and brand are kept; of those a user is offered the ones whose values the user's latest items have.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from online_models.content import attribute_value
from online_models.slate import NO_NEW_ITEMS, NewItems
from schemas.codec import epoch_seconds
from stream.core.newest import Newest, Record, Unmet
from stream.core.reference import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from online_models.vocabulary import Vocabulary
    from schemas.catalogue import Item

__all__ = ["Newcomers", "values_of"]

N_OFFERED = 10  # newcomers of a slate at most
N_READ = 5  # latest items of a history that say what a user looks at
N_VALUES = 3  # values of theirs that are read, as in the content source
AGES = [math.exp(-0.3 * age) for age in range(N_READ)]  # as in the sequence source


def values_of(item: Item) -> tuple[str, ...]:
    r"""Attribute values of a record, as the content source writes them.

    >>> from schemas.catalogue import Item
    >>> values_of(Item(item_id="a", version=1, category="shoes"))
    ('\x1fcategory=shoes',)
    """
    named = (("category", item.category), ("brand", item.brand))
    return tuple([attribute_value(name, value) for name, value in named if value])


class Newcomers:
    """Finds newcomers in a view of the catalogue. It follows the catalogue and who was met.

    Parameters
    ----------
    met : Vocabulary
        Items that somebody met; they are no newcomers.

    Examples
    --------
    >>> from online_models.vocabulary import Vocabulary
    >>> from schemas.catalogue import Item
    >>> from stream.core.reference import Rows
    >>> items = Rows({name: Item(item_id=name, version=1, category="shoes") for name in ("old", "new")})
    >>> met = Vocabulary(10)
    >>> met.begin()
    >>> row = met.touch("old", 0.0)
    >>> Newcomers(met).of(["old"], 0.0, items)
    NewItems(item_ids=['new'], suits=[1.0])
    """

    def __init__(self, met: Vocabulary) -> None:
        self._met = met
        self._items: Rows[Item] = Rows()
        self._looked = (-1, -1)  # revisions of the catalogue and of the vocabulary that were looked at
        self._newest: dict[str, Newest] = {}  # by value
        self._values: dict[str, tuple[float, tuple[str, ...]]] = {}  # by item: minus its time, its values
        self._n_several = 0  # items of more than one value
        self._unmet: dict[str, Unmet] = {}  # by value, of the newest

    def of(self, history: Sequence[str], at: float, items: Rows[Item]) -> NewItems:
        """Newcomers for a user, best first, and how well each suits.

        The newest of the value that the user's latest items have most, then of the next, until there are ten.

        Parameters
        ----------
        history : sequence of str
            The user's items, newest first.
        at : float
            Event time, s.
        items : Rows of Item
            The catalogue.
        """
        if not items or not history:
            return NO_NEW_ITEMS
        self.follow(items)
        wanted: dict[str, float] = {}
        for weight, item_id in zip(AGES, history, strict=False):
            for value in self._values.get(item_id, NO_VALUES)[1]:
                if value in wanted or len(wanted) < N_VALUES:
                    wanted[value] = wanted.get(value, 0.0) + weight
        item_ids: list[str] = []
        fits: list[float] = []
        for value in sorted(wanted, key=wanted.__getitem__, reverse=True) if len(wanted) > 1 else wanted:
            listed = self._listed(value, at)
            item_ids = item_ids + listed if item_ids else listed
            fits += [wanted[value]] * len(listed)
            if len(item_ids) >= N_OFFERED:
                break
        if not item_ids:
            return NO_NEW_ITEMS
        total = sum(wanted.values())
        if self._n_several:  # an item may stand in several lists, and counts for all its values
            shares = {
                one: sum([wanted.get(value, 0.0) for value in self._values[one][1]]) for one in item_ids
            }
            item_ids = sorted(shares, key=shares.__getitem__, reverse=True)
            fits = [shares[one] for one in item_ids]
        return NewItems(item_ids[:N_OFFERED], [min(1.0, fit / total) for fit in fits[:N_OFFERED]])

    def may_offer(self, item_id: str, at: float, items: Rows[Item]) -> bool:
        """Whether :meth:`of` could give an item at all, to somebody who looks at its values; cheap to ask."""
        self.follow(items)
        return any(item_id in self._listed(value, at) for value in self._values.get(item_id, NO_VALUES)[1])

    def values(self, item_id: str, items: Rows[Item]) -> tuple[str, ...]:
        """Attribute values of an item, where the catalogue knows it."""
        self.follow(items)
        return self._values.get(item_id, NO_VALUES)[1]

    def _listed(self, value: str, at: float) -> list[str]:
        """The newest records of a value that are in force, may be shown and have not been met."""
        unmet = self._unmet.get(value)
        if unmet is None:
            newest = self._newest.get(value)
            records = [] if newest is None else newest.records
            unmet = self._unmet[value] = Unmet([one for one in records if self._is_new(one)])
        return unmet.first(at, N_OFFERED)

    def _is_new(self, record: Record) -> bool:
        """Whether a record of the catalogue may be offered: nobody met its item, and it can be had."""
        return record[1] not in self._met and self._items[record[1]].available

    def follow(self, items: Rows[Item]) -> None:
        """Take over what changed in the catalogue and in the vocabulary since the last look.

        Whoever reads a large catalogue calls this now and then, so that no event has to wait for all of it.
        """
        known, met = items.changes.revision, self._met.changes.revision
        if self._looked == (known, met) and items is self._items:
            return
        if items is not self._items or known != self._looked[0]:
            self._follow_catalogue(items)
        changed = self._met.changes.since(self._looked[1])
        if changed is None:
            self._unmet.clear()
        for item_id in changed or ():
            minus_time, values = self._values.get(item_id, NO_VALUES)
            for value in values:
                self._take_over(value, (minus_time, item_id))
        self._looked = known, met

    def _take_over(self, value: str, record: Record) -> None:
        """Take over that a record was met, or is new again because a batch was undone or a row evicted."""
        unmet = self._unmet.get(value)
        if unmet is None:
            return
        if record[1] in self._met:
            unmet.drop(record)
        elif record in self._newest[value] and self._items[record[1]].available:
            unmet.put(record)

    def _follow_catalogue(self, items: Rows[Item]) -> None:
        changed = items.changes.since(self._looked[0]) if items is self._items else None
        if changed is None:
            self._newest.clear()
            self._values.clear()
            self._unmet.clear()
            self._n_several = 0
            self._looked = -1, self._met.changes.revision  # every record is held against who is met now
            self._items, changed = items, list(items)
        for item_id in changed:
            self._drop(item_id)
            if (item := items.get(item_id)) is not None:
                self._take(item)

    def _has(self, value: str, record: Record) -> bool:
        """Whether the catalogue has a record as it is, with a value."""
        minus_time, values = self._values.get(record[1], NO_VALUES)
        return minus_time == record[0] and value in values and record[1] in self._items

    def _drop(self, item_id: str) -> None:
        """Forget a record, if it is there."""
        minus_time, values = self._values.pop(item_id, NO_VALUES)
        self._n_several -= len(values) > 1
        record = minus_time, item_id
        for value in values:
            newest, unmet = self._newest[value], self._unmet.get(value)
            instead = newest.drop(record)
            if not newest.records:  # as many values as the catalogue has, not as it ever had
                del self._newest[value]
                self._unmet.pop(value, None)
            elif unmet is not None:
                unmet.drop(record)
                if instead is not None and self._is_new(instead):
                    unmet.put(instead)

    def _take(self, item: Item) -> None:
        """Take in a record. Nobody who asks later has to look through all of a value for those not met."""
        values = values_of(item)
        record = math.inf if item.updated_at is None else -epoch_seconds(item.updated_at), item.item_id
        self._values[item.item_id] = record[0], values
        self._n_several += len(values) > 1
        new = item.available and item.item_id not in self._met
        for value in values:
            if value not in self._newest:
                self._newest[value] = Newest(partial(self._has, value))
                self._unmet[value] = Unmet([])
            last, unmet = self._newest[value].take(record), self._unmet.get(value)
            if unmet is None:  # too many were met at once; it is made when somebody asks
                continue
            if new:
                unmet.put(record)
            if last is not None:
                unmet.drop(last)


NO_VALUES: tuple[float, tuple[str, ...]] = (0.0, ())
