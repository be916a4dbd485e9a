"""Candidates of one event: neighbours of the history, and the union of the sources' best lists.

``seen`` is int64[n_rows]: ``call << 32 | mark``. A mark of another call is void, so nothing has to be
cleared. A mark is the row's number among the hits, or :data:`EXCLUDED`. Candidates of other sources join the
hits, so that all that is said of a candidate stands together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels._jit import kernel, part
from online_models.kernels.top_n import smallest

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CONTENT", "EXCLUDED", "HIT_COLUMNS", "gather", "neighbours", "of_a_kind"]

EXCLUDED = 0xFFFFFFFF
F, B, T, RETRIEVAL, LOUDEST, LOUDEST_AGE, CONTENT = 0, 1, 2, 3, 4, 5, 6
HIT_COLUMNS = 7
CONTENT_AGES, CONTENT_VALUES = 5, 3  # items of a history that are read for their values, and values of them
DAMP = 3  # column of the heads of co-occurrence
BACKWARD = 0.5


@kernel
def neighbours(
    history: NDArray[np.int32],
    n_history: int,
    at: float,
    ages: NDArray[np.float64],
    settings: NDArray[np.float64],
    generation: NDArray[np.int64],
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    heads: NDArray[np.float64],
    call: int,
    seen: NDArray[np.int64],
    hits: NDArray[np.float64],
    hit_rows: NDArray[np.int32],
) -> int:
    """Forward, backward and direct scores of everything that co-occurs with a history.

    Parameters
    ----------
    history : int32[n]
        Rows, newest first, −1 = unknown.
    hits : float64[ring * slots, 7]
        Takes F, B, T, the retrieval score (F + B / 2) / (c + 2)^.1 of each hit, and of the history item that
        adds most to F + B / 2 its part and its place.

    Returns
    -------
    int
        Number of hits.
    """
    rate = settings[0]
    n_hits = 0
    for age in range(min(n_history, ages.shape[0])):
        row = history[age]
        if row < 0:
            continue
        fade = 1.0
        if rate > 0.0:
            fade = np.exp2(min(64.0 * heads[row, 2] - at * rate, 900.0))
        scale = fade / (heads[row, 1] * fade + 2.0)
        aged = scale * ages[age]
        for slot in range(int(heads[row, 0])):
            other = refs[row, slot]
            if cells[row, slot, 3] != generation[other]:
                continue
            mark = n_hits
            if seen[other] >> 32 == call:
                mark = seen[other] & 0xFFFFFFFF
                if mark == EXCLUDED:
                    continue
            if mark == n_hits:
                seen[other] = (call << 32) | n_hits
                hit_rows[n_hits] = other
                hits[n_hits, :] = 0.0
                hits[n_hits, LOUDEST_AGE] = -1.0
                n_hits += 1
            forward = aged * np.float64(cells[row, slot, 0])
            backward = aged * np.float64(cells[row, slot, 1])
            hits[mark, F] += forward
            hits[mark, B] += backward
            if age == 0:
                hits[mark, T] = scale * np.float64(cells[row, slot, 2])
            if forward + BACKWARD * backward > hits[mark, LOUDEST]:
                hits[mark, LOUDEST] = forward + BACKWARD * backward
                hits[mark, LOUDEST_AGE] = age
    for mark in range(n_hits):
        hits[mark, RETRIEVAL] = (hits[mark, F] + BACKWARD * hits[mark, B]) * heads[hit_rows[mark], 3]
    return n_hits


@part
def of_a_kind(
    history: NDArray[np.int32],
    n_history: int,
    at: float,
    ages: NDArray[np.float64],
    settings: NDArray[np.float64],
    generation: NDArray[np.int64],
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    heads: NDArray[np.float64],
    call: int,
    seen: NDArray[np.int64],
    n_hits: int,
    hits: NDArray[np.float64],
    hit_rows: NDArray[np.int32],
) -> int:
    """Content scores of the items that share a value with the newest of a history; returns all hits.

    Parameters
    ----------
    settings, refs, cells, heads
        Of the content model: rows of items lead to their values by C, and rows of values to items by D.
    """
    if refs.shape[0] == 0:
        return n_hits
    values = np.empty(CONTENT_VALUES, np.int32)
    shares = np.zeros(CONTENT_VALUES)
    n_values = 0
    for age in range(min(n_history, CONTENT_AGES, ages.shape[0])):
        row = history[age]
        if row < 0:
            continue
        for slot in range(int(heads[row, 0])):
            value = refs[row, slot]
            if cells[row, slot, 3] != generation[value] or not cells[row, slot, 0] > 0.0:
                continue
            place = 0
            while place < n_values and values[place] != value:
                place += 1
            if place == CONTENT_VALUES:
                continue
            if place == n_values:
                values[place] = value
                n_values += 1
            shares[place] += ages[age]
    rate = settings[0]
    for place in range(n_values):
        row = values[place]
        fade = 1.0
        if rate > 0.0:
            fade = np.exp2(min(64.0 * heads[row, 2] - at * rate, 900.0))
        scale = shares[place] * fade / (heads[row, 1] * fade + 2.0)
        for slot in range(int(heads[row, 0])):
            other = refs[row, slot]
            if cells[row, slot, 3] != generation[other] or not cells[row, slot, 1] > 0.0:
                continue
            mark = n_hits
            if seen[other] >> 32 == call:
                mark = seen[other] & 0xFFFFFFFF
                if mark == EXCLUDED:
                    continue
            if mark == n_hits:
                seen[other] = (call << 32) | n_hits
                hit_rows[n_hits] = other
                hits[n_hits, :] = 0.0
                hits[n_hits, LOUDEST_AGE] = -1.0
                n_hits += 1
            hits[mark, CONTENT] += scale * np.float64(cells[row, slot, 1])
    return n_hits


@part
def _precedes(
    a: int,
    b: int,
    column: int,
    hits: NDArray[np.float64],
    hit_rows: NDArray[np.int32],
    heads: NDArray[np.float64],
    orders: NDArray[np.int64],
) -> bool:
    """Of equal scores the item with more events (the smaller damping) comes first, then the lower hash."""
    if hits[a, column] != hits[b, column]:
        return bool(hits[a, column] > hits[b, column])
    row, other = hit_rows[a], hit_rows[b]
    if heads[row, DAMP] != heads[other, DAMP]:
        return bool(heads[row, DAMP] < heads[other, DAMP])
    return bool(orders[row] < orders[other])


@part
def _best_hits(
    column: int,
    n_hits: int,
    hits: NDArray[np.float64],
    hit_rows: NDArray[np.int32],
    heads: NDArray[np.float64],
    orders: NDArray[np.int64],
    values: NDArray[np.float64],
    best: NDArray[np.int32],
) -> int:
    """Marks of the hits with the largest positive scores, best first; returns how many.

    What cannot be among them is left out by a selection first, so that few are sorted.
    """
    wanted = best.shape[0]
    n_scored = 0
    for mark in range(n_hits):
        if hits[mark, column] > 0.0:
            values[n_scored] = -hits[mark, column]
            n_scored += 1
    bound = 0.0
    if n_scored > wanted:
        bound = -smallest(wanted - 1, values[:n_scored])
    length = 0
    for mark in range(n_hits):
        if not hits[mark, column] > 0.0 or hits[mark, column] < bound:
            continue
        low = 0
        high = length
        while low < high:
            middle = (low + high) // 2
            if _precedes(mark, best[middle], column, hits, hit_rows, heads, orders):
                high = middle
            else:
                low = middle + 1
        if low == wanted:
            continue
        length = min(length + 1, wanted)
        for k in range(length - 1, low, -1):
            best[k] = best[k - 1]
        best[low] = mark
    return length


@part
def gather(
    n_hits: int,
    hits: NDArray[np.float64],
    hit_rows: NDArray[np.int32],
    heads: NDArray[np.float64],
    orders: NDArray[np.int64],
    n_factor_rows: int,
    factor_rows: NDArray[np.int32],
    list_rows: NDArray[np.int32],
    lengths: NDArray[np.int64],
    depth: int,
    optional_rows: NDArray[np.int32],
    n_optional: NDArray[np.int64],
    begins: bool,
    call: int,
    seen: NDArray[np.int64],
    values: NDArray[np.float64],
    best: NDArray[np.int32],
    numbers: NDArray[np.int32],
    rank_values: NDArray[np.float64],
    rows: NDArray[np.int32],
    marks: NDArray[np.int32],
    features: NDArray[np.float32],
) -> int:
    """Union of the best rows of each source that are not excluded, as many of each as ``best`` has room for.

    Sources, in this order: sequence, transition, factors, each count of popularity, content, and the
    optional ones.

    Parameters
    ----------
    heads : float64[n_rows, 4]
        Of co-occurrence.
    list_rows, lengths : int32[H, capacity], int64[H, 2]
        Sorted rows of each count, and how many there are.
    begins : bool
        Whether a visit begins; else the last count, that of beginnings, proposes nothing.
    optional_rows, n_optional : int32[O, m], int64[O]
        Rows of each optional source, best first, and how many.
    values, best, numbers
        Work space: one of each for each hit or candidate; ``best`` has as many as a source may propose.
    rank_values : float64[n_each + 1]
        Feature of each rank; the last is that of a row that is not in the list.
    rows, marks, features : int32[m], int32[m], float32[n_features, m]
        Take the candidates, their marks, and for each source the feature of their rank.

    Returns
    -------
    int
        Number of candidates.
    """
    n = 0
    n_marks = n_hits
    n_each = best.shape[0]
    numbers[:n_hits] = -1
    content = 3 + list_rows.shape[0]
    for source in range(content + 1 + optional_rows.shape[0]):
        features[source, :] = rank_values[n_each]
        if source < 2 or source == content:
            column = RETRIEVAL if source == 0 else (T if source == 1 else CONTENT)
            length = _best_hits(column, n_hits, hits, hit_rows, heads, orders, values, best)
        elif source == 2:
            length = n_factor_rows
        elif source > content:
            length = n_optional[source - content - 1]
        elif source == content - 1 and not begins:
            length = 0
        else:
            length = min(depth, lengths[source - 3, 0])
        rank = 0
        for k in range(length):
            if rank == n_each:
                break
            if source < 2 or source == content:
                mark = int(best[k])
            else:
                if source == 2:
                    row = factor_rows[k]
                elif source > content:
                    row = optional_rows[source - content - 1, k]
                else:
                    row = list_rows[source - 3, k]
                mark = seen[row] & 0xFFFFFFFF
                if seen[row] >> 32 != call:
                    mark = n_marks
                    n_marks += 1
                    seen[row] = (call << 32) | mark
                    hit_rows[mark] = row
                    hits[mark, :] = 0.0
                    hits[mark, LOUDEST_AGE] = -1.0
                    numbers[mark] = -1
                elif mark == EXCLUDED:
                    continue
            if numbers[mark] < 0:
                numbers[mark] = n
                rows[n] = hit_rows[mark]
                marks[n] = mark
                n += 1
            features[source, numbers[mark]] = rank_values[rank]
            rank += 1
    return n
