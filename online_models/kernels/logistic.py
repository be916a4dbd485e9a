"""Logistic regression over hashed slots whose state is two fading sums for each weight.

State: ``int64[n_slots, 5]``, for each weight the sums a and b of its newest era, those of the era before, and
the era (:mod:`online_models.kernels.fading`). Sums count units of 2**-30 and stay below 2**32 (HM, grown by
2**6, in either of two eras), so they are exact: increments commute, a batch's increments may be summed before
they are published, and taking one away restores the bits. A float64 holds ten bits less. Prior precisions
are not in the state.

**Diagonal Gaussian** (extended Kalman filter of AdPredictor's family). a is the precision that the data gave,
b the precision times the mean; H is a and the prior; c = 1/H, m = b/H, ω the weight, φ the share of an
example's information that counts as evidence::

    s = Σ m_i x_i        v = Σ c_i x_i²        z = s / √(1 + πv/8)
    and two more terms, the knots beside z: x_k, x_k+1 by nearness, together 1
    v = Σ c_i x_i² over all terms        p = σ(z + m_k x_k + m_k+1 x_k+1)        r = p(1 - p)
    d = 1 + ω r v
    ΔH_i  = φ ω r x_i² / (1 + ω r (v - c_i x_i²))
    ΔHM_i = ΔH_i m_i + (H_i + ΔH_i) · ω (y - p) c_i x_i / d

With φ = 1, ``ΔH_i`` is ``1/c'_i - 1/c_i`` for ``c'_i = c_i - ω r c_i² x_i² / d``, written so that nothing
cancels. The knots' weights are the table's last rows: a piecewise linear calibration curve over the model's
own log odds, learned as any other number's.

**FTRL-Proximal**. a is n, the sum of squared gradients, b is z::

    w_i = -(z_i - sgn(z_i) λ1) / ((β + √n_i)/α + λ2), 0 if |z_i| <= λ1        p = σ(Σ w_i x_i)
    g_i = ω (p - y) x_i      Δn_i = g_i²      Δz_i = g_i - w_i (√(n_i + g_i²) - √n_i)/α

References
----------
Graepel, Quiñonero Candela, Borchert, Herbrich: Web-Scale Bayesian Click-Through Rate Prediction, ICML 2010.
McMahan et al.: Ad Click Prediction: a View from the Trenches, KDD 2013, algorithm 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from online_models.kernels._jit import kernel, part, wide
from online_models.kernels.choosing import MAX_LOG_ODDS
from online_models.kernels.fading import era_of, growth, roll, shares
from online_models.kernels.journal import remember

__all__ = [
    "COLUMNS",
    "ERA_COLUMN",
    "GRID",
    "KNOTS",
    "MAX_PRECISION",
    "MAX_WEIGHT",
    "add",
    "learn",
    "moments",
    "predict",
    "shift",
    "sums",
]

COLUMNS = 5
ERA_COLUMN = 4
GRID = 2.0**30  # units of 1
_UNIT = 2.0**-30
MAX_WEIGHT = 100.0  # of one example; a negative sample kept at 1 % has weight 100
MAX_PRECISION = 2.0**20  # standard deviation .001: from here on the mean learns with a constant rate
MAX_MEAN = 32.0  # of one weight: log odds no real feature has; bounds HM by 2**25
_MAX_SQUARES = 2.0**20  # sum of squared gradients; from here on FTRL's rate is constant
_MAX_Z = 2.0**20
_PI_8 = 0.39269908169872414
KNOTS = 17  # rows of the calibration curve, behind the slots
MIN_PROBABILITY = 1e-6  # and at most 1 less it
_KNOT_STEP = 2.0  # in log odds: from -16 to 16, beyond which no probability is told apart
_MAX_POSITION = 15.999999  # of a score between the knots


@part
def _weight(z: float, n: float, settings: NDArray[np.float64]) -> float:
    """FTRL's weight; settings are (α, β, λ1, λ2)."""
    size = abs(z) - settings[2]
    if size <= 0.0:
        return 0.0
    w = size / ((settings[1] + np.sqrt(n)) / settings[0] + settings[3])
    return float(-w if z > 0.0 else w)


