"""One event's candidates from all sources, with features and scores: the whole proposal in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels import factor_scores
from online_models.kernels._jit import kernel
from online_models.kernels.ranker import SCORE_OFFSET, SCORE_SCALE, describe, describe_newcomer
from online_models.kernels.retrieval import EXCLUDED, LOUDEST_AGE, gather, neighbours, of_a_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["propose"]


@kernel
def propose(
    history: NDArray[np.int32],
    n_history: int,
    new_only: bool,
    excluded: NDArray[np.int32],
    at: float,
    gap: int,
    length: int,
    begins: bool,
    optional_rows: NDArray[np.int32],
    optional_scores: NDArray[np.float64],
    n_optional: NDArray[np.int64],
    newcomers: NDArray[np.float64],
    call: int,
    features: NDArray[np.float32],
    numbers: NDArray[np.float64],
    names: NDArray[np.int64],
    orders: NDArray[np.int64],
    ages: NDArray[np.float64],
    settings: NDArray[np.float64],
    generation: NDArray[np.int64],
    refs: NDArray[np.int32],
    cells: NDArray[np.float32],
    heads: NDArray[np.float64],
    content_settings: NDArray[np.float64],
    content_refs: NDArray[np.int32],
    content_cells: NDArray[np.float32],
    content_heads: NDArray[np.float64],
    rates: NDArray[np.float64],
    counts: NDArray[np.float64],
    list_rows: NDArray[np.int32],
    lengths: NDArray[np.int64],
    depth: int,
    decay: NDArray[np.float64],
    factor_settings: NDArray[np.float64],
    table: NDArray[np.float32],
    gram: NDArray[np.float64],
    columns: NDArray[np.float32],
    shown: NDArray[np.int32],
    scan: NDArray[np.float32],
    weights: NDArray[np.float64],
    rank_values: NDArray[np.float64],
    seen: NDArray[np.int64],
    hits: NDArray[np.float64],
    hit_rows: NDArray[np.int32],
    values: NDArray[np.float64],
    places: NDArray[np.int32],
    best: NDArray[np.float64],
    best_rows: NDArray[np.int32],
    best_marks: NDArray[np.int32],
    rows: NDArray[np.int32],
    marks: NDArray[np.int32],
) -> int:
    """Find and score the candidates of one event; return how many there are.

    Parameters
    ----------
    history : int32[64]
        Rows of the user's items, newest first, −1 for unknown ones; the first ``n_history`` are in use.
    new_only : bool
        Whether the items of the history are excluded, as those of ``excluded`` are.
    begins : bool
        Whether a visit begins: then what visits begin with is proposed, too.
    optional_rows, optional_scores, n_optional : int32[O, k], float64[O, k], int64[O]
        What the optional sources list, best first, and how many each.
    newcomers : float64[j]
        How well items suit that have no row; they become the last candidates.
    features : float32[n_features, m]
        Takes the features, one candidate a column.
    numbers : float64[2, m]
        Takes scores and popularity.
    names : int64[3, m]
        Takes references, hashes of ids, and the place of the loudest history item, −1 for none.
        The reference of the k-th newcomer is −(k + 1), and its place stands for the hash.
    orders, generation; ages, settings, refs, cells, heads
        Of the vocabulary; of co-occurrence.
    content_settings, content_refs, content_cells, content_heads
        Of the content model; without one they are empty.
    rates, counts, list_rows, lengths, depth
        Of popularity.
    decay, factor_settings, table, gram, columns, shown, scan
        Of the factor model; without one they are empty.
    seen, hits, hit_rows, values, places, best, best_rows, best_marks, rows, marks
        Work space.
    """
    if new_only:
        for age in range(n_history):
            if history[age] >= 0:
                seen[history[age]] = (call << 32) | EXCLUDED
    for k in range(excluded.shape[0]):
        if excluded[k] >= 0:
            seen[excluded[k]] = (call << 32) | EXCLUDED
    n_hits = neighbours(
        history, n_history, at, ages, settings, generation, refs, cells, heads, call, seen, hits, hit_rows
    )
    n_hits = of_a_kind(
        history,
        n_history,
        at,
        ages,
        content_settings,
        generation,
        content_refs,
        content_cells,
        content_heads,
        call,
        seen,
        n_hits,
        hits,
        hit_rows,
    )
    p = np.empty(gram.shape[1], np.float32)
    n_found = 0
    known = 0
    if p.shape[0] > 0:
        w0, lambda_ = factor_settings[0], factor_settings[1]
        known = factor_scores.user(history[:n_history], decay, w0, lambda_, table, gram, p)
    if known > 0 and shown[0] <= scan.shape[0]:
        n_found = factor_scores.top(
            p, (call << 32) | EXCLUDED, seen, orders, columns, shown, scan, best_rows, best
        )
    n = gather(
        n_hits,
        hits,
        hit_rows,
        heads,
        orders,
        n_found,
        best_rows,
        list_rows,
        lengths,
        depth,
        optional_rows,
        n_optional,
        begins,
        call,
        seen,
        values,
        best_marks,
        places,
        rank_values,
        rows,
        marks,
        features,
    )
    factor_score = np.zeros(n)
    if known > 0:
        factor_scores.score(p, rows[:n], table, factor_score)
    last = features.shape[0] - 1
    features[last, :n] = 0.0
    first = last - optional_rows.shape[0]
    for source in range(optional_rows.shape[0]):
        features[first + source, :n] = SCORE_SCALE * np.log(SCORE_OFFSET)
        for k in range(n_optional[source]):
            row = optional_rows[source, k]
            mark = seen[row] & 0xFFFFFFFF
            if seen[row] >> 32 == call and mark != EXCLUDED and places[mark] >= 0:
                score = SCORE_SCALE * np.log(SCORE_OFFSET + optional_scores[source, k])
                features[first + source, places[mark]] = score
    describe(
        n,
        at,
        gap,
        length,
        begins,
        rows,
        marks,
        hits,
        factor_score,
        rates,
        counts,
        weights,
        features,
        numbers[0],
        numbers[1],
    )
    for c in range(n):
        row = rows[c]
        names[0, c] = generation[row] << 32 | row
        names[1, c] = orders[row]
        names[2, c] = int(hits[marks[c], LOUDEST_AGE])
    for k in range(newcomers.shape[0]):
        describe_newcomer(
            k, n, gap, length, begins, newcomers[k], rates.shape[0], rank_values, weights, features, numbers
        )
        names[0, n] = -k - 1
        names[1, n] = k
        names[2, n] = -1
        n += 1
    return n
