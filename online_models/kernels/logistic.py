"""Diagonal-Gaussian logistic regression over hashed slots, in additive form.

State: ``float64[n_slots, 2]``, for each weight its precision ``H`` and precision times mean ``HM``.
Every increment lies on a grid of powers of two, and both columns stay far below 2**26, so sums are exact in
float64: increments commute, a batch's increments may be summed before they are published, and taking one away
restores the bits.

Equations (diagonal extended Kalman filter of AdPredictor's family; c = 1/H, m = HM/H, ω the weight)::

    s = Σ m_i x_i        v = Σ c_i x_i²        p = σ(s / √(1 + πv/8))        r = p(1 - p)
    d = 1 + ω r v
    ΔH_i  = ω r x_i² / (1 + ω r (v - c_i x_i²))
    ΔHM_i = ΔH_i m_i + (H_i + ΔH_i) · ω (y - p) c_i x_i / d

``ΔH_i`` is ``1/c'_i - 1/c_i`` for ``c'_i = c_i - ω r c_i² x_i² / d``, written so that nothing cancels.

Reference
---------
Graepel, Quiñonero Candela, Borchert, Herbrich: Web-Scale Bayesian Click-Through Rate Prediction, ICML 2010.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from online_models.kernels._jit import kernel
from online_models.kernels.journal import remember

__all__ = ["GRID", "add", "learn", "predict"]

GRID = 2.0**27  # increments are multiples of 2**-27
MAX_PRECISION = 2.0**20  # standard deviation .001: from here on the mean learns with a constant rate
MAX_MEAN = 32.0  # of one weight: log odds no real feature has; bounds HM by 2**25
_PI_8 = 0.39269908169872414
_MAX_LOG_ODDS = 35.0  # σ(35) is 1 - 6e-16


@kernel
def predict(slots: NDArray[np.int32], values: NDArray[np.float64], state: NDArray[np.float64]) -> float:
    """Probability of a click, averaged over the weights' posterior."""
    s = 0.0
    v = 0.0
    for f in range(slots.shape[0]):
        i = slots[f]
        c = 1.0 / state[i, 0]
        s += state[i, 1] * c * values[f]
        v += c * values[f] * values[f]
    z = s / np.sqrt(1.0 + _PI_8 * v)
    z = min(max(z, -_MAX_LOG_ODDS), _MAX_LOG_ODDS)
    return float(1.0 / (1.0 + np.exp(-z)))


@kernel
def learn(
    slots: NDArray[np.int32],
    values: NDArray[np.float64],
    y: float,
    weight: float,
    state: NDArray[np.float64],
    stamps: NDArray[np.int64],
    book: NDArray[np.int64],
    old: NDArray[np.float64],
) -> float:
    """Learn one labelled event in place, keeping the old rows; return the probability from before.

    Slots are distinct. ``stamps``, ``book`` and ``old`` are the journal of ``state``.
    """
    s = 0.0
    v = 0.0
    for f in range(slots.shape[0]):
        i = slots[f]
        c = 1.0 / state[i, 0]
        s += state[i, 1] * c * values[f]
        v += c * values[f] * values[f]
    z = s / np.sqrt(1.0 + _PI_8 * v)
    z = min(max(z, -_MAX_LOG_ODDS), _MAX_LOG_ODDS)
    p = 1.0 / (1.0 + np.exp(-z))
    wr = weight * p * (1.0 - p)
    g = weight * (y - p) / (1.0 + wr * v)
    for f in range(slots.shape[0]):
        i = slots[f]
        remember(i, state, stamps, book, old)
        x = values[f]
        h = state[i, 0]
        hm = state[i, 1]
        c = 1.0 / h
        m = hm * c
        dh = 0.0
        if h < MAX_PRECISION:
            dh = np.rint(wr * x * x / (1.0 + wr * (v - c * x * x)) * GRID) / GRID
        mean = min(max(m + g * c * x, -MAX_MEAN), MAX_MEAN)
        state[i, 0] = h + dh
        state[i, 1] = hm + np.rint(((h + dh) * mean - hm) * GRID) / GRID
    return float(p)


@kernel
def add(
    slots: NDArray[np.int32],
    increments: NDArray[np.float64],
    state: NDArray[np.float64],
    stamps: NDArray[np.int64],
    book: NDArray[np.int64],
    old: NDArray[np.float64],
) -> None:
    """Add increments of (H, HM), shape ``(n, 2)``, to the slots in place, keeping the old rows."""
    for f in range(slots.shape[0]):
        i = slots[f]
        remember(i, state, stamps, book, old)
        state[i, 0] += increments[f, 0]
        state[i, 1] += increments[f, 1]
