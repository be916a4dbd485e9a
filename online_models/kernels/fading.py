"""Sums that fade with age and still add up to the last bit.

Age is event time in half-lives (:mod:`online_models.fading`), cut into eras of ``ERA`` half-lives. A row
keeps one sum of its newest era and one of the era before, each relative to the beginning of its era, so an
increment of age a enters as ``increment * 2**(a - era * ERA)`` and nothing that was added ever changes. What
is older than the era before counts for nothing: less than ``2**-ERA`` of its weight was left.

Increments are rounded to a grid of powers of two before they are added, so sums are exact and commute.
This is forward decay (Cormode, Shkapenyuk, Srivastava, Xu, ICDE 2009) with a window.
"""

from __future__ import annotations

import numpy as np

from online_models.kernels._jit import part

__all__ = ["ERA", "era_of", "growth", "shares"]

ERA = 6.0  # half-lives; an increment grows by less than 2**6, so six bits of the grid are its price
_STEP = 2.0**-ERA


@part
def era_of(age: float) -> float:
    """Era of an age."""
    return float(np.floor(age / ERA))


@part
def growth(age: float, era: float) -> float:
    """What an increment of weight 1 at this age adds to a sum of its era."""
    return float(np.exp2(age - era * ERA))


@part
def shares(row_era: float, age: float) -> tuple[float, float]:
    """Factors of a row's newest and older sum at a reading age.

    Read before the row's newest era began, they are those of its beginning.
    """
    era = era_of(age)
    if row_era > era:
        return 1.0, _STEP
    fade = np.exp2(era * ERA - age)
    if row_era == era:
        return float(fade), float(fade * _STEP)
    if row_era == era - 1.0:
        return float(fade * _STEP), 0.0
    return 0.0, 0.0
