"""Sums that fade with age and still add up to the last bit.

Age is event time in half-lives (:mod:`online_models.fading`), cut into eras of ``ERA`` half-lives. A row
keeps one sum of its newest era and one of the era before, each relative to the beginning of its era, so an
increment of age a enters as ``increment * 2**(a - era * ERA)`` and nothing that was added ever changes. What
is older than the era before counts for nothing: less than ``2**-ERA`` of its weight was left.

Increments are rounded to a grid of powers of two before they are added, so sums are exact and commute.
This is forward decay (Cormode, Shkapenyuk, Srivastava, Xu, ICDE 2009) with a window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_models.kernels._jit import part

__all__ = ["ERA", "era_of", "growth", "roll", "shares"]

ERA = 6.0  # half-lives; an increment grows by less than 2**6, so six bits of the grid are its price
_STEP = 2.0**-ERA


@part
def era_of(age: float) -> float:
    """Era of an age."""
    return float(np.floor(age / ERA))


@part
def growth(age: float) -> float:
    """What an increment of weight 1 at this age adds to a sum of its era."""
    return float(np.exp2(age - era_of(age) * ERA))


@part
def shares(row_era: float, era: float, grown: float) -> tuple[float, float]:
    """Factors of a row's newest and older sum, read in an era at an age that has grown so much.

    Read before the row's newest era began, they are those of its beginning.
    """
    if row_era > era:
        return 1.0, _STEP
    fade = 1.0 / grown
    if row_era == era:
        return fade, fade * _STEP
    if row_era == era - 1.0:
        return fade * _STEP, 0.0
    return 0.0, 0.0


@part
def roll(row: int, era: float, width: int, column: int, table: NDArray[Any]) -> int:
    """Bring a row to an era; return the first column of the sum that takes its increments, -1 for none.

    The row's sums are ``table[row, :width]`` and the next ``width``; ``column`` holds its era.
    """
    behind = era - table[row, column]
    if behind > 0.0:
        for k in range(width):
            # Two statements: of an expression with 0.0 the compiler makes a float, which loses bits of a sum.
            if behind == 1.0:
                table[row, width + k] = table[row, k]
            else:
                table[row, width + k] = 0
            table[row, k] = 0
        table[row, column] = era
        return 0
    if behind == 0.0:
        return 0
    return width if behind == -1.0 else -1
