"""The best few of many scored rows, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels._jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["best_places", "find_reference", "offer", "place_of"]

DAMP = 3


@kernel
def offer(
    row: int,
    score: float,
    length: int,
    n: int,
    heads: NDArray[np.float64],
    orders: NDArray[np.int64],
    best: NDArray[np.float64],
    best_rows: NDArray[np.int32],
) -> int:
    """Insert a row into the list of the best ``n`` when it belongs there; the new length.

    Of equal scores the item with more events (the smaller damping) comes first, then the lower hash of
    the id.
    """
    if length == n and score < best[n - 1]:
        return length
    place = length
    while place > 0:
        other = best_rows[place - 1]
        if score < best[place - 1]:
            break
        if score == best[place - 1]:
            if heads[row, DAMP] > heads[other, DAMP]:
                break
            if heads[row, DAMP] == heads[other, DAMP] and orders[row] > orders[other]:
                break
        if place < n:
            best[place] = best[place - 1]
            best_rows[place] = other
        place -= 1
    if place >= n:
        return length
    best[place] = score
    best_rows[place] = row
    return min(length + 1, n)


@kernel
def _precedes(
    a: int, b: int, scores: NDArray[np.float64], popularity: NDArray[np.float64], orders: NDArray[np.int64]
) -> bool:
    if scores[a] != scores[b]:
        return bool(scores[a] > scores[b])
    if popularity[a] != popularity[b]:
        return bool(popularity[a] > popularity[b])
    return bool(orders[a] < orders[b])


@kernel
def best_places(
    n: int,
    scores: NDArray[np.float64],
    popularity: NDArray[np.float64],
    orders: NDArray[np.int64],
    refs: NDArray[np.int64],
    generation: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Places of the best ``n`` candidates, best first: by score, then popularity, then hash of the id.

    Candidates whose row passed to another item since are left out.
    """
    best = np.empty(min(n, scores.shape[0]), np.int64)
    length = 0
    for candidate in range(scores.shape[0]):
        if generation[refs[candidate] & 0xFFFFFFFF] != refs[candidate] >> 32:
            continue
        if length == best.shape[0] and not _precedes(candidate, best[length - 1], scores, popularity, orders):
            continue
        place = min(length, best.shape[0] - 1)
        while place > 0 and _precedes(candidate, best[place - 1], scores, popularity, orders):
            best[place] = best[place - 1]
            place -= 1
        best[place] = candidate
        length = min(length + 1, best.shape[0])
    return best[:length]


@kernel
def find_reference(reference: int, refs: NDArray[np.int64]) -> int:
    """Place of a reference among the candidates, −1 when it is not there."""
    for candidate in range(refs.shape[0]):
        if refs[candidate] == reference:
            return candidate
    return -1


@kernel
def place_of(
    candidate: int, scores: NDArray[np.float64], popularity: NDArray[np.float64], orders: NDArray[np.int64]
) -> int:
    """How many candidates rank above one."""
    above = 0
    for other in range(scores.shape[0]):
        if other != candidate and _precedes(other, candidate, scores, popularity, orders):
            above += 1
    return above
