"""How many examples others teach while a batch is learned, counted from the deltas alone.

A delta says how many examples n its batch taught and how many its model had been taught when the batch began;
whoever folds it knows how many m were taught since. Of two batches that were learned at the same time the one
that is folded later counts the other, so Σ m counts each pair once. Batches of equal size, each beside k
others, have 2 Σ m / Σ n = k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.delta import DeltaError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from online_models.delta import DeltaReader, DeltaWriter

__all__ = ["Overlap"]

BLOCK = 4096  # examples after which what was counted before counts half: fleets grow and shrink
MAX_EXAMPLES = 2**53
MAX_MEANWHILE = 2**32  # keeps the sum far below 2**63


class Overlap:
    """Counts of one model, with a batch open that can be undone.

    Parameters
    ----------
    section : str
        Name of the counts in a delta.

    Examples
    --------
    >>> overlap = Overlap("overlap")
    >>> for base in (0, 0, 0, 0, 400, 400, 400, 400):
    ...     overlap.count(100, base)
    >>> overlap.others
    3.0
    """

    def __init__(self, section: str) -> None:
        self._section = section
        self._counts = (0, 0)  # examples taught, and Σ m
        self._before = self._counts

    @property
    def others(self) -> float:
        """Examples that others teach at the same time, for each of a batch's own."""
        taught, meanwhile = self._counts
        blocks, newest = divmod(taught, BLOCK)
        return 2.0 * meanwhile / (newest + BLOCK * (1.0 - 0.5**blocks)) if meanwhile else 0.0

    def count(self, n: int, base: int) -> None:
        """Count a batch of *n* examples that began when *base* had been taught."""
        taught, meanwhile = self._counts
        meanwhile += min(max(taught - base, 0), MAX_MEANWHILE)
        blocks = (taught + n) // BLOCK - taught // BLOCK
        self._counts = taught + n, meanwhile >> blocks

    def open(self) -> None:
        """Begin a batch."""
        self._before = self._counts

    def write(self, delta: DeltaWriter, n: int) -> None:
        """Write the examples of the batch, and those that had been taught when it began."""
        if n:
            delta.add(self._section, {"examples": np.array([[n, self._before[0]]], np.int64)})

    def keep(self, n: int) -> None:
        """Count the *n* examples of the batch that were learned here."""
        if n:
            self.count(n, self._before[0])

    def undo(self) -> None:
        """Undo the batch."""
        self._counts = self._before

    def read(self, delta: DeltaReader) -> None:
        """Count a committed batch."""
        columns = delta.columns(self._section)
        if not columns:
            return
        examples = columns["examples"]
        if examples.shape != (1, 2) or examples.dtype != np.int64:
            raise DeltaError(f"numbers of examples of shape {examples.shape} and kind {examples.dtype}")
        n, base = examples[0].tolist()
        if not (0 < n <= MAX_EXAMPLES and 0 <= base <= MAX_EXAMPLES):
            raise DeltaError(f"a batch of {n} examples after {base}")
        self.count(n, base)

    def state(self) -> NDArray[np.int64]:
        """Examples taught, and Σ m, for a snapshot."""
        return np.array(self._counts, np.int64)

    def take_over(self, counts: NDArray[np.generic]) -> None:
        """Take over :meth:`state`.

        Raises
        ------
        ValueError
            When it is none.
        """
        if counts.shape != (2,) or counts.dtype != np.int64 or (counts.astype(np.int64) < 0).any():
            raise ValueError("a snapshot's numbers of examples are no two whole numbers")
        taught, meanwhile = counts.astype(np.int64).tolist()
        self._counts = taught, meanwhile
