"""Bounded rows of sequential co-occurrence.

Row j holds up to ``slots`` neighbours i, each with three weights:

====  ==========================================================================
C     e^(-beta a) for each time i came when j was a places back in the history
D     e^(-beta a) for each time j came when i was a places back in the history
T     how often i came directly after j
====  ==========================================================================

``refs`` is int32[n_rows, slots]: the rows of the neighbours. ``cells`` is float32[n_rows, slots, 4]: C, D, T
and the generation of the neighbour's row when it came in, exact below 2**24; a neighbour whose row passed to
another item since is void.
``heads`` is float64[n_rows, 4]: number of neighbours, decayed count c of the row's own events, epoch of the
row's forward decay, and (c + 2) ** -damping.

Undo is a log of cells, because an event touches some twenty cells of rows of 4 KB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels._jit import kernel, part, wide
from online_models.kernels.decay import epoch_of, growth, rebase
from online_models.kernels.journal import STAMPS, remember
from online_models.kernels.top_n import smallest
from online_models.kernels.vocabulary import refer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "find",
    "learn",
    "learn_and_record",
    "learn_many",
    "pack",
    "prune",
    "put_back_cells",
    "unpack",
    "worst_case",
]

LENGTH, COUNT, ROW_EPOCH, DAMP = 0, 1, 2, 3
C, D, T, GENERATION = 0, 1, 2, 3
BLOCK = 32
BACKWARD = 0.5  # weight of the backward part where one number decides: pruning and retrieval


@kernel
def worst_case(ring: int, slots: int, pruned: int) -> int:
    """Cells one event can write at most: a rebase of each row, two cells and prunes for each history item.

    One prune is of the history item's row; the event's own may be pruned for every neighbour that it gets.
    """
    return (ring + 1) * slots + 2 * ring * (1 + pruned)


@part
def _log_cell(
    row: int,
    slot: int,
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    log: NDArray[np.int64],
    log_cells: NDArray[np.float32],
) -> None:
    n = log[0, 0] + 1
    log[0, 0] = n
    log[n, 0] = row
    log[n, 1] = slot
    log[n, 2] = refs[row, slot]
    for k in range(4):
        log_cells[n, k] = cells[row, slot, k]


@kernel
def put_back_cells(
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    log: NDArray[np.int64],
    log_cells: NDArray[np.float32],
) -> None:
    """Undo all logged writes, newest first. ``log[0, 0]`` is the number of entries; they start at 1."""
    for n in range(log[0, 0], 0, -1):
        row = log[n, 0]
        slot = log[n, 1]
        refs[row, slot] = log[n, 2]
        for k in range(4):
            cells[row, slot, k] = log_cells[n, k]
    log[0, 0] = 0


@part
def prune(
    row: int,
    pruned: int,
    generation: NDArray[np.int64],
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    heads: NDArray[np.float64],
    log: NDArray[np.int64],
    log_cells: NDArray[np.float32],
) -> None:
    """Keep the ``pruned`` neighbours of the largest C + D / 2, in their order; of equals, the older."""
    length = int(heads[row, LENGTH])
    strength = np.empty(length, np.float64)
    for slot in range(length):
        strength[slot] = 0.0  # a void neighbour goes first
        if cells[row, slot, GENERATION] == generation[refs[row, slot]]:
            strength[slot] = -(float(cells[row, slot, C]) + BACKWARD * float(cells[row, slot, D]))
    limit = smallest(pruned - 1, strength.copy()) if length > pruned else 0.0
    room = pruned  # for equals of the weakest that stays
    for slot in range(length):
        if strength[slot] < limit:
            room -= 1
    kept = 0
    for slot in range(length):
        if strength[slot] > limit or strength[slot] == 0.0:
            continue
        if strength[slot] == limit:
            room -= 1
            if room < 0:
                continue
        if kept != slot:
            _log_cell(row, kept, refs, cells, log, log_cells)
            refs[row, kept] = refs[row, slot]
            for k in range(4):
                cells[row, kept, k] = cells[row, slot, k]
        kept += 1
    heads[row, LENGTH] = kept


@part
def find(row: int, other: int, length: int, refs: NDArray[np.int32]) -> int:
    """Slot of a neighbour in a row, −1 when it is not there.

    Whole blocks are compared before one is searched: without an early exit the compiler uses vector
    instructions. ``benchmarks/models.py``, observe at 20,000 items.
    """
    wanted = np.int32(other)  # as narrow as what it is compared with
    whole = length - length % BLOCK
    for start in range(0, whole, BLOCK):
        hits = 0
        for slot in range(start, start + BLOCK):
            hits += refs[row, slot] == wanted
        if hits:
            for slot in range(start, start + BLOCK):
                if refs[row, slot] == wanted:
                    return slot
    for slot in range(whole, length):
        if refs[row, slot] == wanted:
            return slot
    return -1


@part
def _advance(
    row: int,
    at: float,
    rate: float,
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    heads: NDArray[np.float64],
    book: NDArray[np.int64],
    old: NDArray[np.float64],
    log: NDArray[np.int64],
    log_cells: NDArray[np.float32],
) -> float:
    """Bring a row to the epoch of an event; what the event adds there for each unit of weight."""
    remember(row, heads, book, old)
    if rate == 0.0:
        return 1.0
    now = epoch_of(at, rate)
    epoch = heads[row, ROW_EPOCH]
    if heads[row, COUNT] == 0.0 and heads[row, LENGTH] == 0.0:
        heads[row, ROW_EPOCH] = now
    elif now > epoch:
        shrink = rebase(epoch, now)
        heads[row, ROW_EPOCH] = now
        heads[row, COUNT] *= shrink
        for slot in range(int(heads[row, LENGTH])):
            _log_cell(row, slot, refs, cells, log, log_cells)
            for k in range(3):
                cells[row, slot, k] = np.float32(float(cells[row, slot, k]) * shrink)
    return growth(at, rate, heads[row, ROW_EPOCH])


@part
def _slot_of(
    row: int,
    other: int,
    pruned: int,
    generation: NDArray[np.int64],
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    heads: NDArray[np.float64],
    log: NDArray[np.int64],
    log_cells: NDArray[np.float32],
) -> int:
    """Slot of a neighbour, logged for writing; a new neighbour gets one, if need be after a prune."""
    length = int(heads[row, LENGTH])
    slot = find(row, other, length, refs)
    if slot >= 0:
        _log_cell(row, slot, refs, cells, log, log_cells)
        if cells[row, slot, GENERATION] == generation[other]:
            return slot
    else:
        if length == refs.shape[1]:
            prune(row, pruned, generation, refs, cells, heads, log, log_cells)
            length = int(heads[row, LENGTH])
        slot = length
        _log_cell(row, slot, refs, cells, log, log_cells)
        refs[row, slot] = other
        heads[row, LENGTH] = length + 1
    for k in range(3):
        cells[row, slot, k] = np.float32(0.0)
    cells[row, slot, GENERATION] = generation[other]
    return slot


@part
def _bring(
    history: NDArray[np.int32],
    n: int,
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    heads: NDArray[np.float64],
    book: NDArray[np.int64],
) -> float:
    """Read a number of each row that is about to be written; never below 0.

    Memory answers the reads of this loop side by side; one that works on each row would wait for every one.
    """
    total = 0.0
    for age in range(n):
        other = history[age]
        if other >= 0:
            total += (
                heads[other, LENGTH] + book[STAMPS + other] + abs(refs[other, 0]) + abs(cells[other, 0, C])
            )
    return total


@part
def learn(
    row: int,
    history: NDArray[np.int32],
    n_history: int,
    at: float,
    weight: float,
    ages: NDArray[np.float64],
    settings: NDArray[np.float64],
    generation: NDArray[np.int64],
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    heads: NDArray[np.float64],
    book: NDArray[np.int64],
    old: NDArray[np.float64],
    log: NDArray[np.int64],
    log_cells: NDArray[np.float32],
) -> int:
    """One event with item ``row`` after ``history`` (rows, newest first, −1 = unknown).

    Parameters
    ----------
    ages : float64[ring]
        e^(-beta a).
    settings : float64[3]
        1 / half-life, damping exponent, neighbours left after a prune.

    Returns
    -------
    int
        Entries in the undo log now.
    """
    rate = settings[0]
    pruned = int(settings[2])
    if _bring(history, min(n_history, ages.shape[0]), refs, cells, heads, book) < 0.0:
        return -1
    own = _advance(row, at, rate, refs, cells, heads, book, old, log, log_cells)
    count = heads[row, COUNT] + weight * own
    heads[row, COUNT] = count
    heads[row, DAMP] = (count / own + 2.0) ** -settings[1]
    for age in range(min(n_history, ages.shape[0])):
        other = wide(history[age])
        if other < 0 or other == row:
            continue
        w = weight * ages[age]
        scale = _advance(other, at, rate, refs, cells, heads, book, old, log, log_cells)
        slot = _slot_of(other, row, pruned, generation, refs, cells, heads, log, log_cells)
        cells[other, slot, C] = np.float32(float(cells[other, slot, C]) + w * scale)
        if age == 0:
            cells[other, slot, T] = np.float32(float(cells[other, slot, T]) + weight * scale)
        slot = _slot_of(row, other, pruned, generation, refs, cells, heads, log, log_cells)
        cells[row, slot, D] = np.float32(float(cells[row, slot, D]) + w * own)
    return int(log[0, 0])


@kernel
def learn_and_record(
    row: int,
    history: NDArray[np.int32],
    n_history: int,
    at: float,
    weight: float,
    ages: NDArray[np.float64],
    settings: NDArray[np.float64],
    generation: NDArray[np.int64],
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    heads: NDArray[np.float64],
    book: NDArray[np.int64],
    old: NDArray[np.float64],
    log: NDArray[np.int64],
    log_cells: NDArray[np.float32],
    n_operations: int,
    operations: NDArray[np.int32],
    indices: NDArray[np.int64],
    table: NDArray[np.int64],
) -> int:
    """As :func:`learn`, and write item and history of the operation as indices into the batch's strings."""
    operations[n_operations, 0] = refer(row, indices, table)
    for age in range(ages.shape[0]):
        operations[n_operations, 1 + age] = -1
        if age < n_history and history[age] >= 0:
            operations[n_operations, 1 + age] = refer(wide(history[age]), indices, table)
    return learn(
        row,
        history,
        n_history,
        at,
        weight,
        ages,
        settings,
        generation,
        refs,
        cells,
        heads,
        book,
        old,
        log,
        log_cells,
    )


