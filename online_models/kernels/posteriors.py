"""Full-covariance logistic posteriors in natural parameters, under priors that are posteriors themselves.

What the outcomes of one offer, of a category or of all offers say is a sum of increments ΔΛ and Δη that fades
with age (:mod:`online_models.kernels.fading`). A posterior is solved when it is read::

    Λ = diag(1 / (s + Σ_parent,ii)) + ΣΔΛ          η = m_parent / (s + Σ_parent,ii) + ΣΔη          μ = Λ⁻¹ η

One labelled context x adds::

    p = σ(μᵀx / √(1 + πv/8))      v = xᵀΣx        r = ω p(1 - p)
    ΔΛ = r x xᵀ                   Δη = x (ω (y - p) + r μᵀx)

which is the extended Kalman step in natural parameters: by Woodbury it equals μ += Σx(y - p)/(1 + rv) and
Σ -= Σx xᵀΣ r/(1 + rv). Sums are 64-bit integers that count units of a power of two each, so they are exact
and commute.

A row is [Λ | η | Λ of the era before | η of the era before | era | pulls, rewards | number of its last
operation], each Λ as its lower triangle, row by row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from online_models.kernels._jit import kernel, part
from online_models.kernels.choosing import MAX_LOG_ODDS
from online_models.kernels.fading import era_of, growth, roll, shares

__all__ = [
    "GRID_ETA",
    "GRID_PRECISION",
    "GRID_TOTAL",
    "MAX_CONTEXT",
    "MAX_OP",
    "OP_HEAD",
    "TAIL",
    "absorb",
    "observe",
    "score",
    "solve",
]

MAX_CONTEXT = 8.0  # of one entry, which should be of order 1
MAX_OP = 1e4  # of the scalars of one operation, before they grow with age
OP_HEAD = 5  # age, r, c, ω, ωy; the context follows
TAIL = 4  # era, pulls, rewards, number of the last operation
MAX_PRECISION = 2.0**16  # of the bias: from here on the mean learns with a constant rate
GRID_PRECISION = 2.0**33  # units of 1; |Λ| <= 2**16 · 8² · 2**6 = 2**28
GRID_ETA = 2.0**28  # |η| <= 2**33 likewise
GRID_TOTAL = 2.0**20  # of pulls and rewards
_UNIT_PRECISION, _UNIT_ETA = 2.0**-33, 2.0**-28
_LARGEST = 2.0**61  # of one increment: what is more, no operation within its bounds adds
_PI_8 = 0.39269908169872414


@kernel
def solve(
    rows: NDArray[np.int64],
    parents: NDArray[np.int64],
    spreads: NDArray[np.float64],
    age: float,
    table: NDArray[np.int64],
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    precision: NDArray[np.float64],
) -> None:
    """Solve the posteriors of some rows at an age, by Cholesky, each after its parent.

    ``mean``, ``covariance`` and ``precision``, that of the bias, have one place more than there are rows.
    Place 0 holds the prior of all; row n goes to place n + 1, and ``parents[n]`` is the place of its parent.
    """
    d = mean.shape[1]
    low = np.empty((d, d))
    eta = np.empty(d)
    width = d * (d + 1) // 2 + d
    era = era_of(age)
    grown = growth(age)
    for n in range(rows.shape[0]):
        row = rows[n]
        parent = parents[n]
        new, old = shares(float(table[row, 2 * width]), era, grown)
        k = 0
        for i in range(d):
            for j in range(i + 1):
                low[i, j] = (new * table[row, k] + old * table[row, width + k]) * _UNIT_PRECISION
                k += 1
        for i in range(d):
            prior = 1.0 / (spreads[n] + covariance[parent, i, i])
            low[i, i] += prior
            data = (new * table[row, k] + old * table[row, width + k]) * _UNIT_ETA
            eta[i] = prior * mean[parent, i] + data
            k += 1
        precision[n + 1] = low[0, 0]
        for i in range(d):
            for j in range(i + 1):
                a = low[i, j]
                for m in range(j):
                    a -= low[i, m] * low[j, m]
                if i == j:
                    low[i, i] = np.sqrt(
                        max(a, 1e-9)
                    )  # Λ holds a prior, so this guards against rounding alone
                else:
                    low[i, j] = a / low[j, j]
        # The inverse of the factor, in place, row by row.
        for i in range(d):
            for j in range(i):
                a = 0.0
                for m in range(j, i):
                    a -= low[i, m] * low[m, j]
                low[i, j] = a / low[i, i]
            low[i, i] = 1.0 / low[i, i]
        for i in range(d):
            for j in range(i + 1):
                a = 0.0
                for m in range(i, d):
                    a += low[m, i] * low[m, j]
                covariance[n + 1, i, j] = a
                covariance[n + 1, j, i] = a
        for i in range(d):
            a = 0.0
            for j in range(d):
                a += covariance[n + 1, i, j] * eta[j]
            mean[n + 1, i] = a


@kernel
def score(
    places: NDArray[np.int64],
    x: NDArray[np.float64],
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    centre: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> None:
    """Mean and variance of the log odds at some places, in a clean context; 0 at place -1."""
    d = x.shape[0]
    for a in range(places.shape[0]):
        centre[a] = 0.0
        variance[a] = 0.0
        place = places[a]
        if place < 0:
            continue
        for i in range(d):
            t = 0.0
            for j in range(d):
                t += covariance[place, i, j] * x[j]
            centre[a] += mean[place, i] * x[i]
            variance[a] += x[i] * t


@kernel
def observe(
    centre: float,
    variance: float,
    precision: float,
    x: NDArray[np.float64],
    y: float,
    weight: float,
    age: float,
    op: NDArray[np.float64],
) -> float:
    """Compute the operation of one labelled clean context; return the probability from before.

    ``precision`` is that of the bias. ``op`` receives ``(age, r, c, ω, ωy, x...)`` with ΔΛ = r x xᵀ and
    Δη = c x, both grown by age. The posterior stays as it is: :func:`absorb` applies the operation.
    """
    z = min(max(centre / np.sqrt(1.0 + _PI_8 * max(variance, 0.0)), -MAX_LOG_ODDS), MAX_LOG_ODDS)
    p = 1.0 / (1.0 + np.exp(-z))
    r = weight * p * (1.0 - p) if precision < MAX_PRECISION else 0.0
    grown = growth(age)
    op[0] = age
    op[1] = r * grown
    op[2] = min(max(weight * (y - p) + r * centre, -MAX_OP), MAX_OP) * grown
    op[3] = weight
    op[4] = weight * y
    for i in range(x.shape[0]):
        op[5 + i] = x[i]
    return float(p)


@part
def _units(value: float, grid: float) -> int:
    """The nearest number of units."""
    return int(np.rint(min(max(value * grid, -_LARGEST), _LARGEST)))


@kernel
def absorb(row: int, op: NDArray[np.float64], d: int, table: NDArray[np.int64]) -> None:
    """Add one operation to a row, and its weight and reward to the row's totals, in place."""
    width = d * (d + 1) // 2 + d
    table[row, 2 * width + 1] += _units(op[3], GRID_TOTAL)
    table[row, 2 * width + 2] += _units(op[4], GRID_TOTAL)
    k = roll(row, era_of(op[0]), width, 2 * width, table)
    if k < 0:
        return  # faded away
    for i in range(d):
        rx = op[1] * op[5 + i]
        for j in range(i + 1):
            table[row, k] += _units(rx * op[5 + j], GRID_PRECISION)
            k += 1
    for i in range(d):
        table[row, k] += _units(op[2] * op[5 + i], GRID_ETA)
        k += 1
