"""Click probability: logistic regression over hashed features with a Gaussian posterior of each weight.

A weight's state is its precision H and the product HM of precision and mean, both sums of increments, so that
learning of many workers adds up (SDA-Bayes). One pass, no learning rate, O(features) per event.
The maths is in :mod:`online_models.kernels.logistic`, the reasons in ``docs/models/click-rate.md``.

References
----------
Graepel, Quiñonero Candela, Borchert, Herbrich: Web-Scale Bayesian Click-Through Rate Prediction, ICML 2010.
Broderick, Boyd, Wibisono, Wilson, Jordan: Streaming Variational Bayes, NIPS 2013.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.base import Snapshot
from online_models.delta import DeltaError, DeltaReader, DeltaWriter
from online_models.hashing import FeatureHasher, FeatureValue, SparseFeatures
from online_models.journal import Journal
from online_models.kernels import logistic

__all__ = ["ClickRate", "Contribution"]

BIAS_PRECISION = 0.1  # the base rate is learned within some tens of events
MIN_PROBABILITY = 1e-6
MIN_PRIOR_PRECISION = 1e-3  # deviation 32, the bound of a weight
MAX_WEIGHT = 100.0  # of one example; a negative sample kept at 1 % has weight 100


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature adds to the log odds.

    Attributes
    ----------
    name : str
        The feature, ``name=value``; features that share a slot are joined by ``|``.
    log_odds : float
        Posterior mean of the weight times the feature's value.
    deviation : float
        Posterior standard deviation of ``log_odds``: a feature that was never seen has a large one.
    """

    name: str
    log_odds: float
    deviation: float


