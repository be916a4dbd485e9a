"""What the logistic regressions over hashed features share: features, batches, deltas, snapshots, forgetting.

A weight's state is two sums of increments that fade with event time, so that the learning of many workers
adds up (SDA-Bayes). The maths is in :mod:`online_models.kernels.logistic`. The Gaussian's batches leave room
for what others learn at the same time (:mod:`online_models.tempering`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.base import Snapshot
from online_models.delta import DeltaError, DeltaReader, DeltaWriter
from online_models.fading import ForgettingClock
from online_models.hashing import MAX_SLOTS, FeatureHasher, FeatureValue, SparseFeatures
from online_models.journal import Journal
from online_models.kernels import logistic
from online_models.kernels.logistic import COLUMNS, ERA_COLUMN, KNOTS
from online_models.overlap import Overlap
from online_models.tempering import move_shares

__all__ = ["Contribution", "HashedLogistic"]

_MAX_INCREMENT = 2**62  # in units of the grid
_DTYPES = [np.dtype(np.int32), np.dtype(np.int32), np.dtype(np.int64)]  # of slots, eras, increments


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature adds to the log odds.

    Attributes
    ----------
    name : str
        The feature, ``name=value``; features that share a slot are joined by ``|``.
    log_odds : float
        Mean of the weight times the feature's value.
    deviation : float
        How uncertain ``log_odds`` is: a feature that was never seen has a large one.
    """

    name: str
    log_odds: float
    deviation: float