@part
def _sums(i: int, era: float, grown: float, state: NDArray[np.int64]) -> tuple[float, float]:
    """Read both sums of a row at an age."""
    new, old = shares(float(state[i, ERA_COLUMN]), era, grown)
    return (new * state[i, 0] + old * state[i, 2]) * _UNIT, (new * state[i, 1] + old * state[i, 3]) * _UNIT


@part
def _moments(
    i: int,
    bias: bool,
    era: float,
    grown: float,
    proximal: bool,
    settings: NDArray[np.float64],
    state: NDArray[np.int64],
) -> tuple[float, float, float, float]:
    """Mean and variance of a row's weight, and the two sums that they follow from."""
    a, b = _sums(i, era, grown, state)
    if proximal:
        return _weight(b, a, settings), settings[0] / (settings[1] + np.sqrt(a)), a, b
    c = 1.0 / (settings[0 if bias else 1] + a)
    return b * c, c, a, b


@kernel
def moments(
    slots: NDArray[np.int32],
    age: float,
    proximal: bool,
    settings: NDArray[np.float64],
    state: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Mean and variance of the weights at some slots, into ``out``, shape ``(2, n)`` or more.

    ``settings`` are the prior precisions of the bias, of the others and of the curve, and the share φ, or
    with ``proximal`` FTRL's (α, β, λ1, λ2), whose rates α/(β + √n) stand for variances: they say how little
    is known.
    """
    era = era_of(age)
    grown = growth(age)
    for f in range(slots.shape[0]):
        out[0, f], out[1, f], _, _ = _moments(
            wide(slots[f]), slots[f] == 0, era, grown, proximal, settings, state
        )


@part
def _score(
    slots: NDArray[np.int32],
    values: NDArray[np.float64],
    era: float,
    grown: float,
    proximal: bool,
    settings: NDArray[np.float64],
    state: NDArray[np.int64],
    work: NDArray[np.float64],
) -> tuple[float, float, int]:
    """Log odds, their variance, and the first of the two rows of the curve, -1 for none.

    Means, variances, values and both sums of all terms are left in ``work``, those of the curve behind the
    slots'.
    """
    n = slots.shape[0]
    s = 0.0
    v = 0.0
    for f in range(n):
        i = wide(slots[f])
        x = values[f]
        m, c, a, b = _moments(i, i == 0, era, grown, proximal, settings, state)
        work[0, f], work[1, f], work[2, f], work[3, f], work[4, f] = m, c, x, a, b
        s += m * x
        v += c * x * x
    if proximal:
        return min(max(s, -MAX_LOG_ODDS), MAX_LOG_ODDS), v, -1
    z = min(max(s / np.sqrt(1.0 + _PI_8 * v), -MAX_LOG_ODDS), MAX_LOG_ODDS)
    position = z / _KNOT_STEP + 0.5 * (KNOTS - 1)
    position = min(position, _MAX_POSITION) if position > 0.0 else 0.0  # also where it is NaN
    below = int(position)
    knot = state.shape[0] - KNOTS + below
    for k in range(2):
        a, b = _sums(knot + k, era, grown, state)
        c = 1.0 / (settings[2] + a)
        x = position - below if k else 1.0 - (position - below)
        f = n + k
        work[0, f], work[1, f], work[2, f], work[3, f], work[4, f] = b * c, c, x, a, b
        z += b * c * x
        v += c * x * x
    return min(max(z, -MAX_LOG_ODDS), MAX_LOG_ODDS), v, knot


@part
def _clipped(p: float) -> float:
    return float(min(max(p, MIN_PROBABILITY), 1.0 - MIN_PROBABILITY))


@kernel
def predict(
    slots: NDArray[np.int32],
    values: NDArray[np.float64],
    age: float,
    proximal: bool,
    settings: NDArray[np.float64],
    state: NDArray[np.int64],
    work: NDArray[np.float64],
) -> float:
    """Probability of a click, from 1e-6 to 1 - 1e-6.

    The Gaussian is averaged over the weights' posterior and calibrated.
    """
    z, _, _ = _score(slots, values, era_of(age), growth(age), proximal, settings, state, work)
    return _clipped(1.0 / (1.0 + np.exp(-z)))


@kernel
def learn(
    slots: NDArray[np.int32],
    values: NDArray[np.float64],
    y: float,
    weight: float,
    age: float,
    proximal: bool,
    settings: NDArray[np.float64],
    state: NDArray[np.int64],
    book: NDArray[np.int64],
    old_rows: NDArray[np.int64],
    work: NDArray[np.float64],
) -> float:
    """Learn one labelled event in place, keeping the old rows; return the probability from before.

    Slots are distinct. ``book`` and ``old_rows`` are the journal of ``state``; ``work`` has at least the
    shape ``(5, n + 2)``.
    """
    n = slots.shape[0]
    weight = min(weight, MAX_WEIGHT)
    era = era_of(age)
    grown = growth(age)
    z, v, knot = _score(slots, values, era, grown, proximal, settings, state, work)
    p = 1.0 / (1.0 + np.exp(-z))
    wr = weight * p * (1.0 - p)
    step = weight * (y - p) / (1.0 + wr * v)
    for f in range(n if proximal else n + 2):
        i = wide(slots[f]) if f < n else knot + (f - n)
        x, a, b = work[2, f], work[3, f], work[4, f]
        remember(i, state, book, old_rows)
        k = roll(i, era, 2, ERA_COLUMN, state)
        if k < 0:
            continue  # so late that it has faded away
        if proximal:
            g = weight * (p - y) * x
            da = min(g * g, _MAX_SQUARES - a)
            db = g - work[0, f] * (np.sqrt(a + da) - np.sqrt(a)) / settings[0]
            db = min(max(b + db, -_MAX_Z), _MAX_Z) - b
            state[i, k] += np.int64(np.rint(max(da, 0.0) * grown * GRID))
        else:
            c = work[1, f]
            h = 1.0 / c
            dh = 0.0
            if h < MAX_PRECISION:
                dh = np.rint(settings[3] * wr * x * x / (1.0 + wr * (v - c * x * x)) * grown * GRID)
            state[i, k] += np.int64(dh)
            mean = min(max(work[0, f] + step * c * x, -MAX_MEAN), MAX_MEAN)
            db = (h + dh * _UNIT / grown) * mean - b
        state[i, k + 1] += np.int64(np.rint(db * grown * GRID))
    return _clipped(p)


@kernel
def sums(rows: NDArray[np.int64], age: float) -> NDArray[np.float64]:
    """Both sums of some rows at an age; shape ``(2, n)``."""
    out = np.empty((2, rows.shape[0]))
    for f in range(rows.shape[0]):
        out[0, f], out[1, f] = _sums(f, era_of(age), growth(age), rows)
    return out


@kernel
def shift(rows: NDArray[np.int64], age: float, by: NDArray[np.float64]) -> None:
    """Add so much to the sums b of some rows, as they read at an age, in place."""
    for f in range(rows.shape[0]):
        new, _ = shares(float(rows[f, ERA_COLUMN]), era_of(age), growth(age))
        if new > 0.0:
            rows[f, 1] += np.int64(np.rint(by[f] / new * GRID))


@kernel
def add(
    slots: NDArray[np.int32],
    eras: NDArray[np.int32],
    increments: NDArray[np.int64],
    state: NDArray[np.int64],
    book: NDArray[np.int64],
    old_rows: NDArray[np.int64],
) -> None:
    """Add increments of (a, b), shape ``(n, 2)``, to the slots in place, keeping the old rows."""
    for f in range(slots.shape[0]):
        i = wide(slots[f])
        remember(i, state, book, old_rows)
        k = roll(i, float(eras[f]), 2, ERA_COLUMN, state)
        if k >= 0:
            state[i, k] += increments[f, 0]
            state[i, k + 1] += increments[f, 1]
