"""Bounded rows of sums of natural parameters: of each offer, of each category, and of all offers together.

A row is admitted by the first feedback on its offer or category; where there is none left, the one whose
feedback is oldest passes on. The layout of a row is that of :mod:`online_models.kernels.posteriors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.journal import Journal
from online_models.kernels import posteriors
from online_models.kernels.posteriors import TAIL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from online_models.base import Snapshot

__all__ = ["ALL", "CATEGORY", "OFFER", "Key", "PosteriorRows"]

OFFER, CATEGORY, ALL = 0, 1, 2
MAX_CATEGORIES = 32
Key = tuple[int, str]  # level and name


class PosteriorRows:
    """The sums of a model of offers, with one open batch at a time that can be undone bit for bit.

    Attributes
    ----------
    table : int64[n_rows, width]
        Sums on the grid of the kernels.
    newest : float
        Age of the newest operation, half-lives.
    """

    def __init__(self, n_features: int, max_offers: int) -> None:
        self._n_features = n_features
        # Rows of offers, of categories, of all together, and an empty one for who is unknown.
        self._first = {OFFER: 0, CATEGORY: max_offers, ALL: max_offers + MAX_CATEGORIES}
        self._room = {OFFER: max_offers, CATEGORY: MAX_CATEGORIES, ALL: 1}
        self._empty = max_offers + MAX_CATEGORIES + 1
        width = n_features * (n_features + 1) // 2 + n_features  # of one sum
        self.table = np.zeros((self._empty + 1, 2 * width + TAIL), np.int64)
        self.newest = 0.0
        self._n_ops = 0
        self._rows: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}
        self._journal = Journal(self.table)
        self._taken: list[tuple[int, Key, Key | None]] = []
        self._before = (0, 0.0)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def names(self, level: int) -> list[str]:
        """What is remembered of a level, sorted."""
        return sorted(name for one, name in self._rows if one == level)

    def row(self, key: Key) -> int:
        """Row of a key; an empty one for who is unknown."""
        return self._rows.get(key, self._empty)

    def feedback(self, key: Key) -> list[float]:
        """Weight of the feedback on a key that is known, and of the conversions in it."""
        totals = self.table[self._rows[key], 1 - TAIL : -1] / posteriors.GRID_TOTAL
        return totals.tolist()  # type: ignore[no-any-return]  # floats

    def absorb(self, key: Key, op: NDArray[np.float64]) -> None:
        """Add an operation to the row of a key, which is admitted if need be."""
        row = self._rows.get(key)
        if row is None:
            row = self._admit(key)
        self._journal.remember(row)
        posteriors.absorb(row, op, self._n_features, self.table)
        self._n_ops += 1
        self.newest = max(self.newest, float(op[0]))
        self.table[row, -1] = self._n_ops

    def _admit(self, key: Key) -> int:
        row = self._free_row(key[0])
        previous = self._keys.get(row)
        if previous is not None:
            del self._rows[previous]
        self._rows[key], self._keys[row] = row, key
        self._taken.append((row, key, previous))
        self._journal.remember(row)
        self.table[row] = 0
        return row

    def _free_row(self, level: int) -> int:
        """A free row of a level, else the one whose feedback is oldest."""
        first, room = self._first[level], self._room[level]
        used = sum(one == level for one, _ in self._rows)
        if used < room:
            return first + used
        return first + int(np.argmin(self.table[first : first + room, -1]))

    # One batch

    def begin(self) -> None:
        """Open a batch."""
        self._journal.begin()
        self._before = (self._n_ops, self.newest)

    def keep(self) -> None:
        """Close the batch and keep what it learned."""
        self._journal.keep()
        self._taken.clear()

    def rollback(self) -> None:
        """Close the batch and undo it, bit for bit."""
        self._journal.rollback()
        for row, key, previous in reversed(self._taken):
            del self._rows[key]
            if previous is None:
                del self._keys[row]
                continue
            self._keys[row] = previous
            self._rows[previous] = row
        self._n_ops, self.newest = self._before
        self._taken.clear()

    # State

    def snapshot(self) -> Snapshot:
        """Rows of what is remembered, sorted by level and name, and the number of operations so far."""
        keys = sorted(self._rows)
        raw = [name.encode() for _, name in keys]
        return {
            "levels": np.array([level for level, _ in keys], np.uint8),
            "names": np.frombuffer(b"".join(raw), np.uint8),
            "lengths": np.array([len(part) for part in raw], np.int32),
            "rows": self.table[[self._rows[key] for key in keys]],
            "n_ops": np.array([self._n_ops], np.int64),
            "newest": np.array([self.newest]),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot.

        Raises
        ------
        ValueError
            When it does not fit.
        """
        raw = arrays["names"].tobytes()
        ends = np.cumsum(arrays["lengths"].astype(np.int64)).tolist()
        names = [raw[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
        levels = arrays["levels"].astype(np.int64).tolist()
        keys = list(zip(levels, names, strict=True))
        rows = arrays["rows"]
        room = all(levels.count(level) <= self._room.get(level, 0) for level in {*levels})
        if not room or len(set(keys)) != len(keys) or rows.shape != (len(keys), self.table.shape[1]):
            raise ValueError(
                f"a snapshot of {levels.count(OFFER)} offers with rows of shape {rows.shape}; at most "
                f"{self._room[OFFER]} fit"
            )
        if rows.dtype != np.int64:
            raise ValueError("a snapshot of offers holds numbers that are no integers")
        self.table[:] = 0
        self._rows.clear()
        self._keys.clear()
        for key, content in zip(keys, rows, strict=True):
            row = self._free_row(key[0])
            self._rows[key], self._keys[row] = row, key
            self.table[row] = content
        self._n_ops = int(arrays["n_ops"].astype(np.int64)[0])
        self.newest = float(arrays["newest"].astype(np.float64)[0])
