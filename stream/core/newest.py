"""Catalogue records of one attribute value: the newest in order, and of those the ones nobody has met."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["N_KEPT", "Newest", "Record", "Unmet"]

Record = tuple[float, str]  # minus its time, and the item: so the newest sorts first

N_KEPT: Final = 64  # newest records of a value


class Newest:
    """The newest records of a value, and the others in a heap from which they move up.

    A record that goes while it is among the others stays in the heap until it comes up, or until half of the
    heap has gone so.

    Parameters
    ----------
    is_known : callable of Record -> bool
        Whether a record is still in the catalogue, with this value.

    Examples
    --------
    >>> newest = Newest(lambda record: True)
    >>> [newest.take((-float(n), f"i{n}")) for n in range(N_KEPT + 1)][-1]
    (-0.0, 'i0')
    >>> newest.drop((-5.0, "i5"))
    (-0.0, 'i0')
    """

    __slots__ = ("_gone", "_is_known", "_others", "records")

    def __init__(self, is_known: Callable[[Record], bool]) -> None:
        self.records: list[Record] = []
        self._others: list[Record] = []
        self._gone = 0
        self._is_known = is_known

    def __contains__(self, record: Record) -> bool:
        k = bisect_left(self.records, record)
        return self.records[k : k + 1] == [record]

    def take(self, record: Record) -> Record | None:
        """Take in a record; return the one that is among the newest no more, which may be itself."""
        insort(self.records, record)
        if len(self.records) <= N_KEPT:
            return None
        last = self.records.pop()
        heappush(self._others, last)
        return last

    def drop(self, record: Record) -> Record | None:
        """Take out a record; return the one that is among the newest instead."""
        if record not in self:
            self._gone += 1
            if 2 * self._gone > max(N_KEPT, len(self._others)):
                self._others = sorted({one for one in self._others if self._is_known(one)})
                self._gone = 0
            return None
        self.records.remove(record)
        while self._others:
            other = heappop(self._others)
            if other not in self and self._is_known(other):
                self.records.append(other)  # no other record sorts before it
                return other
        return None


class Unmet:
    """Those of the newest records that may be offered, newest first."""

    __slots__ = ("_item_ids", "_minus_times")

    def __init__(self, records: list[Record]) -> None:
        self._minus_times = [minus_time for minus_time, _ in records]
        self._item_ids = [item_id for _, item_id in records]

    def drop(self, record: Record) -> None:
        """Take out a record, if it is there."""
        k = self._place(record)
        if self._item_ids[k : k + 1] == [record[1]]:
            del self._minus_times[k], self._item_ids[k]

    def put(self, record: Record) -> None:
        """Take in a record again, unless it is there."""
        k = self._place(record)
        if self._item_ids[k : k + 1] != [record[1]]:
            self._minus_times.insert(k, record[0])
            self._item_ids.insert(k, record[1])

    def first(self, at: float, n: int) -> list[str]:
        """The newest that are in force at a time."""
        k = bisect_left(self._minus_times, -at)
        return self._item_ids[k : k + n]

    def _place(self, record: Record) -> int:
        """Where a record stands, or belongs: of one time in the order of the ids."""
        minus_time, item_id = record
        first = bisect_left(self._minus_times, minus_time)
        return bisect_left(self._item_ids, item_id, first, bisect_right(self._minus_times, minus_time, first))
