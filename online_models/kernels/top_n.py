"""The best few of many scored rows, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels._jit import kernel, part

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["best_places", "find_reference", "place_of", "smallest"]


@part
def smallest(k: int, values: NDArray[np.float64]) -> float:
    """Return the k-th smallest value, k from 0; reorders the values.

    Hoare's selection by hand: numpy's costs 8 s of compiling.
    """
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return float(values[k])


@part
def _precedes(a: int, b: int, numbers: NDArray[np.float64], names: NDArray[np.int64]) -> bool:
    if numbers[0, a] != numbers[0, b]:
        return bool(numbers[0, a] > numbers[0, b])
    if numbers[1, a] != numbers[1, b]:
        return bool(numbers[1, a] > numbers[1, b])
    return bool(names[1, a] < names[1, b])


@kernel
def best_places(
    wanted: int,
    n: int,
    numbers: NDArray[np.float64],
    names: NDArray[np.int64],
    generation: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Places of the best of ``n`` candidates, best first: by score, then popularity, then hash of the id.

    Candidates whose row passed to another item since are left out.

    Parameters
    ----------
    numbers, names
        As :func:`online_models.kernels.proposing.propose` wrote them.
    """
    best = np.empty(min(wanted, n), np.int64)
    length = 0
    for candidate in range(n):
        if length == best.shape[0] and not _precedes(candidate, best[length - 1], numbers, names):
            continue
        reference = names[0, candidate]
        if reference >= 0 and generation[reference & 0xFFFFFFFF] != reference >> 32:
            continue
        place = min(length, best.shape[0] - 1)
        while place > 0 and _precedes(candidate, best[place - 1], numbers, names):
            best[place] = best[place - 1]
            place -= 1
        best[place] = candidate
        length = min(length + 1, best.shape[0])
    return best[:length]


@kernel
def find_reference(reference: int, n: int, names: NDArray[np.int64]) -> int:
    """Place of a reference among the ``n`` candidates, −1 when it is not there."""
    for candidate in range(n):
        if names[0, candidate] == reference:
            return candidate
    return -1


@kernel
def place_of(candidate: int, n: int, numbers: NDArray[np.float64], names: NDArray[np.int64]) -> int:
    """How many candidates rank above one."""
    above = 0
    for other in range(n):
        if other != candidate and _precedes(other, candidate, numbers, names):
            above += 1
    return above
