"""Exact undo of the rows of one table: copy on first touch.

The class that owns these arrays is :class:`online_models.journal.Journal`.
A kernel calls :func:`remember` before it writes a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from online_models.kernels._jit import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["STAMPS", "put_back", "remember"]

STAMPS = 2  # where in the book the stamps of the rows begin


@kernel
def remember(
    row: int,
    table: NDArray[Any],
    book: NDArray[np.int64],
    old: NDArray[Any],
) -> None:
    """Keep the bits that a row has now, once for each row and batch.

    Parameters
    ----------
    row : int
        The row that is about to be written.
    table, old : ndarray of shape (n_rows, width)
        The table, and the kept rows in the order of their first touch.
    book : int64[2 + 2 n_rows]
        Batch number, number of kept rows, then for each row the batch at which it was kept last, and then the
        numbers of the kept rows. One array, for each that a kernel takes costs its caller.
    """
    if book[STAMPS + row] == book[0]:
        return
    book[STAMPS + row] = book[0]
    n = book[1]
    book[STAMPS + table.shape[0] + n] = row
    for column in range(table.shape[1]):
        old[n, column] = table[row, column]
    book[1] = n + 1


@kernel
def put_back(table: NDArray[Any], book: NDArray[np.int64], old: NDArray[Any]) -> None:
    """Give all kept rows their old bits, newest first."""
    for n in range(book[1] - 1, -1, -1):
        row = book[STAMPS + table.shape[0] + n]
        for column in range(table.shape[1]):
            table[row, column] = old[n, column]
    book[1] = 0
