"""Decayed sequential item-item co-occurrence: what comes after, and before, what in users' recent histories.

On an event with item i, with j_a the item a places back in the history and v the weight of the event::

    C[j_a][i] += v e^(-beta a)      D[i][j_a] += v e^(-beta a)      T[j_0][i] += v      c_i += v

and, for retrieval, ``(F_i + B_i / 2) / (c_i + 2)^.1`` with
``F_i = sum_a e^(-beta a) C[j_a][i] / (c_(j_a) + 2)`` and B_i the same of D. All are sums, so deltas add up.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from online_models.delta import STEP, DeltaError
from online_models.journal import Journal
from online_models.kernels.cooccurrence import (
    learn_and_record,
    learn_many,
    pack,
    put_back_cells,
    unpack,
    worst_case,
)
from online_models.kernels.retrieval import HIT_COLUMNS, neighbours
from online_models.popularity import check_event, check_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from online_models.base import Snapshot
    from online_models.delta import DeltaReader, DeltaWriter
    from online_models.vocabulary import Vocabulary

__all__ = ["SequentialCooccurrence"]

DAMPING = 0.1  # 2 alpha - 1 at alpha = .55


class SequentialCooccurrence:
    """Sequential co-occurrence in bounded rows.

    Parameters
    ----------
    vocabulary : Vocabulary
        Shared with the other item models.
    slots, pruned : int
        Neighbours a row can hold; a full row is pruned to the strongest ``pruned`` at once.
    ring : int
        History items that take part.
    beta : float
        Decay of the weight with the place in the history.
    half_life_s : float
        Forgetting by event time; ``inf`` for none.
    name : str
        Of its section in a delta, where a model set has more than one of this kind.

    Examples
    --------
    >>> from online_models.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary(100)
    >>> model = SequentialCooccurrence(vocabulary)
    >>> vocabulary.begin()
    >>> model.begin()
    >>> model.learn_one("bread", [], at=0.0)
    >>> model.learn_one("butter", ["bread"], at=10.0)
    >>> [(item, round(score, 3)) for item, score in model.top(["bread"], at=20.0, n=5)]
    [('butter', 0.299)]
    """

    name = "cooccurrence"

    def __init__(
        self,
        vocabulary: Vocabulary,
        slots: int = 200,
        pruned: int = 100,
        ring: int = 10,
        beta: float = 0.3,
        *,
        half_life_s: float = math.inf,
        name: str = "cooccurrence",
    ) -> None:
        if not (0 < pruned < slots and 0 < ring <= 64 and beta >= 0 and half_life_s > 0):
            message = (
                f"slots {slots}, pruned {pruned}, ring {ring}, beta {beta}, half_life_s {half_life_s}; "
                "0 < pruned < slots, 0 < ring <= 64, beta >= 0 and half_life_s > 0 are needed"
            )
            raise ValueError(message)
        self.name = name
        self.vocabulary = vocabulary
        self.ring = ring
        self.spec = (
            f"{name}(slots={slots}, pruned={pruned}, ring={ring}, beta={beta}, half_life_s={half_life_s})"
        )
        n = vocabulary.max_rows
        self.ages = np.exp(-beta * np.arange(ring))
        self.settings = np.array([1.0 / half_life_s, DAMPING, pruned])
        self.refs = np.zeros((n, slots), np.int32)
        self.cells = np.zeros((n, slots, 4), np.float32)
        self.heads = np.zeros((n, 4))
        self._journal = Journal(self.heads)
        self._worst = worst_case(ring, slots, pruned)
        self._log = np.zeros((4 * self._worst, 3), np.int64)
        self._log_cells = np.zeros((4 * self._worst, 4), np.float32)
        self._n_logged = 0
        self._learned = (
            self.ages,
            self.settings,
            vocabulary.generation,
            self.refs,
            self.cells,
            self.heads,
            self._journal.book,
            self._journal.old,
        )
        self.read_arrays = (
            self.ages,
            self.settings,
            vocabulary.generation,
            self.refs,
            self.cells,
            self.heads,
        )
        self._operations = np.zeros((1024, 1 + ring), np.int32)
        self._steps: list[int] = []
        self._times: list[float] = []
        self._weights: list[float] = []
        vocabulary.subscribe(self.clear_row)

    def __repr__(self) -> str:
        return f"SequentialCooccurrence(ring={self.ring}, slots={self.refs.shape[1]})"

    def learn_one(self, item_id: str, history: Sequence[str], at: float, weight: float = 1.0) -> None:
        """Learn that a user chose an item after a history (newest first; unknown items count as gaps)."""
        check_event(at, weight)
        row = self.vocabulary.touch(item_id, at)
        rows = np.array(self.vocabulary.rows(history[: self.ring]), np.int32)
        self.learn_row(row, rows, len(rows), at, weight)

    def learn_row(
        self, row: int, history: NDArray[np.int32], n_history: int, at: float, weight: float
    ) -> None:
        """As :meth:`learn_one`, for a checked event whose item the vocabulary has just touched.

        The first ``n_history`` of ``history`` are rows, −1 for the unknown.
        """
        if self._n_logged + self._worst >= len(self._log):
            self._grow_log()
        n_operations = len(self._steps)
        if n_operations == len(self._operations):
            self._operations = np.resize(self._operations, (2 * n_operations, 1 + self.ring))
        vocabulary = self.vocabulary
        self._n_logged = learn_and_record(
            row,
            history,
            n_history,
            at,
            weight,
            *self._learned,
            self._log,
            self._log_cells,
            n_operations,
            self._operations,
            vocabulary.indices,
            vocabulary.table,
        )
        self._steps.append(vocabulary.step)
        self._times.append(at)
        self._weights.append(weight)

    def top(self, history: Sequence[str], at: float, n: int) -> list[tuple[str, float]]:
        """The at most *n* items that go best with a history, and their retrieval scores, best first."""
        rows = np.array(self.vocabulary.rows(history[: self.ring]), np.int32)
        hits = np.zeros((self.ring * self.refs.shape[1], HIT_COLUMNS))
        hit_rows = np.zeros(len(hits), np.int32)
        seen = np.zeros(self.vocabulary.max_rows, np.int64)
        found = neighbours(rows, len(rows), at, *self.read_arrays, 1, seen, hits, hit_rows)
        ranked = sorted(
            range(found),
            key=lambda k: (-hits[k, 3], self.heads[hit_rows[k], 3], self.vocabulary.order[hit_rows[k]]),
        )
        return [(self.vocabulary.item_id(int(hit_rows[k])), float(hits[k, 3])) for k in ranked[:n]]

    # Folding

    def begin(self) -> None:
        """Open a batch."""
        self._journal.begin()

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write (item, history, time, weight) of each event."""
        n = len(self._steps)
        delta.add(
            self.name,
            {
                STEP: np.array(self._steps, np.int32),
                "items": self._operations[:n],
                "at": np.array(self._times, np.float64),
                "weight": np.array(self._weights, np.float64),
            },
        )

    def keep(self) -> None:
        """Close the batch."""
        self._journal.keep()
        self._log[0, 0] = 0
        self._close()

    def rollback(self) -> None:
        """Close the batch and undo it."""
        put_back_cells(self.refs, self.cells, self._log, self._log_cells)
        self._journal.rollback()
        self._close()

    def _close(self) -> None:
        self._n_logged = 0
        self._steps.clear()
        self._times.clear()
        self._weights.clear()

    def _grow_log(self) -> None:
        n = len(self._log)
        self._log = np.concatenate([self._log, np.zeros((n, 3), np.int64)])
        self._log_cells = np.concatenate([self._log_cells, np.zeros((n, 4), np.float32)])

    def fold(self, delta: DeltaReader) -> None:
        """Learn the events of a delta."""
        columns = delta.columns(self.name)
        if not columns:
            return
        times, weights = columns["at"], columns["weight"]
        check_events(times, weights)
        if columns["items"].ndim != 2 or columns["items"].shape[1] != 1 + self.ring:
            message = f"histories of shape {columns['items'].shape}; expected 1 + {self.ring} columns"
            raise DeltaError(message)
        rows = delta.item_rows(columns["items"])
        # One layout whatever the shape: numba compiles anew for another.
        items, histories = np.ascontiguousarray(rows[:, 0]), np.ascontiguousarray(rows[:, 1:])
        n = 0
        while n < len(items):
            n = learn_many(n, items, histories, times, weights, *self._learned, self._log, self._log_cells)
            if n < len(items):
                self._grow_log()

    def clear_row(self, row: int) -> None:
        """Forget the item of a row. Other rows' references to it are void by the row's generation."""
        self._journal.remember(row)
        self.heads[row] = 0.0

    # Snapshots

    def snapshot(self) -> Snapshot:
        """Heads of the rows in use, and their neighbours one after the other."""
        heads = self.heads[: len(self.vocabulary)].copy()
        n = int(heads[:, 0].sum())
        refs, cells = np.empty(n, self.refs.dtype), np.empty((n, 4), self.cells.dtype)
        pack(heads, self.refs, self.cells, refs, cells)
        return {"heads": heads, "refs": refs, "cells": cells}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot; the vocabulary is restored before."""
        heads, refs, cells = (np.asarray(arrays[key]) for key in ("heads", "refs", "cells"))
        lengths = heads[:, 0]
        fits = ((lengths >= 0) & (lengths <= self.refs.shape[1])).all() and len(heads) <= len(self.heads)
        if not fits or not lengths.sum() == len(refs) == len(cells):
            raise ValueError(
                f"a snapshot of {len(heads)} rows and {lengths.sum():g} neighbours holds {len(refs)} and "
                f"{len(cells)} of them; there is room for {self.refs.shape}"
            )
        self.heads[:] = 0.0
        self.heads[: len(heads)] = heads
        unpack(self.heads[: len(heads)], self.refs, self.cells, refs, cells)

    def digest_arrays(self, rows: NDArray[np.int64]) -> Iterable[NDArray[np.generic]]:
        """Heads, and each row's neighbours in the order of the given rows; void neighbours are left out."""
        yield self.heads[rows, 1:]
        position = np.full(self.vocabulary.max_rows, -1, np.int64)
        position[rows] = np.arange(len(rows))
        for row in rows.tolist():
            length = int(self.heads[row, 0])
            others, cells = self.refs[row, :length], self.cells[row, :length]
            live = self.vocabulary.generation[others] == cells[:, 3]
            places = position[others[live]]
            order = np.argsort(places)
            yield places[order]
            yield cells[live][order, :3]
