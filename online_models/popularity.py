"""Time-decayed popularity at several half-lives.

``d_i <- d_i 2^(-(t - t_i)/H) + v``, kept under forward decay (:mod:`online_models.kernels.decay`), so that
operations add up in any order. One more count takes only the events that begin a visit: what people start
with is not what they go on with. The best items of each count are kept sorted on touch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from online_models.delta import STEP, DeltaError
from online_models.journal import Journal
from online_models.kernels.decay import decayed
from online_models.kernels.popularity import add, add_many, drop, rebuild

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from online_models.base import Snapshot
    from online_models.delta import DeltaReader, DeltaWriter
    from online_models.vocabulary import Vocabulary

__all__ = ["DecayedPopularity", "check_event", "check_events"]

DEPTH = 256  # six lists of candidates need 50 each, beside what the user consumed already
MAX_TIME_S = 1e11  # the year 5138; epochs of short half-lives stay exact integers
MAX_WEIGHT = 1e6  # times 2**64 of forward decay, 10**13 such events still fit into a float32
BEGINNINGS_HALF_LIFE_S = 2_592_000.0
CAPACITY = 512  # slack, so that evictions seldom cause a search through all rows


class DecayedPopularity:
    """Decayed counts of events for each item.

    Parameters
    ----------
    vocabulary : Vocabulary
        Shared with the other item models.
    half_lives_s : sequence of float
        Half-lives in seconds; ``inf`` never forgets. The last one breaks ties of the blend.

    Attributes
    ----------
    depth : int
        How many items of each half-life :meth:`top` can give.
    beginnings : int
        Number of the count of what visits begin with, where others have that of a half-life.

    Examples
    --------
    >>> from online_models.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary(100)
    >>> popularity = DecayedPopularity(vocabulary, half_lives_s=(3600.0, math.inf))
    >>> vocabulary.begin()
    >>> popularity.begin()
    >>> for item, at in [("a", 0.0), ("a", 0.0), ("a", 0.0), ("b", 7200.0)]:
    ...     popularity.learn_one(item, at)
    >>> popularity.top(7200.0, 0, 2)
    [('b', 1.0), ('a', 0.75)]
    >>> popularity.top(7200.0, 1, 2)
    [('a', 3.0), ('b', 1.0)]
    """

    name = "popularity"

    def __init__(
        self,
        vocabulary: Vocabulary,
        half_lives_s: Sequence[float] = (7200.0, 86400.0, 604800.0, 2592000.0, math.inf),
    ) -> None:
        if not half_lives_s or not all(half_life > 0 for half_life in half_lives_s):
            message = f"half_lives_s {half_lives_s}; at least one, each above 0"
            raise ValueError(message)
        self.vocabulary = vocabulary
        self.half_lives_s = tuple(float(half_life) for half_life in half_lives_s)
        self.spec = f"popularity(half_lives_s={self.half_lives_s}, beginnings_s={BEGINNINGS_HALF_LIFE_S})"
        self.depth = DEPTH
        self.beginnings = len(self.half_lives_s)
        self.rates = np.array([1.0 / each for each in (*self.half_lives_s, BEGINNINGS_HALF_LIFE_S)])
        n = len(self.rates)
        self.table = np.zeros((vocabulary.max_rows, 2 * n + 2))
        self.list_rows = np.full((n, CAPACITY), -1, np.int32)
        self.list_keys = np.zeros((n, CAPACITY))
        self.marks = np.zeros((n, 2), np.int64)
        self.bounds = np.full(n, -np.inf)
        self.marks[:, 1] = np.iinfo(np.int64).min
        self._lists = (self.list_rows, self.list_keys, self.marks, self.bounds)
        self._kept_lists = tuple(array.copy() for array in self._lists)
        self._journal = Journal(self.table)
        self._arrays = (
            self.table,
            self._journal.book,
            self._journal.old,
            *self._lists,
            vocabulary.order,
        )
        self._steps: list[int] = []
        self._items: list[int] = []
        self._times: list[float] = []
        self._weights: list[float] = []
        self._begins: list[bool] = []
        vocabulary.subscribe(self.clear_row)

    def __repr__(self) -> str:
        return f"DecayedPopularity(half_lives_s={self.half_lives_s})"

    def learn_one(self, item_id: str, at: float, weight: float = 1.0, *, begins: bool = False) -> None:
        """Count one event of an item at an event time; ``begins`` says that a visit begins with it.

        Raises
        ------
        ValueError
            When the weight is not a positive number: counts only grow.
        """
        check_event(at, weight)
        self.learn_row(self.vocabulary.touch(item_id, at), at, weight, begins)

    def learn_row(self, row: int, at: float, weight: float, begins: bool) -> None:  # noqa: FBT001
        """As :meth:`learn_one`, for a checked event whose item the vocabulary has just touched."""
        vocabulary = self.vocabulary
        self._steps.append(vocabulary.step)
        self._items.append(vocabulary.touched)
        self._times.append(at)
        self._weights.append(weight)
        self._begins.append(begins)
        add(row, at, weight, begins, self.rates, *self._arrays)

    def count(self, item_id: str, at: float, h: int) -> float:
        """Decayed count of an item at a time under half-life number *h*; 0 for an unknown item."""
        row = self.vocabulary.row(item_id)
        return 0.0 if row < 0 else self._count(row, at, h)

    def top(self, at: float, h: int, n: int) -> list[tuple[str, float]]:
        """The at most ``min(n, depth)`` most popular items and their decayed counts, best first."""
        length = min(n, self.depth, int(self.marks[h, 0]))
        rows = self.list_rows[h, :length].tolist()
        return [(self.vocabulary.item_id(row), self._count(row, at, h)) for row in rows]

    def _count(self, row: int, at: float, h: int) -> float:
        n = len(self.rates)
        last = float(self.table[row, 2 * n + 1])
        return decayed(
            float(self.table[row, h]), float(self.table[row, n + h]), max(at, last), float(self.rates[h])
        )

    # Folding

    def begin(self) -> None:
        """Open a batch."""
        self._journal.begin()
        _copy(self._lists, self._kept_lists)

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write (item, time, weight, whether a visit begins) of each counted event."""
        delta.add(
            self.name,
            {
                STEP: np.array(self._steps, np.int32),
                "item": np.array(self._items, np.int32),
                "at": np.array(self._times, np.float64),
                "weight": np.array(self._weights, np.float64),
                "begins": np.array(self._begins, np.uint8),
            },
        )

    def keep(self) -> None:
        """Close the batch."""
        self._journal.keep()
        self._close()

    def rollback(self) -> None:
        """Close the batch and undo it."""
        self._journal.rollback()
        _copy(self._kept_lists, self._lists)
        self._close()

    def _close(self) -> None:
        self._steps.clear()
        self._items.clear()
        self._times.clear()
        self._weights.clear()
        self._begins.clear()

    def fold(self, delta: DeltaReader) -> None:
        """Count the events of a delta."""
        columns = delta.columns(self.name)
        if not columns:
            return
        times, weights = columns["at"], columns["weight"]
        check_events(times, weights)
        rows = delta.item_rows(columns["item"])
        add_many(rows, times, weights, columns["begins"], self.rates, *self._arrays)

    def clear_row(self, row: int) -> None:
        """Forget the item of a row."""
        drop(row, self.depth, len(self.vocabulary), *self._arrays)

    # Snapshots

    def snapshot(self) -> Snapshot:
        """The rows in use; the lists follow from them."""
        return {"table": self.table[: len(self.vocabulary)].copy()}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot; the vocabulary is restored before."""
        rows = arrays["table"]
        self.table[:] = 0.0
        self.table[: len(rows)] = rows
        for h in range(len(self.rates)):
            rebuild(h, len(rows), self.table, *self._lists, self.vocabulary.order)

    def digest_arrays(self, rows: NDArray[np.int64]) -> Iterable[NDArray[np.generic]]:
        """Counts, epochs and times of the given rows."""
        yield self.table[rows]


def _copy(source: tuple[NDArray[Any], ...], target: tuple[NDArray[Any], ...]) -> None:
    for old, new in zip(source, target, strict=True):
        new[:] = old


def check_event(at: float, weight: float) -> None:
    """Raise ``ValueError`` unless an event can be counted."""
    if not (abs(at) <= MAX_TIME_S and 0.0 < weight <= MAX_WEIGHT):
        message = (
            f"event time {at}, weight {weight}; a time within ±{MAX_TIME_S:g} s and a positive weight of at "
            f"most {MAX_WEIGHT:g} are needed"
        )
        raise ValueError(message)


def check_events(times: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
    """Raise ``DeltaError`` unless all events of a delta can be counted."""
    if not ((np.abs(times) <= MAX_TIME_S).all() and (weights > 0.0).all() and (weights <= MAX_WEIGHT).all()):
        message = "a counted event has no time or no positive weight within the bounds"
        raise DeltaError(message)
