"""Candidates of one event: neighbours of the history, and the union of the sources' best lists.

``seen`` is int64[n_rows]: ``call << 32 | mark``. A mark of another call is void, so nothing has to be
cleared. A mark is the row's number among the hits, or :data:`EXCLUDED`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels._jit import kernel, part
from online_models.kernels.top_n import offer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EXCLUDED", "HIT_COLUMNS", "gather", "neighbours"]

EXCLUDED = 0xFFFFFFFF
F, B, T, RETRIEVAL, LOUDEST, LOUDEST_AGE = 0, 1, 2, 3, 4, 5
HIT_COLUMNS = 6
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
    hits : float64[ring * slots, 6]
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
def gather(
    n_hits: int,
    hits: NDArray[np.float64],
    hit_rows: NDArray[np.int32],
    damp: NDArray[np.float64],
    orders: NDArray[np.int64],
    n_factor_rows: int,
    factor_rows: NDArray[np.int32],
    list_rows: NDArray[np.int32],
    marks: NDArray[np.int64],
    depth: int,
    call: int,
    seen: NDArray[np.int64],
    places: NDArray[np.int64],
    best: NDArray[np.float64],
    best_rows: NDArray[np.int32],
    rank_values: NDArray[np.float64],
    rows: NDArray[np.int32],
    features: NDArray[np.float32],
) -> int:
    """Union of the best rows of each source that are not excluded, as many of each as ``best`` has room for.

    Sources, in this order: sequence, transition, factors, and each half-life of popularity.

    Parameters
    ----------
    damp : float64[n_rows, 4]
        Heads of co-occurrence: of equal scores the item with more events comes first.
    places : int64[n_rows]
        ``call << 32 | number of the candidate``, as ``seen``.
    best, best_rows : float64[n_each], int32[n_each]
        Work space.
    rank_values : float64[n_each + 1]
        Feature of each rank; the last is that of a row that is not in the list.
    rows, features : int32[m], float32[n_features, m]
        Take the candidates, and for each source the feature of their rank.

    Returns
    -------
    int
        Number of candidates.
    """
    n = 0
    n_each = best.shape[0]
    n_sources = 3 + list_rows.shape[0]
    for source in range(n_sources):
        features[source, :] = rank_values[n_each]
    for source in range(n_sources):
        length = 0
        if source < 2:
            column = RETRIEVAL if source == 0 else T
            for mark in range(n_hits):
                score = hits[mark, column]
                if score > 0.0:
                    length = offer(hit_rows[mark], score, length, n_each, damp, orders, best, best_rows)
        elif source == 2:
            length = n_factor_rows
            best_rows[:length] = factor_rows[:length]
        else:
            h = source - 3
            for k in range(min(depth, marks[h, 0])):
                row = list_rows[h, k]
                if length < n_each and seen[row] != (call << 32 | EXCLUDED):
                    best_rows[length] = row
                    length += 1
        for rank in range(length):
            row = best_rows[rank]
            number = n
            if places[row] >> 32 == call:
                number = places[row] & 0xFFFFFFFF
            else:
                places[row] = (call << 32) | n
                rows[n] = row
                n += 1
            features[source, number] = rank_values[rank]
    return n
