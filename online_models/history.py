"""Rows of the history that was asked for last.

One event asks for its user's history several times: to propose, to learn, and then with the event's item in
front. Looking up an id costs several cache misses; to compare with the history of the last time costs none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from online_models.vocabulary import Vocabulary

__all__ = ["HistoryRows"]


class HistoryRows:
    """Rows of a history, newest first, in one array that kernels read.

    Parameters
    ----------
    vocabulary : Vocabulary
        Gives the rows.
    size : int
        Items of a history that are read at most.

    Attributes
    ----------
    rows : int32[size]
        Rows of the history read last, −1 for unknown items.

    Examples
    --------
    >>> from online_models.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary(10)
    >>> vocabulary.begin()
    >>> row = vocabulary.touch("a", 0.0)
    >>> history = HistoryRows(vocabulary, 4)
    >>> history.rows[: history.read(["b", "a"])].tolist()
    [-1, 0]
    """

    def __init__(self, vocabulary: Vocabulary, size: int) -> None:
        self.rows = np.full(size, -1, np.int32)
        self._vocabulary = vocabulary
        self._layouts = [struct.Struct(f"={n}i") for n in range(size + 1)]
        self._items: list[str] = []
        self._version = -1

    def read(self, history: Sequence[str]) -> int:
        """Bring :attr:`rows` to a history; return how many of its items are read."""
        rows, vocabulary, known = self.rows, self._vocabulary, self._items
        items = list(history[: len(rows)])
        n = len(items)
        if self._version != vocabulary.version:
            self._look_up(items)
        elif items != known:
            if n > 1 and items[1:] == known[: n - 1]:
                rows[1:n] = rows[: n - 1].copy()
                rows[0] = vocabulary.row(items[0])
            else:
                self._look_up(items)
        self._items, self._version = items, vocabulary.version
        return n

    def _look_up(self, items: list[str]) -> None:
        self._layouts[len(items)].pack_into(self.rows.data, 0, *self._vocabulary.rows(items))
