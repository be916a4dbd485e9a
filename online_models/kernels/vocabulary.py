"""Last use and batch-local indices of vocabulary rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from online_models.kernels._jit import kernel, wide
from online_models.kernels.journal import remember

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["least_recent", "refer", "touch", "touch_many"]


@kernel
def refer(row: int, indices: NDArray[np.int64], table: NDArray[np.int64]) -> int:
    """Index of a row's item in the batch's table of strings; the item joins the table when it is new there.

    Parameters
    ----------
    indices : int64[n_rows]
        Batch number (upper 32 bits) and index (lower 32) of each row; another batch's index is void.
    table : int64[3 + n_rows]
        Batch number, number of indices given out, number whose strings are already copied,
        and then the rows of the rest.
    """
    tag = indices[row]
    if tag >> 32 == table[0]:
        return int(tag & 0xFFFFFFFF)
    index = table[1]
    table[3 + index - table[2]] = row
    table[1] = index + 1
    indices[row] = (table[0] << 32) | index
    return int(index)


@kernel
def touch(
    row: int,
    at: float,
    is_new: bool,
    last_use: NDArray[np.float64],
    book: NDArray[np.int64],
    old: NDArray[np.float64],
    indices: NDArray[np.int64],
    table: NDArray[np.int64],
) -> int:
    """Move a row's last use forward, or set a new row's; returns the index in the batch's table."""
    if is_new or at > last_use[row, 0]:
        remember(row, last_use, book, old)
        last_use[row, 0] = at
    return refer(row, indices, table)


@kernel
def touch_many(
    rows: NDArray[np.int32],
    times: NDArray[np.float64],
    last_use: NDArray[np.float64],
    book: NDArray[np.int64],
    old: NDArray[np.float64],
) -> None:
    """Move the last use of many rows forward."""
    for n in range(rows.shape[0]):
        row = wide(rows[n])
        if times[n] > last_use[row, 0]:
            remember(row, last_use, book, old)
            last_use[row, 0] = times[n]


@kernel
def least_recent(last_use: NDArray[np.float64]) -> int:
    """The row with the oldest last use; of equals, the lowest."""
    best = 0
    for row in range(1, last_use.shape[0]):
        if last_use[row, 0] < last_use[best, 0]:
            best = row
    return best
