"""Bounded id -> row: the only place where the memory of item ids is bounded.

All item models share one vocabulary. A row belongs to one item until the vocabulary is full and the item is
the one that was used longest ago; then its row passes to the new item, and every model clears the row.
Each row has a generation, which such a change raises: what points at a row from elsewhere keeps the pair
(row, generation), called a *reference*, and is void when the generation moved on.

Admissions and evictions are caused by :meth:`Vocabulary.touch` alone, so they depend on the log of operations
and not on where its batches end. Looking up never admits.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from online_models.changes import Changes
from online_models.delta import DeltaError
from online_models.journal import Journal
from online_models.kernels.vocabulary import least_recent, refer, touch, touch_many

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from online_models.base import Snapshot
    from online_models.delta import DeltaReader, DeltaWriter

__all__ = ["Vocabulary"]


class Vocabulary:
    """Ids of items and their rows, with a hard ceiling.

    Parameters
    ----------
    max_rows : int
        Rows there are at most. Memory is mapped when a row is first used.

    Attributes
    ----------
    generation : int64[max_rows]
        How often each row changed its item.
    order : int64[max_rows]
        A hash of the item's id: breaks ties in the same way on every worker, whatever its row numbers.
    indices, table : int64 arrays
        Batch-local indices of rows, for kernels that record operations: see
        :func:`online_models.kernels.vocabulary.refer`.

    ids : list of str
        The item that has each row now.
    touched : int
        Index of the item touched last, as :meth:`refer` gives it.
    changes : Changes
        Ids of items that got or lost a row, and attribute values that did.
    admissions : list of int
        A number for each row that no other admission of an item has. Rows are given out in order and taken
        back from the end: while the last of some rows keeps its number, and ``losses`` stands, all of them
        keep their items.
    losses : int
        Grows whenever rows pass from item to item, as at an eviction.
    n_evicted : int
        Items that lost their row since the vocabulary was made.

    Examples
    --------
    >>> vocabulary = Vocabulary(max_rows=2)
    >>> vocabulary.begin()
    >>> [vocabulary.touch(item, at) for item, at in [("a", 1.0), ("b", 2.0), ("a", 3.0), ("c", 4.0)]]
    [0, 1, 0, 1]
    >>> "b" in vocabulary, vocabulary.row("zzz")
    (False, -1)
    >>> vocabulary.rollback()
    >>> len(vocabulary)
    0
    """

    name = "vocabulary"

    def __init__(self, max_rows: int = 100_000) -> None:
        if not 1 <= max_rows < 2**31:
            message = f"max_rows {max_rows}; from 1 to 2**31 - 1"
            raise ValueError(message)
        self.max_rows = max_rows
        self.spec = f"vocabulary(max_rows={max_rows})"
        self.generation = np.zeros(max_rows, np.int64)
        self.order = np.zeros(max_rows, np.int64)
        self.indices = np.zeros(max_rows, np.int64)
        self.table = np.zeros(3 + max_rows, np.int64)
        self.n_evicted = 0
        self.changes = Changes()
        self.losses = 0
        self.admissions: list[int] = []
        self._n_admitted = 0
        self.touched = -1
        self._rows: dict[str, int] = {}
        self.ids: list[str] = []
        self._last_use = np.zeros((max_rows, 1))
        self._journal = Journal(self._last_use)
        self._listeners: list[Callable[[int], None]] = []
        self._undo: list[tuple[int, str | None]] = []
        self._strings: list[str] = []
        self._steps: list[int] = []
        self._times: list[float] = []
        self._open = False

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._rows

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} of {self.max_rows} rows)"

    @property
    def step(self) -> int:
        """Operations of the open batch so far. A model notes it with each of its own."""
        return len(self._steps)

    @property
    def is_open(self) -> bool:
        """Whether a batch is open."""
        return self._open

    def subscribe(self, clear_row: Callable[[int], None]) -> None:
        """Have a model clear a row, undoably, before the row passes to another item."""
        self._listeners.append(clear_row)

    # Looking up

    def row(self, item_id: str) -> int:
        """Row of an item, or −1."""
        return self._rows.get(item_id, -1)

    def rows(self, item_ids: Iterable[str]) -> list[int]:
        """Rows of items, −1 for the unknown."""
        return [*map(self._rows.get, item_ids, repeat(-1))]

    def item_id(self, row: int) -> str:
        """The item that has a row now."""
        return self.ids[row]

    def reference(self, item_id: str) -> int:
        """Row and generation of an item in one number, or −1."""
        row = self._rows.get(item_id, -1)
        return -1 if row < 0 else int(self.generation[row]) << 32 | row

    def referred(self, reference: int) -> str | None:
        """The item of a reference, or None when it was evicted since."""
        row = reference & 0xFFFFFFFF
        if reference < 0 or row >= len(self.ids) or self.generation[row] != reference >> 32:
            return None
        return self.ids[row]

    def sorted_rows(self) -> NDArray[np.int64]:
        """All rows in use, in the order of their items' ids; shape ``(len(self),)``."""
        return np.array([self._rows[item_id] for item_id in sorted(self._rows)], np.int64)

    # Changing

    def touch(self, item_id: str, at: float) -> int:
        """Use an item at an event time; admits it, and evicts another when there is no row left.

        Raises
        ------
        RuntimeError
            When no batch is open.
        ValueError
            When the time is not finite.
        """
        if not self._open:
            message = "learning needs an open batch: call begin() first"
            raise RuntimeError(message)
        if not math.isfinite(at):
            message = f"event time {at} of item {item_id!r}; a finite number of seconds is needed"
            raise ValueError(message)
        row = self._rows.get(item_id, -1)
        is_new = row < 0
        if is_new:
            row = self._admit(item_id)
        journal = self._journal
        index = touch(
            row,
            at,
            is_new,
            self._last_use,
            journal.book,
            journal.old,
            self.indices,
            self.table,
        )
        self.touched = index
        self._steps.append(index)
        self._times.append(at)
        return row

    def refer(self, row: int) -> int:
        """Index of a row's item in the strings of this batch's delta, for recording an operation."""
        return refer(row, self.indices, self.table)

    def _admit(self, item_id: str) -> int:
        self.changes.note(item_id)
        row = len(self.ids)
        previous: str | None = None
        if row < self.max_rows:
            self.ids.append(item_id)
            self._n_admitted += 1
            self.admissions.append(self._n_admitted)
        else:
            row = least_recent(self._last_use)
            previous = self._evict(row)
            self.ids[row] = item_id
        self._rows[item_id] = row
        self._undo.append((row, previous))
        self.order[row] = _order(item_id)
        return row

    def _evict(self, row: int) -> str:
        for clear_row in self._listeners:
            clear_row(row)
        self._copy_strings()
        self.indices[row] = 0  # batch numbers start at 1: the next item in this row gets an index of its own
        self.generation[row] += 1
        self.n_evicted += 1
        self.losses += 1
        item_id = self.ids[row]
        del self._rows[item_id]
        self.changes.note(item_id)
        return item_id

    def _copy_strings(self) -> None:
        n_new = int(self.table[1] - self.table[2])
        self._strings += [self.ids[row] for row in self.table[3 : 3 + n_new].tolist()]
        self.table[2] = self.table[1]

    # One batch

    def begin(self) -> None:
        """Open a batch."""
        if self._open:
            message = "a batch is open already: keep() or rollback() it first"
            raise RuntimeError(message)
        self._open = True
        self._journal.begin()
        self.table[0] += 1
        self.table[1:3] = 0

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write the strings of the batch, and every use with its time."""
        self._copy_strings()
        delta.begin_strings(self._strings)
        delta.add(
            self.name, {"item": np.array(self._steps, np.int32), "at": np.array(self._times, np.float64)}
        )

    def keep(self) -> None:
        """Close the batch; its uses are committed."""
        self._journal.keep()
        self._close()

    def rollback(self) -> None:
        """Close the batch and undo its admissions, evictions and uses."""
        for row, previous in reversed(self._undo):
            self.changes.note(self.ids[row])
            del self._rows[self.ids[row]]
            if previous is None:
                self.ids.pop()
                self.admissions.pop()
                self.order[row] = 0
                continue
            self.losses += 1
            self.changes.note(previous)
            self.ids[row] = previous
            self._rows[previous] = row
            self.order[row] = _order(previous)
            self.generation[row] -= 1
            self.n_evicted -= 1
        self._journal.rollback()
        self._close()

    def _close(self) -> None:
        self._undo.clear()
        self._strings.clear()
        self._steps.clear()
        self._times.clear()
        self._open = False

    # Folding

    def replay(self, delta: DeltaReader) -> Iterator[tuple[int, int]]:
        """Apply the uses of a committed batch, and say when the other models have to follow.

        Yields ``(first, last]``: before a row changes its item, and at the end, all operations of these steps
        must be applied. Between two evictions uses and model operations do not disturb each other,
        so a batch without evictions is one piece.
        """
        columns = delta.columns(self.name)
        delta.rows = np.array([*self.rows(delta.strings), -1], np.int32)
        if not columns:
            yield (-1, 0)
            return
        items: list[int] = columns["item"].tolist()
        times: NDArray[np.float64] = columns["at"]
        if min(items) < 0 or max(items) >= len(delta.strings) or not np.isfinite(times).all():
            message = "a use points outside the table of strings or has no finite time"
            raise DeltaError(message)
        steps: Iterable[int] = np.flatnonzero(delta.rows[columns["item"]] < 0).tolist()
        if len(self.ids) + len({items[step] for step in steps}) > self.max_rows:
            steps = range(len(items))  # evictions: items that are known now may be gone at their turn
        done, first = 0, -1
        for step in steps:
            index = items[step]
            item_id = delta.strings[index]
            if item_id in self._rows:
                if delta.rows[index] < 0:  # the same string at another index: it came back within the batch
                    delta.rows[index] = self._rows[item_id]
                continue
            if len(self.ids) == self.max_rows:
                self._use(delta.rows[columns["item"][done:step]], times[done:step])
                yield (first, step)
                done, first = step, step
                delta.rows[delta.rows == least_recent(self._last_use)] = -1
            delta.rows[index] = row = self._admit(item_id)
            self._journal.remember(row)
            self._last_use[row, 0] = times[step]
        self._use(delta.rows[columns["item"][done:]], times[done:])
        yield (first, len(items))

    def _use(self, rows: NDArray[np.int32], times: NDArray[np.float64]) -> None:
        journal = self._journal
        touch_many(rows, times, self._last_use, journal.book, journal.old)

    # Snapshots

    def snapshot(self) -> Snapshot:
        """Ids, generations and last uses of the rows in use."""
        n = len(self.ids)
        raw = [item_id.encode() for item_id in self.ids]
        return {
            "ids": np.frombuffer(b"".join(raw), np.uint8),
            "lengths": np.array([len(part) for part in raw], np.int32),
            "generation": self.generation[:n].copy(),
            "last_use": self._last_use[:n, 0].copy(),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot."""
        raw = arrays["ids"].tobytes()
        ends = np.cumsum(arrays["lengths"].astype(np.int64))
        starts = ends - arrays["lengths"].astype(np.int64)
        ids = [raw[start:end].decode() for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        if len(ids) > self.max_rows or len(set(ids)) != len(ids):
            message = (
                f"a snapshot of {len(ids)} ids, {len(set(ids))} different; there are {self.max_rows} rows"
            )
            raise ValueError(message)
        n = len(ids)
        self.changes.note_all()
        self.losses += 1
        self.ids = ids
        self.admissions = [*range(self._n_admitted + 1, self._n_admitted + 1 + n)]
        self._n_admitted += n
        self._rows = {item_id: row for row, item_id in enumerate(ids)}
        self.generation[:] = 0
        self.generation[:n] = arrays["generation"]
        self._last_use[:] = 0.0
        self._last_use[:n, 0] = arrays["last_use"]
        self.order[:n] = [_order(item_id) for item_id in ids]

    def digest_arrays(self, rows: NDArray[np.int64]) -> Iterable[NDArray[np.generic]]:
        """Ids and last uses, in the order of the given rows."""
        yield np.frombuffer("\0".join(self.ids[row] for row in rows.tolist()).encode(), np.uint8)
        yield self._last_use[rows, 0]


def _order(item_id: str) -> int:
    return int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), "little", signed=True)
