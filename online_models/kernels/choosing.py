"""A policy's distribution over offers by Monte Carlo, lifted to a floor, and one draw from it.

No generator of random numbers lives here: draws come in as arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from online_models.kernels._jit import kernel

__all__ = ["MAX_LOG_ODDS", "choose"]

MAX_LOG_ODDS = 35.0  # σ(35) is 1 - 6e-16
_PI_8 = 0.39269908169872414
_MAX_FLOOR_SHARE = 0.5  # of all choices may go to the floor


@kernel
def choose(
    centre: NDArray[np.float64],
    variance: NDArray[np.float64],
    money: NDArray[np.float64],
    alpha: float,
    floor: float,
    normals: NDArray[np.float64],
    uniforms: NDArray[np.float64],
    out: NDArray[np.float64],
) -> int:
    """Estimate the policy's distribution over K offers, floor it and draw one; return its position.

    Parameters
    ----------
    centre, variance : float64[K]
        Posterior mean and variance of each offer's log odds.
    money : float64[2, K]
        Value and cost of each offer; its utility is p · value - cost. Both are 0 for "nothing".
    normals : float64[S, K]
        Standard normal draws.
    uniforms : float64[S + 1]
        One draw for the ties of each draw, and the last for the action.
    out : float64[5, K]
        Receives propensity, the part of it that comes from the floor, probability averaged over the
        posterior, deviation of the log odds (without alpha), mean utility.
    """
    n = centre.shape[0]
    draws = normals.shape[0]
    share = np.zeros(n)
    for a in range(n):
        v = max(variance[a], 0.0)
        z = min(max(centre[a] / np.sqrt(1.0 + _PI_8 * v), -MAX_LOG_ODDS), MAX_LOG_ODDS)
        out[2, a] = 1.0 / (1.0 + np.exp(-z))
        out[3, a] = np.sqrt(v)
        out[4, a] = money[0, a] * out[2, a] - money[1, a]
    utilities = np.empty(n)
    for draw in range(draws):
        best = -np.inf
        ties = 0
        for a in range(n):
            z = centre[a] + alpha * out[3, a] * normals[draw, a]
            z = min(max(z, -MAX_LOG_ODDS), MAX_LOG_ODDS)
            u = money[0, a] / (1.0 + np.exp(-z)) - money[1, a]
            utilities[a] = u
            if u > best:
                best = u
                ties = 1
            elif u == best:
                ties += 1
        nth = min(int(uniforms[draw] * ties), ties - 1)
        for a in range(n):
            if utilities[a] == best:
                if nth == 0:
                    share[a] += 1.0
                    break
                nth -= 1
    least = 1.0
    for a in range(n):
        share[a] /= draws
        least = min(least, share[a])
    # The smallest share of uniform choice that lifts the least likely offer to the floor.
    target = min(floor, _MAX_FLOOR_SHARE / n)
    mixed = (target - least) / (1.0 / n - least) if least < target else 0.0
    total = 0.0
    chosen = n - 1
    found = False
    for a in range(n):
        out[0, a] = (1.0 - mixed) * share[a] + mixed / n
        out[1, a] = mixed / n
        total += out[0, a]
        if not found and uniforms[draws] < total:
            chosen = a
            found = True
    return int(chosen)
