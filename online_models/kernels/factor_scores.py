"""Reading the streaming factor model: a user's vector, scores, the best items, explanations.

The table, the Gram matrices, ``columns`` and ``shown`` are those of :mod:`online_models.kernels.factors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels._jit import kernel, part
from online_models.kernels.cholesky import solve_in_place

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_FACTOR", "plausible", "score", "terms", "top", "user", "user_system"]

# numba: float(x) of a float32 stays a float32, so values of the table are widened by np.float64(x).
MAX_FACTOR = 8.0  # vectors of events that weigh 1 stay far below
_BLOCK = 256  # two of them give the fifty best a bound
_LANES = 32  # divides the block
_HALVINGS = 10


@part
def user_system(
    rows: NDArray[np.int32],
    decay: NDArray[np.float64],
    w0: float,
    table: NDArray[np.float32],
    at_q: int,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
) -> int:
    """Add the items of a user, one for each weight, to the system ``a p = b``; return how many were known."""
    n = b.shape[0]
    at_count = table.shape[1] - 2
    size = min(rows.shape[0], decay.shape[0])
    vectors = np.empty((size, n))
    ages = np.empty(size, np.int64)
    known = 0
    for at in range(size):  # first alone: the rows come from memory side by side
        row = rows[at]
        if row < 0 or (table[row, at_count] == 0.0 and table[row, at_count + 1] == 0.0):
            continue
        ages[known] = at
        for k in range(n):
            vectors[known, k] = table[row, at_q + k]
        known += 1
    for at in range(known):
        w = decay[ages[at]]
        q = vectors[at]
        for k in range(n):
            b[k] += (w + w0) * q[k]
            wq = w * q[k]
            for m in range(n):  # the whole row: half of it has no length that vectors like
                a[k, m] += wq * q[m]
    return known


@kernel
def user(
    rows: NDArray[np.int32],
    decay: NDArray[np.float64],
    w0: float,
    lambda_: float,
    table: NDArray[np.float32],
    gram: NDArray[np.float64],
    p: NDArray[np.float32],
) -> int:
    """Fold a user in from the rows of their items, newest first, into ``p``; return how many were known."""
    n = p.shape[0]
    at_q = n * (n + 1) // 2 + n
    a = w0 * gram[0]
    b = np.zeros(n)
    for k in range(n):
        a[k, k] += lambda_
    known = user_system(rows, decay, w0, table, at_q, a, b)
    if known == 0 or not solve_in_place(a, b):
        return 0
    for k in range(n):
        p[k] = min(max(b[k], -MAX_FACTOR), MAX_FACTOR)
    return known


@kernel
def terms(
    rows: NDArray[np.int32],
    target: int,
    decay: NDArray[np.float64],
    w0: float,
    lambda_: float,
    table: NDArray[np.float32],
    gram: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Divide the score of the target among the user's items: (w_a + w0) · q_targetᵀ A⁻¹ q_a, exactly."""
    n = gram.shape[1]
    at_q = n * (n + 1) // 2 + n
    at_count = table.shape[1] - 2
    a = w0 * gram[0]
    b = np.zeros(n)
    for k in range(n):
        a[k, k] += lambda_
    known = user_system(rows, decay, w0, table, at_q, a, b)
    for k in range(n):
        b[k] = table[target, at_q + k]
    for at in range(out.shape[0]):
        out[at] = 0.0
    if known == 0 or not solve_in_place(a, b):
        return
    for at in range(min(rows.shape[0], decay.shape[0])):
        row = rows[at]
        if row < 0 or (table[row, at_count] == 0.0 and table[row, at_count + 1] == 0.0):
            continue
        dot = 0.0
        for k in range(n):
            dot += b[k] * table[row, at_q + k]
        out[at] = (decay[at] + w0) * dot


@part
def plausible(p: NDArray[np.float32]) -> bool:
    """Whether a vector can have come from a solve: finite and within the bound of factors."""
    largest = 0.0
    for k in range(p.shape[0]):
        if np.isnan(p[k]):
            return False
        largest = max(largest, abs(p[k]))
    return largest <= MAX_FACTOR


@kernel
def score(
    p: NDArray[np.float32], rows: NDArray[np.int32], table: NDArray[np.float32], out: NDArray[np.float64]
) -> None:
    """Scores p·q of rows; 0 where a row has no solved vector."""
    n = p.shape[0]
    at_q = n * (n + 1) // 2 + n
    solved = table.shape[1] - 1
    for at in range(rows.shape[0]):
        row = rows[at]
        out[at] = 0.0
        if row < 0 or table[row, solved] == 0.0:
            continue
        dot = 0.0
        for k in range(n):
            dot += np.float64(p[k]) * np.float64(table[row, at_q + k])
        out[at] = dot


@part
def _add_scaled(factor: float, values: NDArray[np.float32], total: NDArray[np.float32]) -> None:
    for at in range(values.shape[0]):
        total[at] += factor * values[at]


