"""Decayed counts of items at several half-lives, with their top lists sorted on touch.

``table`` is float64[n_rows, 2 * H + 2]: for each half-life the value, then for each its epoch, then the
times of the first and of the last event. A row of zeros is a row without events. The last of the half-lives
is that of a count which takes only the events that begin a visit.

A list holds exactly the rows that rank above its *bound*, best first. A key grows with each touch and never
falls, so only the touched row moves, and a row outside can enter only when it is touched.
``bounds`` is (key) float64[H]; ``marks`` is int64[H, 2]: length of the list, tie-break of the bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels._jit import kernel, part, wide
from online_models.kernels.decay import epoch_of, growth, rebase, sort_key
from online_models.kernels.journal import remember

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add", "add_many", "drop", "rebuild"]


@part
def _ranks_above(key: float, order: int, other_key: float, other_order: int) -> bool:
    if key != other_key:
        return key > other_key
    return order < other_order


@part
def _find(
    row: int,
    key: float,
    h: int,
    list_rows: NDArray[np.int32],
    list_keys: NDArray[np.float64],
    length: int,
) -> int:
    """Place of a listed row, by its key; −1 when it is not listed."""
    low = 0
    high = length
    while low < high:
        middle = (low + high) // 2
        if list_keys[h, middle] > key:
            low = middle + 1
        else:
            high = middle
    while low < length and list_keys[h, low] == key:
        if list_rows[h, low] == row:
            return low
        low += 1
    return -1


@part
def _place(
    row: int,
    old_key: float,
    key: float,
    h: int,
    list_rows: NDArray[np.int32],
    list_keys: NDArray[np.float64],
    marks: NDArray[np.int64],
    bounds: NDArray[np.float64],
    orders: NDArray[np.int64],
) -> None:
    """Move a touched row to its new place in one list, or into the list, or leave it outside."""
    order = orders[row]
    if not _ranks_above(key, order, bounds[h], marks[h, 1]):
        return
    length = marks[h, 0]
    place = _find(row, old_key, h, list_rows, list_keys, length)
    if place < 0:
        if length == list_rows.shape[1]:  # full: the last one falls out and is the new bound
            length -= 1
            last = list_rows[h, length]
            if not _ranks_above(key, order, list_keys[h, length], orders[last]):
                bounds[h] = key
                marks[h, 1] = order
                return
            bounds[h] = list_keys[h, length]
            marks[h, 1] = orders[last]
        place = length
        marks[h, 0] = length + 1
    low = 0
    high = place
    while low < high:
        middle = (low + high) // 2
        if _ranks_above(key, order, list_keys[h, middle], orders[list_rows[h, middle]]):
            high = middle
        else:
            low = middle + 1
    for k in range(place, low, -1):
        list_rows[h, k] = list_rows[h, k - 1]
    for k in range(place, low, -1):
        list_keys[h, k] = list_keys[h, k - 1]
    list_rows[h, low] = row
    list_keys[h, low] = key


@kernel
def add(
    row: int,
    at: float,
    weight: float,
    begins: bool,
    rates: NDArray[np.float64],
    table: NDArray[np.float64],
    book: NDArray[np.int64],
    old: NDArray[np.float64],
    list_rows: NDArray[np.int32],
    list_keys: NDArray[np.float64],
    marks: NDArray[np.int64],
    bounds: NDArray[np.float64],
    orders: NDArray[np.int64],
) -> None:
    """Count one event of a row, which begins a visit or does not."""
    remember(row, table, book, old)
    n = rates.shape[0]
    if table[row, 0] == 0.0 and table[row, 2 * n] == 0.0 and table[row, 2 * n + 1] == 0.0:
        table[row, 2 * n] = at
        table[row, 2 * n + 1] = at
        for h in range(n):
            table[row, n + h] = epoch_of(at, rates[h])
    table[row, 2 * n] = min(at, table[row, 2 * n])
    table[row, 2 * n + 1] = max(at, table[row, 2 * n + 1])
    for h in range(n if begins else n - 1):
        value = table[row, h]
        epoch = table[row, n + h]
        old_key = sort_key(value, epoch)
        now = epoch_of(at, rates[h])
        if now > epoch:
            value *= rebase(epoch, now)
            epoch = now
            table[row, n + h] = epoch
        value += weight * growth(at, rates[h], epoch)
        table[row, h] = value
        _place(row, old_key, sort_key(value, epoch), h, list_rows, list_keys, marks, bounds, orders)


@kernel
def add_many(
    rows: NDArray[np.int32],
    times: NDArray[np.float64],
    weights: NDArray[np.float64],
    begins: NDArray[np.uint8],
    rates: NDArray[np.float64],
    table: NDArray[np.float64],
    book: NDArray[np.int64],
    old: NDArray[np.float64],
    list_rows: NDArray[np.int32],
    list_keys: NDArray[np.float64],
    marks: NDArray[np.int64],
    bounds: NDArray[np.float64],
    orders: NDArray[np.int64],
) -> None:
    """Count many events in order; rows −1 are skipped."""
    for n in range(rows.shape[0]):
        if rows[n] >= 0:
            add(
                wide(rows[n]),
                times[n],
                weights[n],
                begins[n] != 0,
                rates,
                table,
                book,
                old,
                list_rows,
                list_keys,
                marks,
                bounds,
                orders,
            )


@kernel
def rebuild(
    h: int,
    n_rows: int,
    table: NDArray[np.float64],
    list_rows: NDArray[np.int32],
    list_keys: NDArray[np.float64],
    marks: NDArray[np.int64],
    bounds: NDArray[np.float64],
    orders: NDArray[np.int64],
) -> None:
    """Find the list of one half-life anew among the first ``n_rows`` rows."""
    marks[h, 0] = 0
    bounds[h] = -np.inf
    marks[h, 1] = np.iinfo(np.int64).min
    n = marks.shape[0]
    for row in range(n_rows):
        key = sort_key(table[row, h], table[row, n + h])
        if key > -np.inf:
            # No row is listed twice here, so any old key that is not in the list will do.
            _place(row, np.inf, key, h, list_rows, list_keys, marks, bounds, orders)


@kernel
def drop(
    row: int,
    depth: int,
    n_rows: int,
    table: NDArray[np.float64],
    book: NDArray[np.int64],
    old: NDArray[np.float64],
    list_rows: NDArray[np.int32],
    list_keys: NDArray[np.float64],
    marks: NDArray[np.int64],
    bounds: NDArray[np.float64],
    orders: NDArray[np.int64],
) -> None:
    """Clear a row and take it off the lists; a list that gets shorter than ``depth`` is found anew."""
    remember(row, table, book, old)
    n = marks.shape[0]
    for h in range(n):
        key = sort_key(table[row, h], table[row, n + h])
        place = _find(row, key, h, list_rows, list_keys, marks[h, 0])
        table[row, h] = 0.0
        if place < 0:
            continue
        length = marks[h, 0] - 1
        for k in range(place, length):
            list_rows[h, k] = list_rows[h, k + 1]
            list_keys[h, k] = list_keys[h, k + 1]
        marks[h, 0] = length
        if length < depth and bounds[h] > -np.inf:
            rebuild(h, n_rows, table, list_rows, list_keys, marks, bounds, orders)
    table[row, :] = 0.0
