"""Baselines of the click model: the rate so far, and FTRL-Proximal.

McMahan et al.: Ad Click Prediction: a View from the Trenches, KDD 2013.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from online_models.hashing import SparseFeatures

__all__ = ["BaseRate", "FollowTheLeader", "Predictor", "sigmoid"]

MAX_LOG_ODDS = 35.0


class Predictor(Protocol):
    """A model of a binary outcome that learns one example at a time."""

    name: str

    def predict(self, x: SparseFeatures) -> float:
        """Probability of a 1, between 0 and 1."""

    def learn(self, x: SparseFeatures, y: int) -> None:
        """Learn a labelled example."""


def sigmoid(log_odds: float) -> float:
    """1 / (1 + e^-z), without overflow."""
    return 1.0 / (1.0 + math.exp(-min(max(log_odds, -MAX_LOG_ODDS), MAX_LOG_ODDS)))


class BaseRate:
    """The share of ones so far, with half a one and half a zero to begin with."""

    name = "base_rate"

    def __init__(self) -> None:
        self._ones, self._n = 0.5, 1.0

    def predict(self, x: SparseFeatures) -> float:
        """Return the rate."""
        del x
        return self._ones / self._n

    def learn(self, x: SparseFeatures, y: int) -> None:
        """Count."""
        del x
        self._ones += y
        self._n += 1.0


class FollowTheLeader:
    """FTRL-Proximal on the same slots and values as our model, without L1 (a grid on MovieLens chose it)."""

    name = "ftrl"

    def __init__(self, n_slots: int, *, alpha: float = 0.3, beta: float = 1.0, l2: float = 1.0) -> None:
        self._alpha, self._beta, self._l2 = alpha, beta, l2
        self._z, self._n = [0.0] * n_slots, [0.0] * n_slots

    def predict(self, x: SparseFeatures) -> float:
        """σ(w·x)."""
        return sigmoid(sum(self._weight(slot) * value for slot, value in _pairs(x)))

    def learn(self, x: SparseFeatures, y: int) -> None:
        """One step of each coordinate at its own rate."""
        error = self.predict(x) - y
        for slot, value in _pairs(x):
            gradient = error * value
            root, n = math.sqrt(self._n[slot]), self._n[slot] + gradient * gradient
            self._z[slot] += gradient - (math.sqrt(n) - root) / self._alpha * self._weight(slot)
            self._n[slot] = n

    def _weight(self, slot: int) -> float:
        return -self._z[slot] / ((self._beta + math.sqrt(self._n[slot])) / self._alpha + self._l2)


def _pairs(x: SparseFeatures) -> zip[tuple[int, float]]:
    return zip(x.slots.tolist(), x.values.tolist(), strict=True)
