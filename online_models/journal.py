"""Undo of one table, for models: see :mod:`online_models.kernels.journal`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from online_models.kernels.journal import STAMPS, put_back, remember

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Journal"]


class Journal:
    """Old rows of one table within one batch.

    A kernel takes the three arrays and calls ``remember(row, table, book, old)`` before it writes.
    There is room for every row, so nothing has to grow and the arrays never move;
    memory that no batch touched is never mapped.

    Parameters
    ----------
    table : ndarray of shape (n_rows, width)
        The table, changed in place by its owner.

    Examples
    --------
    >>> import numpy as np
    >>> counts = np.zeros((4, 1))
    >>> journal = Journal(counts)
    >>> journal.begin()
    >>> journal.remember(2)
    >>> counts[2] += 1
    >>> journal.rollback()
    >>> counts[2]
    array([0.])
    """

    def __init__(self, table: NDArray[Any]) -> None:
        if table.ndim != 2:
            message = f"a journal keeps rows of a table with 2 axes; this one has {table.ndim}"
            raise ValueError(message)
        self.table = table
        self.book = np.zeros(STAMPS + 2 * table.shape[0], np.int64)
        self.old = np.empty_like(table)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows that are kept, in the order of their first touch; a view."""
        first = STAMPS + len(self.table)
        return self.book[first : first + self.book[1]]

    def begin(self) -> None:
        """Forget what was kept; rows are kept again from here on."""
        self.book[0] += 1
        self.book[1] = 0

    def remember(self, row: int) -> None:
        """Keep one row, outside of a kernel."""
        remember(row, self.table, self.book, self.old)

    def keep(self) -> None:
        """Forget the old rows: what was written stays."""
        self.book[1] = 0

    def rollback(self) -> None:
        """Put the old rows back, bit for bit."""
        put_back(self.table, self.book, self.old)