@kernel
def learn_many(
    first: int,
    rows: NDArray[np.int32],
    histories: NDArray[np.int32],
    times: NDArray[np.float64],
    weights: NDArray[np.float64],
    ages: NDArray[np.float64],
    settings: NDArray[np.float64],
    generation: NDArray[np.int64],
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    heads: NDArray[np.float64],
    book: NDArray[np.int64],
    old: NDArray[np.float64],
    log: NDArray[np.int64],
    log_cells: NDArray[np.float32],
) -> int:
    """Many events in order, from number ``first`` on, until the undo log could overflow.

    Returns
    -------
    int
        Number of the first event that was not learned; the number of events when all were.
    """
    ring = ages.shape[0]
    worst = worst_case(ring, refs.shape[1], int(settings[2]))
    for n in range(first, rows.shape[0]):
        if log[0, 0] + worst >= log.shape[0]:
            return n
        if rows[n] >= 0:
            learn(
                wide(rows[n]),
                histories[n],
                ring,
                times[n],
                weights[n],
                ages,
                settings,
                generation,
                refs,
                cells,
                heads,
                book,
                old,
                log,
                log_cells,
            )
    return int(rows.shape[0])


@kernel
def pack(
    heads: NDArray[np.float64],
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    packed_refs: NDArray[np.int32],
    packed_cells: NDArray[np.float32],
) -> None:
    """Write the neighbours of all rows of ``heads`` one after the other; there must be room for them."""
    n = 0
    for row in range(heads.shape[0]):
        for slot in range(int(heads[row, LENGTH])):
            packed_refs[n] = refs[row, slot]
            for k in range(4):
                packed_cells[n, k] = cells[row, slot, k]
            n += 1


@kernel
def unpack(
    heads: NDArray[np.float64],
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    packed_refs: NDArray[np.int32],
    packed_cells: NDArray[np.float32],
) -> None:
    """Put back what :func:`pack` wrote of the rows of ``heads``."""
    n = 0
    for row in range(heads.shape[0]):
        for slot in range(int(heads[row, LENGTH])):
            refs[row, slot] = packed_refs[n]
            for k in range(4):
                cells[row, slot, k] = packed_cells[n, k]
            n += 1
