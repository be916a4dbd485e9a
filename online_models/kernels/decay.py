"""Forward decay: weights grow with event time against a landmark, so that adding needs no decay.

A decayed sum with half-life H is kept as ``value`` and ``epoch``, and its meaning at time t is
``value * 2**(64 * epoch - t / H)``. The landmark 64 * epoch * H moves by whole epochs, so the rebase
multiplies by a power of two and is exact. H = inf has rate 0: epoch 0, plain sums.

Source: Cormode, Shkapenyuk, Srivastava, Xu, *Forward Decay*, ICDE 2009.
"""

from __future__ import annotations

import numpy as np

from online_models.kernels._jit import kernel, part

__all__ = ["EPOCH", "decayed", "epoch_of", "growth", "rebase", "sort_key"]

EPOCH = 64.0  # half-lives; 2**64 times a count stays far below the largest float32, 2**128


@part
def epoch_of(at: float, rate: float) -> float:
    """Epoch of an event time; ``rate`` is 1 / half-life."""
    return float(np.floor(at * rate / EPOCH))


@part
def growth(at: float, rate: float, epoch: float) -> float:
    """What an event of weight 1 at this time adds to a value of this epoch."""
    return float(np.exp2(at * rate - EPOCH * epoch))


@part
def rebase(epoch: float, new_epoch: float) -> float:
    """Power of two that moves a value to a later epoch."""
    return float(np.exp2(EPOCH * (epoch - new_epoch)))


@kernel
def decayed(value: float, epoch: float, at: float, rate: float) -> float:
    """The sum as it is at a time; a time before the landmark does not blow it up beyond float64."""
    return float(value * np.exp2(min(EPOCH * epoch - at * rate, 900.0)))


@part
def sort_key(value: float, epoch: float) -> float:
    """Orders sums of one half-life at any time: the key stays as it is between touches."""
    if value <= 0.0:
        return -np.inf
    return float(np.log2(value) + EPOCH * epoch)