class HashedLogistic:
    """A logistic regression over hashed features, learned one example at a time.

    Parameters
    ----------
    name, spec : str
        As in :class:`online_models.base.Foldable`.
    n_slots : int
        Size of the table of weights, 40 bytes each; memory is mapped when a slot is first used. The Gaussian
        has the knots of its calibration curve behind them.
    proximal : bool
        FTRL-Proximal, or else a diagonal Gaussian.
    settings : tuple of float
        See :func:`online_models.kernels.logistic.moments`.
    half_life_s : float
        Event time in which evidence loses half of its weight, s; ``inf`` forgets at alarms alone.
    crosses : sequence of pairs of str
        Features that also count together, see :class:`online_models.hashing.FeatureHasher`.
    """

    def __init__(
        self,
        name: str,
        spec: str,
        n_slots: int,
        *,
        proximal: bool,
        settings: tuple[float, ...],
        half_life_s: float,
        crosses: Sequence[tuple[str, str]],
    ) -> None:
        self.name = name
        self.n_slots = n_slots
        self.hasher = FeatureHasher(n_slots, crosses=crosses)
        self.clock = ForgettingClock(f"{name}.alarms", half_life_s)
        self.overlap = Overlap(f"{name}.overlap")
        layout = f"format={4 if proximal else 5}, n_slots={n_slots}"
        self.spec = f"{name}({layout}, {spec}, half_life_s={half_life_s!r}, hash=murmur3)"
        self._proximal = proximal
        self._settings = np.array(settings)
        n_rows = n_slots if proximal else n_slots + KNOTS
        self._state = np.zeros((n_rows, COLUMNS), np.int64)
        self._work = np.empty((5, MAX_SLOTS + 2))
        self._journal = journal = Journal(self._state)
        self._learned = (
            self._settings,
            self._state,
            journal.book,
            journal.old,
            self._work,
        )
        self._n_learned = 0  # examples of the open batch
        self._newest = -math.inf  # event time of the open batch
        self._open = False

    def encode(self, x: Mapping[str, FeatureValue]) -> SparseFeatures:
        """Hash features once, to predict, learn and explain with them."""
        return self.hasher.encode(x)

    def predict_proba_one(self, x: Mapping[str, FeatureValue] | SparseFeatures, at: float = 0.0) -> float:
        """Probability of a click at an event time, from 1e-6 to 1 - 1e-6; a new feature has its prior."""
        features = x if isinstance(x, SparseFeatures) else self.hasher.encode(x)
        age = self.clock.age_of(at)
        return logistic.predict(
            features.slots, features.values, age, self._proximal, self._settings, self._state, self._work
        )

    def learn_one(
        self,
        x: Mapping[str, FeatureValue] | SparseFeatures,
        y: float,
        weight: float = 1.0,
        at: float = 0.0,
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
        at : float
            Event time, s since the epoch.

        Returns
        -------
        float
            The probability from before learning.

        Raises
        ------
        RuntimeError
            When no batch is open.
        ValueError
            When the label is neither 0 nor 1, the weight is negative or not finite, or the time is none.
        """
        if not self._open:
            raise RuntimeError("learning needs an open batch: call begin() first")
        if y not in (0, 1):
            raise ValueError(f"label is {y}; it must be 0 or 1")
        if not 0.0 <= weight < math.inf:
            raise ValueError(f"weight is {weight}; it must be finite and not negative")
        features = x if isinstance(x, SparseFeatures) else self.hasher.encode(x)
        age = self.clock.age_of(at)
        self._n_learned += 1
        if at > self._newest:  # noqa: PLR1730  a call takes longer
            self._newest = at
        return logistic.learn(
            features.slots,
            features.values,
            float(y),
            float(weight),
            age,
            self._proximal,
            *self._learned,
        )

    def moments(self, slots: NDArray[np.int32], at: float) -> NDArray[np.float64]:
        """Mean and variance of the weights at some slots and an event time; shape ``(2, n)``."""
        out = np.empty((2, len(slots)))
        logistic.moments(slots, self.clock.age_of(at), self._proximal, self._settings, self._state, out)
        return out

    def explain(
        self, x: Mapping[str, FeatureValue] | SparseFeatures, n: int = 5, at: float = 0.0
    ) -> list[Contribution]:
        """Return the *n* features that move the log odds most, either way; ties by name."""
        features = x if isinstance(x, SparseFeatures) else self.hasher.encode(x)
        means, variances = self.moments(features.slots, at)
        terms = (means * features.values).tolist()
        deviations = (np.abs(features.values) * np.sqrt(variances)).tolist()
        found = [
            Contribution(name, term, deviation)
            for name, term, deviation in zip(features.names, terms, deviations, strict=True)
        ]
        return sorted(found, key=lambda one: (-abs(one.log_odds), one.name))[:n]

    def alarm(self, at: float) -> bool:
        """Forget faster for a while: the environment changed. Return whether this is news."""
        if not self._open:
            raise RuntimeError("an alarm needs an open batch: call begin() first")
        return self.clock.alarm(at)

    @property
    def _n_counted(self) -> int:
        """Examples that others' batches are shortened for: FTRL's are not."""
        return 0 if self._proximal else self._n_learned

    # One batch

    def begin(self) -> None:
        """Open a batch."""
        if self._open:
            raise RuntimeError("a batch is open already: keep() or rollback() it first")
        self._journal.begin()
        self.clock.open()
        self.overlap.open()
        self._n_learned, self._newest = 0, -math.inf
        self._open = True

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write what the batch added to each slot and era: sums are exact, so one increment says it all."""
        if len(self._journal.rows):
            delta.add(self.name, self._increments())
        self.clock.write(delta)
        self.overlap.write(delta, self._n_counted)

    def _increments(self) -> dict[str, NDArray[np.generic]]:
        """What the batch added to the slots that it touched."""
        slots = self._journal.rows.astype(np.int32)
        new, old = self._tempered(slots), self._journal.old[: len(slots)]
        steps = (new[:, ERA_COLUMN] - old[:, ERA_COLUMN])[:, None]
        newest = new[:, :2] - np.where(steps == 0, old[:, :2], 0)
        before = new[:, 2:4] - np.where(steps == 0, old[:, 2:4], np.where(steps == 1, old[:, :2], 0))
        late = before.any(axis=1)
        eras = new[:, ERA_COLUMN].astype(np.int32)
        columns = {
            "slot": np.concatenate([slots, slots[late]]),
            "era": np.concatenate([eras, eras[late] - np.int32(1)]),
            "increment": np.concatenate([newest, before[late]]),
        }
        if not columns["era"].any():
            del columns["era"]  # as long as nothing ages
        return columns

    def keep(self) -> None:
        """Close the batch and keep what it learned, with the bits that folding its delta gives."""
        if self._n_counted and self.overlap.others:
            slots = self._journal.rows
            self._state[slots] = self._tempered(slots)
        self.overlap.keep(self._n_counted)
        self._journal.keep()
        self._open = False

    def rollback(self) -> None:
        """Close the batch and undo it, bit for bit."""
        self._journal.rollback()
        self.clock.undo()
        self.overlap.undo()
        self._open = False

    def _tempered(self, slots: NDArray[np.integer]) -> NDArray[np.int64]:
        """Rows that the batch touched, their means moved as far as others who learn meanwhile leave to it."""
        rows: NDArray[np.int64] = self._state[slots]
        others = self.overlap.others
        if self._proximal or not others or slots[0] != 0:  # the bias is met first
            return rows
        age = self.clock.age_of(self._newest)
        prior = np.full(len(slots), self._settings[1])
        prior[0] = self._settings[0]
        prior[slots >= self.n_slots] = self._settings[2]
        old, new = logistic.sums(self._journal.old[: len(slots)], age), logistic.sums(rows, age)
        before, after = np.stack([old[0], prior + old[0]]), np.stack([new[0], prior + new[0]])
        bias = float(old[0, 0]), float(new[0, 0])
        share = move_shares(before, after, bias, float(self._settings[3]), others)
        back = (1.0 - share) * (new[1] / after[1] - old[1] / before[1])
        logistic.shift(rows, age, -back * after[1])
        return rows

    def fold(self, delta: DeltaReader) -> None:
        """Add the increments of a committed batch."""
        self.clock.read(delta)
        self.overlap.read(delta)
        columns = delta.columns(self.name)
        if not columns:
            return
        slots, increments = columns["slot"], columns["increment"]
        eras = columns.get("era", np.zeros(len(slots), np.int32))
        shapes = (len(slots), 2), (len(slots),)
        dtypes = [column.dtype for column in (slots, eras, increments)]
        if (increments.shape, eras.shape) != shapes or dtypes != _DTYPES:
            raise DeltaError("slots and increments of the click model have other shapes than (n,) and (n, 2)")
        n_rows = len(self._state)
        if len(slots) and not (slots.min() >= 0 and slots.max() < n_rows and eras.min() >= 0):
            raise DeltaError(f"slots {slots.min()}..{slots.max()} of a table of {n_rows}")
        sizes = np.abs(increments)  # of the least integer it is negative
        if not ((sizes >= 0) & (sizes <= _MAX_INCREMENT)).all() or (increments[:, 0] < 0).any():
            raise DeltaError("an increment of the click model is too large, or takes precision away")
        journal = self._journal
        # Copies, because a kernel would be compiled again for read-only arrays.
        logistic.add(
            slots.copy(),
            eras.copy(),
            increments.copy(),
            self._state,
            journal.book,
            journal.old,
        )

    def snapshot(self) -> Snapshot:
        """Every slot that learned something, ascending."""
        slots = np.flatnonzero(self._state[:, :ERA_COLUMN].any(axis=1))
        return {
            "slot": slots.astype(np.int32),
            "state": self._state[slots],
            "overlap": self.overlap.state(),
            **self.clock.state(),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot."""
        slots = arrays["slot"].astype(np.int64)
        state = arrays["state"]
        n_rows = len(self._state)
        if state.shape != (len(slots), COLUMNS) or (
            len(slots) and not 0 <= slots.min() <= slots.max() < n_rows
        ):
            raise ValueError(f"a snapshot of shape {state.shape} with slots outside of {n_rows}")
        if state.dtype != np.int64 or (state.astype(np.int64)[:, [0, 2, ERA_COLUMN]] < 0).any():
            raise ValueError("a snapshot of the click model holds a precision that is negative or no integer")
        self.overlap.take_over(arrays["overlap"])
        self._state[:] = 0
        self._state[slots] = state
        self.clock.take_over(arrays)