@part
def _add_four(
    p: NDArray[np.float32], k: int, columns: NDArray[np.float32], start: int, total: NDArray[np.float32]
) -> None:
    """Four factors in one pass over the block; each sum is taken in the order of the factors."""
    a, b, c, d = p[k], p[k + 1], p[k + 2], p[k + 3]
    end = start + total.shape[0]
    first, second = columns[k, start:end], columns[k + 1, start:end]
    third, fourth = columns[k + 2, start:end], columns[k + 3, start:end]
    for at in range(total.shape[0]):
        total[at] = (((total[at] + a * first[at]) + b * second[at]) + c * third[at]) + d * fourth[at]


@part
def _score_all(
    p: NDArray[np.float32], n_rows: int, columns: NDArray[np.float32], scores: NDArray[np.float32]
) -> None:
    """Scores of the first ``n_rows`` columns, the sums of many items side by side."""
    n = p.shape[0]
    for start in range(0, n_rows, _BLOCK):
        end = min(start + _BLOCK, n_rows)
        block = scores[start:end]
        block[:] = np.float32(0.0)
        for k in range(0, n - n % 4, 4):
            _add_four(p, k, columns, start, block)
        for k in range(n - n % 4, n):
            _add_scaled(p[k], columns[k, start:end], block)


@part
def _best_of_groups(scores: NDArray[np.float32], best: NDArray[np.float32]) -> None:
    """Best score of each group: the rows of one block that share a lane."""
    rest = np.empty(_BLOCK // 2, np.float32)
    for block in range(best.shape[0]):
        low = block * _BLOCK
        high = low + _BLOCK // 2
        for k in range(_BLOCK // 2):
            rest[k] = max(scores[low + k], scores[high + k])
        width = _BLOCK // 4
        while width >= _LANES:
            for k in range(width):
                rest[k] = max(rest[k], rest[width + k])
            width //= 2
        best[block] = rest[:_LANES]


@part
def _bound(wanted: int, best: NDArray[np.float32]) -> float:
    """A score that at least ``wanted`` groups reach, and few more: so do as many rows."""
    values = best.reshape(best.size)
    if values.shape[0] < wanted:
        return -np.inf
    low = values[0]
    high = values[0]
    for value in values:
        low = min(low, value)
        high = max(high, value)
    for _ in range(_HALVINGS):
        middle = np.float32(0.5) * (low + high)
        reach = 0
        for k in range(values.shape[0]):
            reach += values[k] >= middle
        if reach >= wanted:
            low = middle
        else:
            high = middle
    return float(low)


@part
def _insert(
    row: int,
    score: float,
    found: int,
    order: NDArray[np.int64],
    rows: NDArray[np.int32],
    best: NDArray[np.float64],
) -> int:
    """Put a row into its place among the best found so far, if it has one; return how many there are."""
    wanted = rows.shape[0]
    at = found
    while at > 0 and (best[at - 1] < score or (best[at - 1] == score and order[rows[at - 1]] > order[row])):
        if at < wanted:
            best[at] = best[at - 1]
            rows[at] = rows[at - 1]
        at -= 1
    if at == wanted:
        return found
    best[at] = score
    rows[at] = row
    return int(min(found + 1, wanted))


@part
def _reaching(
    bound: float,
    groups: NDArray[np.float32],
    excluded: int,
    seen: NDArray[np.int64],
    order: NDArray[np.int64],
    shown: NDArray[np.int32],
    scores: NDArray[np.float32],
    rows: NDArray[np.int32],
    best: NDArray[np.float64],
) -> int:
    """Find the best rows whose scores reach a bound, best first; return how many."""
    found = 0
    for block in range(groups.shape[0]):
        for lane in range(_LANES):
            if groups[block, lane] < bound:
                continue
            for place in range(block * _BLOCK + lane, (block + 1) * _BLOCK, _LANES):
                if scores[place] >= bound and seen[shown[1 + place]] != excluded:
                    found = _insert(shown[1 + place], scores[place], found, order, rows, best)
    for place in range(groups.shape[0] * _BLOCK, shown[0]):
        if scores[place] >= bound and seen[shown[1 + place]] != excluded:
            found = _insert(shown[1 + place], scores[place], found, order, rows, best)
    return found


@kernel
def top(
    p: NDArray[np.float32],
    excluded: int,
    seen: NDArray[np.int64],
    order: NDArray[np.int64],
    columns: NDArray[np.float32],
    shown: NDArray[np.int32],
    scores: NDArray[np.float32],
    rows: NDArray[np.int32],
    best: NDArray[np.float64],
) -> int:
    """Find the best of the rows that are shown, best first, ties by the hash of the id; return how many.

    Few rows reach the bound, so few are sorted. Rows that are excluded count in the bound; when
    that leaves too few, all are looked at.

    Parameters
    ----------
    excluded, seen : int, int64[n_rows]
        Rows with this mark are left out.
    scores : float32[at least shown[0]]
        Work space.
    rows, best : int32[wanted], float64[wanted]
        Take the rows and their scores.
    """
    n = int(shown[0])
    _score_all(p, n, columns, scores)
    groups = np.empty((n // _BLOCK, _LANES), np.float32)
    _best_of_groups(scores, groups)
    bound = _bound(rows.shape[0], groups)
    found = _reaching(bound, groups, excluded, seen, order, shown, scores, rows, best)
    if found < rows.shape[0] and bound > -np.inf:
        found = _reaching(-np.inf, groups, excluded, seen, order, shown, scores, rows, best)
    return found
