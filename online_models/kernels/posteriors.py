"""Full-covariance logistic posteriors in natural parameters, and choices among them.

State of one offer: the lower triangle of the precision matrix Λ, and η = Λμ. One labelled context x adds::

    p = σ(μᵀx / √(1 + πv/8))      v = xᵀΣx      r = ω p(1 - p)
    ΔΛ = r x xᵀ                   Δη = x (ω (y - p) + r μᵀx)

which is the extended Kalman step in natural parameters: by Woodbury it equals μ += Σx(y - p)/(1 + rv) and
Σ -= Σx xᵀΣ r/(1 + rv). Increments lie on grids of powers of two, so sums are exact and commute.
Mean and covariance are solved when they are read.

No generator of random numbers lives here: draws come in as arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from online_models.kernels._jit import kernel

__all__ = ["GRID_ETA", "MAX_CONTEXT", "MAX_OP", "absorb", "choose", "observe", "solve"]

MAX_CONTEXT = 8.0  # of one entry, which should be of order 1
MAX_OP = 1e4  # of the scalars of one operation
MAX_PRECISION = 2.0**16  # of the bias: from here on the mean learns with a constant rate
_GRID_PRECISION = 2.0**30  # |Λ| <= 2**16 · 8² = 2**22, so sums are exact
GRID_ETA = 2.0**25  # |η| <= 2**27 likewise
_PI_8 = 0.39269908169872414
_MAX_LOG_ODDS = 35.0
_MAX_FLOOR_SHARE = 0.5  # of all choices may go to the floor


@kernel
def solve(
    row: int,
    precision: NDArray[np.float64],
    eta: NDArray[np.float64],
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> None:
    """Solve Σ = Λ⁻¹ and μ = Ση of one row by Cholesky, into ``covariance[row]`` and ``mean[row]``."""
    d = eta.shape[1]
    low = np.empty((d, d))
    for i in range(d):
        for j in range(i + 1):
            a = precision[row, i, j]
            for k in range(j):
                a -= low[i, k] * low[j, k]
            if i == j:
                low[i, i] = np.sqrt(
                    max(a, 1e-9)
                )  # Λ holds the prior, so this is a guard against rounding alone
            else:
                low[i, j] = a / low[j, j]
    # The inverse of the factor, in place, row by row.
    for i in range(d):
        for j in range(i):
            a = 0.0
            for k in range(j, i):
                a -= low[i, k] * low[k, j]
            low[i, j] = a / low[i, i]
        low[i, i] = 1.0 / low[i, i]
    for i in range(d):
        for j in range(i + 1):
            a = 0.0
            for k in range(i, d):
                a += low[k, i] * low[k, j]
            covariance[row, i, j] = a
            covariance[row, j, i] = a
    for i in range(d):
        a = 0.0
        for j in range(d):
            a += covariance[row, i, j] * eta[row, j]
        mean[row, i] = a


@kernel
def observe(
    row: int,
    x: NDArray[np.float64],
    y: float,
    weight: float,
    precision: NDArray[np.float64],
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    op: NDArray[np.float64],
) -> float:
    """Compute the operation of one labelled context; return the probability from before.

    ``op`` receives ``(r, c, ω, ωy, x...)`` with Δη = c x; entries of x that are not finite count as 0, the
    others are clipped to ±8. The posterior itself stays as it is: :func:`absorb` applies the operation.
    """
    d = mean.shape[1]
    for i in range(d):
        op[4 + i] = min(max(x[i], -MAX_CONTEXT), MAX_CONTEXT) if np.isfinite(x[i]) else 0.0
    s = 0.0
    v = 0.0
    for i in range(d):
        a = 0.0
        for j in range(d):
            a += covariance[row, i, j] * op[4 + j]
        s += mean[row, i] * op[4 + i]
        v += op[4 + i] * a
    z = min(max(s / np.sqrt(1.0 + _PI_8 * max(v, 0.0)), -_MAX_LOG_ODDS), _MAX_LOG_ODDS)
    p = 1.0 / (1.0 + np.exp(-z))
    r = weight * p * (1.0 - p) if precision[row, 0, 0] < MAX_PRECISION else 0.0
    op[0] = r
    op[1] = min(max(weight * (y - p) + r * s, -MAX_OP), MAX_OP)
    op[2] = weight
    op[3] = weight * y
    return float(p)


@kernel
def absorb(
    row: int,
    op: NDArray[np.float64],
    precision: NDArray[np.float64],
    eta: NDArray[np.float64],
    totals: NDArray[np.float64],
) -> None:
    """Add one operation to a row, and its weight and reward to the row's totals, in place."""
    d = eta.shape[1]
    for i in range(d):
        eta[row, i] += np.rint(op[1] * op[4 + i] * GRID_ETA) / GRID_ETA
        rx = op[0] * op[4 + i]
        for j in range(i + 1):
            precision[row, i, j] += np.rint(rx * op[4 + j] * _GRID_PRECISION) / _GRID_PRECISION
    totals[row, 0] += op[2]
    totals[row, 1] += op[3]


@kernel
def choose(
    rows: NDArray[np.int64],
    x: NDArray[np.float64],
    money: NDArray[np.float64],
    alpha: float,
    floor: float,
    normals: NDArray[np.float64],
    uniforms: NDArray[np.float64],
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    out: NDArray[np.float64],
) -> int:
    """Estimate the policy's distribution over K offers, floor it and draw one; return its position.

    Parameters
    ----------
    rows : int64[K]
        Row of each offer, -1 for the offer "nothing", whose utility is 0.
    money : float64[2, K]
        Value and cost of each offer; its utility is p · value - cost.
    normals : float64[S, K]
        Standard normal draws.
    uniforms : float64[S + 1]
        One draw for the ties of each draw, and the last for the action.
    out : float64[5, K]
        Receives propensity, the part of it that comes from the floor, probability averaged over the
        posterior, deviation of the log odds (without alpha), mean utility.
    """
    n = rows.shape[0]
    d = x.shape[0]
    draws = normals.shape[0]
    centre = np.zeros(n)
    share = np.zeros(n)
    clean = np.empty(d)
    for i in range(d):
        clean[i] = min(max(x[i], -MAX_CONTEXT), MAX_CONTEXT) if np.isfinite(x[i]) else 0.0
    for a in range(n):
        out[2, a] = 0.0
        out[3, a] = 0.0
        out[4, a] = 0.0
        row = rows[a]
        if row < 0:
            continue
        s = 0.0
        v = 0.0
        for i in range(d):
            t = 0.0
            for j in range(d):
                t += covariance[row, i, j] * clean[j]
            s += mean[row, i] * clean[i]
            v += clean[i] * t
        v = max(v, 0.0)
        centre[a] = s
        z = min(max(s / np.sqrt(1.0 + _PI_8 * v), -_MAX_LOG_ODDS), _MAX_LOG_ODDS)
        out[2, a] = 1.0 / (1.0 + np.exp(-z))
        out[3, a] = np.sqrt(v)
        out[4, a] = money[0, a] * out[2, a] - money[1, a]
    utilities = np.empty(n)
    for draw in range(draws):
        best = -np.inf
        ties = 0
        for a in range(n):
            u = 0.0
            if rows[a] >= 0:
                z = centre[a] + alpha * out[3, a] * normals[draw, a]
                z = min(max(z, -_MAX_LOG_ODDS), _MAX_LOG_ODDS)
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
