"""Small symmetric systems, solved in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels._jit import part

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["solve_in_place"]

_MIN_PIVOT = 1e-6


@part
def solve_in_place(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Solve ``a x = b`` in place from the upper triangle; False when ``a`` is not positive definite.

    The factor U of ``a = Uᵀ U`` is found row by row, so that the inner loops run along memory.
    """
    n = b.shape[0]
    for j in range(n):
        pivot = a[j, j]
        if not pivot > _MIN_PIVOT:
            return False
        root = np.sqrt(pivot)
        a[j, j] = root
        for k in range(j + 1, n):
            a[j, k] /= root
        b[j] /= root
        for i in range(j + 1, n):
            share = a[j, i]
            for k in range(i, n):
                a[i, k] -= share * a[j, k]
            b[i] -= share * b[j]
    for i in range(n - 1, -1, -1):
        t = b[i]
        for k in range(i + 1, n):
            t -= a[i, k] * b[k]
        b[i] = t / a[i, i]
    return True
