"""Rows of histories that were asked for lately.

One event asks for its user's history several times: to propose, to learn, and then with the event's item in
front; the user's next event asks again. Looking up sixty ids costs as many cache misses as a slate is worth;
to compare with a history that was read before costs next to none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from online_models.vocabulary import Vocabulary

__all__ = ["HistoryRows"]

MAX_KEPT = 8192  # some 10 MB; then all are forgotten, which changes no result


class _Read(NamedTuple):
    """A history, its rows, and what the vocabulary was when they were looked up."""

    items: list[str]
    rows: NDArray[np.int32]
    complete: bool  # no item was unknown: the rows stand as long as no item loses its row
    last: int  # the highest of them
    admission: int  # of the last
    revision: int
    losses: int


class HistoryRows:
    """Rows of histories, newest first, in arrays that kernels read.

    Parameters
    ----------
    vocabulary : Vocabulary
        Gives the rows.
    size : int
        Items of a history that are read at most.

    Examples
    --------
    >>> from online_models.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary(10)
    >>> vocabulary.begin()
    >>> row = vocabulary.touch("a", 0.0)
    >>> rows, n, complete = HistoryRows(vocabulary, 4).read(["b", "a"])
    >>> rows[:n].tolist(), complete
    ([-1, 0], False)
    """

    def __init__(self, vocabulary: Vocabulary, size: int) -> None:
        self._vocabulary = vocabulary
        self._size = size
        self._none = np.full(size, -1, np.int32)
        self._kept: dict[tuple[str, str | None], _Read] = {}  # by the two newest items

    def read(self, history: Sequence[str]) -> tuple[NDArray[np.int32], int, bool]:
        """Rows of a history, −1 for unknown items, how many of its items are read, and whether all are known.

        The array is ``size`` long and for reading only.
        """
        items = list(history[: self._size])
        n = len(items)
        if n == 0:
            return self._none, 0, True
        key = items[0], items[1] if n > 1 else None
        known = self._kept.get(key)
        if known is None or known.items != items or not self._stands(known):
            known = self._extended(items) or self._looked_up(items)
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[key] = known
        return known.rows, n, known.complete

    def _stands(self, known: _Read) -> bool:
        vocabulary = self._vocabulary
        if known.revision == vocabulary.changes.revision:
            return True
        admissions = vocabulary.admissions
        return (
            known.complete
            and known.losses == vocabulary.losses
            and known.last < len(admissions)
            and known.admission == admissions[known.last]
        )

    def _extended(self, items: list[str]) -> _Read | None:
        """A history read before with one item in front; the one before is forgotten."""
        n = len(items)
        if n < 2:
            return None
        known = self._kept.get((items[1], items[2] if n > 2 else None))
        if known is None or not self._stands(known):
            return None
        tail = items[1:]
        if known.items != tail and known.items[: n - 1] != tail:
            return None
        rows = np.empty_like(known.rows)
        rows[0] = row = self._vocabulary.row(items[0])
        rows[1:] = known.rows[:-1]
        del self._kept[items[1], items[2] if n > 2 else None]
        return self._read(items, rows, known.complete and row >= 0, max(known.last, row))

    def _looked_up(self, items: list[str]) -> _Read:
        found = self._vocabulary.rows(items)
        rows = self._none.copy()
        rows[: len(items)] = found
        return self._read(items, rows, -1 not in found, max(found))

    def _read(self, items: list[str], rows: NDArray[np.int32], complete: bool, last: int) -> _Read:  # noqa: FBT001
        vocabulary = self._vocabulary
        admission = vocabulary.admissions[last] if last >= 0 else 0
        return _Read(items, rows, complete, last, admission, vocabulary.changes.revision, vocabulary.losses)