class ClickRate:
    """Diagonal-Gaussian logistic regression in additive form.

    Parameters
    ----------
    n_slots : int
        Size of the table of weights, 16 bytes each; memory is mapped when a slot is first used.
    prior_precision : float
        Of every weight but the bias, whose prior is weak. From 2 to 6 costs at most .5 % log loss.

    Examples
    --------
    >>> model = ClickRate(n_slots=2**10)
    >>> model.begin()
    >>> for _ in range(200):
    ...     p = model.learn_one({"device": "mobile"}, 1), model.learn_one({"device": "desktop"}, 0)
    >>> model.keep()
    >>> model.predict_proba_one({"device": "mobile"}) > 0.9 > 0.1 > model.predict_proba_one(
    ...     {"device": "desktop"}
    ... )
    True
    """

    name = "click_rate"

    def __init__(self, n_slots: int = 2**18, prior_precision: float = 4.0) -> None:
        if not MIN_PRIOR_PRECISION <= prior_precision <= logistic.MAX_PRECISION:
            raise ValueError(f"prior_precision is {prior_precision}; it must be between .001 and 2**20")
        self.n_slots = n_slots
        self.hasher = FeatureHasher(n_slots)
        self.spec = (
            f"click_rate(format=1, n_slots={n_slots}, prior_precision={prior_precision!r}, "
            f"bias_precision={BIAS_PRECISION}, hash=murmur3)"
        )
        # On the grid of the increments, or sums with them would round.
        self._prior = _on_grid(prior_precision)
        self._bias_prior = _on_grid(BIAS_PRECISION)
        self._state = self._prior_state()
        self._journal = Journal(self._state)
        self._open = False

    def encode(self, x: Mapping[str, FeatureValue]) -> SparseFeatures:
        """Hash features once, to predict, learn and explain with them."""
        return self.hasher.encode(x)

    def predict_proba_one(self, x: Mapping[str, FeatureValue] | SparseFeatures) -> float:
        """Probability of a click, from 1e-6 to 1 - 1e-6; features never seen count by their prior."""
        features = x if isinstance(x, SparseFeatures) else self.hasher.encode(x)
        return _clipped(logistic.predict(features.slots, features.values, self._state))

    def learn_one(
        self, x: Mapping[str, FeatureValue] | SparseFeatures, y: float, weight: float = 1.0
    ) -> float:
        """Learn one labelled event.

        Parameters
        ----------
        x : mapping or SparseFeatures
            Features as they were when the prediction was made.
        y : bool or float
            1 for a click, 0 for none.
        weight : float
            Importance, clipped at 100; 0 teaches nothing.

        Returns
        -------
        float
            The probability from before learning.

        Raises
        ------
        RuntimeError
            When no batch is open.
        ValueError
            When the label is neither 0 nor 1, or the weight is negative or not finite.
        """
        if not self._open:
            raise RuntimeError("learning needs an open batch: call begin() first")
        if y not in (0, 1):
            raise ValueError(f"label is {y}; it must be 0 or 1")
        if not 0.0 <= weight < math.inf:
            raise ValueError(f"weight is {weight}; it must be finite and not negative")
        features = x if isinstance(x, SparseFeatures) else self.hasher.encode(x)
        journal = self._journal
        p = logistic.learn(
            features.slots,
            features.values,
            float(y),
            min(float(weight), MAX_WEIGHT),
            self._state,
            journal.stamps,
            journal.book,
            journal.old,
        )
        return _clipped(p)

    def explain(self, x: Mapping[str, FeatureValue] | SparseFeatures, n: int = 5) -> list[Contribution]:
        """Return the *n* features that move the log odds most, either way; ties by name."""
        features = x if isinstance(x, SparseFeatures) else self.hasher.encode(x)
        h, hm = self._state[features.slots].T
        terms = (hm / h * features.values).tolist()
        deviations = (np.abs(features.values) / np.sqrt(h)).tolist()
        found = [
            Contribution(name, term, deviation)
            for name, term, deviation in zip(features.names, terms, deviations, strict=True)
        ]
        return sorted(found, key=lambda one: (-abs(one.log_odds), one.name))[:n]

    def begin(self) -> None:
        """Open a batch."""
        if self._open:
            raise RuntimeError("a batch is open already: keep() or rollback() it first")
        self._journal.begin()
        self._open = True

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write what the batch added to each slot: sums are exact, so its events need not be told apart."""
        n = int(self._journal.book[1])
        slots = self._journal.book[2 : 2 + n].astype(np.int32)
        delta.add(self.name, {"slot": slots, "increment": self._state[slots] - self._journal.old[:n]})

    def keep(self) -> None:
        """Close the batch and keep what it learned."""
        self._journal.keep()
        self._open = False

    def rollback(self) -> None:
        """Close the batch and undo it, bit for bit."""
        self._journal.rollback()
        self._open = False

    def fold(self, delta: DeltaReader) -> None:
        """Add the increments of a committed batch."""
        columns = delta.columns(self.name)
        if not columns:
            return
        slots, increments = columns["slot"], columns["increment"]
        if slots.dtype != np.int32 or slots.ndim != 1 or increments.shape != (len(slots), 2):
            raise DeltaError("slots and increments of the click model have other shapes than (n,) and (n, 2)")
        if len(slots) and not (slots.min() >= 0 and slots.max() < self.n_slots):
            raise DeltaError(f"slots {slots.min()}..{slots.max()} of a table of {self.n_slots}")
        if not np.isfinite(increments).all() or (increments[:, 0] < 0.0).any():
            raise DeltaError("an increment of the click model is not finite, or takes precision away")
        journal = self._journal
        # Copies, because a kernel would be compiled again for read-only arrays.
        logistic.add(slots.copy(), increments.copy(), self._state, journal.stamps, journal.book, journal.old)

    def snapshot(self) -> Snapshot:
        """Every slot that differs from its prior, ascending."""
        learned = (self._state[:, 0] != self._prior) | (self._state[:, 1] != 0.0)
        learned[0] = self._state[0, 0] != self._bias_prior or self._state[0, 1] != 0.0
        slots = np.flatnonzero(learned)
        return {"slot": slots.astype(np.int32), "state": self._state[slots]}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot."""
        slots = arrays["slot"].astype(np.int64)
        state = arrays["state"].astype(np.float64)
        if state.shape != (len(slots), 2) or (
            len(slots) and not 0 <= slots.min() <= slots.max() < self.n_slots
        ):
            raise ValueError(f"a snapshot of shape {state.shape} with slots outside of {self.n_slots}")
        if not np.isfinite(state).all() or (state[:, 0] <= 0.0).any():
            raise ValueError(
                "a snapshot of the click model holds a precision that is not positive and finite"
            )
        self._state[:] = self._prior_state()
        self._state[slots] = state

    def _prior_state(self) -> NDArray[np.float64]:
        state = np.zeros((self.n_slots, 2))
        state[:, 0] = self._prior
        state[0, 0] = self._bias_prior
        return state


def _clipped(p: float) -> float:
    return min(max(p, MIN_PROBABILITY), 1.0 - MIN_PROBABILITY)


def _on_grid(number: float) -> float:
    return round(number * logistic.GRID) / logistic.GRID
