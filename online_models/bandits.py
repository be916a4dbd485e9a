"""Choice of an offer: logistic Thompson sampling with hierarchical priors and exact, floored propensities.

Each offer has a Bayesian logistic regression of conversion on the context. What its outcomes say is a sum of
natural parameters that adds up over workers and fades with event time; its prior is the posterior of its
category, whose prior is that of all offers, widened. So a new offer starts where offers like it are.
The maths is in :mod:`online_models.kernels.posteriors`, the choice in :mod:`online_models.choice`, the
reasons in ``docs/models/offers.md``.

References
----------
Chapelle, Li: An Empirical Evaluation of Thompson Sampling, NIPS 2011.
Russo, Van Roy, Kazerouni, Osband, Wen: A Tutorial on Thompson Sampling, 2018.
Broderick, Boyd, Wibisono, Wilson, Jordan: Streaming Variational Bayes, NIPS 2013.
Gelman, Hill: Data Analysis Using Regression and Multilevel/Hierarchical Models, 2007, chapter 12.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.base import Snapshot
from online_models.choice import NOTHING, Choice, Chooser, Eligible, clean_context
from online_models.delta import DeltaError, DeltaReader, DeltaWriter
from online_models.fading import ForgettingClock
from online_models.journal import Journal
from online_models.kernels import posteriors
from online_models.kernels.posteriors import MAX_CONTEXT, MAX_OP, OP_HEAD, TAIL

__all__ = ["NOTHING", "Choice", "OfferPosterior", "ThompsonSampling"]

MAX_WEIGHT = 100.0  # of one feedback
MAX_PRIOR_MEAN = 20.0  # log odds; σ(-20) is 2e-9
MIN_VARIANCE, MAX_VARIANCE = 1e-3, 1e3  # what the grid of the natural parameters resolves
MAX_CATEGORIES = 32
MAX_AGE = 1e9  # half-lives
_GROWN = 64.0  # the most by which age makes an increment grow
_PI_8 = math.pi / 8.0

_OFFER, _CATEGORY, _ALL = 0, 1, 2
_Key = tuple[int, str]  # level and name


@dataclass(frozen=True, slots=True)
class OfferPosterior:
    """What is known of one offer at the reference context (bias 1, everything else 0).

    Attributes
    ----------
    offer : str
        The offer.
    mean, deviation : float
        Posterior mean of the conversion probability, and its standard deviation to first order.
    pulls, rewards : float
        Weight of the feedback learned, and of the conversions in it; these do not fade.
    """

    offer: str
    mean: float
    deviation: float
    pulls: float
    rewards: float


@dataclass(frozen=True, slots=True)
class _Solved:
    """Posteriors of some offers: their places, and what stands at each place."""

    places: NDArray[np.int64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    precision: NDArray[np.float64]


class ThompsonSampling:
    """One full-covariance logistic posterior for each offer, and Thompson sampling over them.

    Parameters
    ----------
    n_features : int
        Length of a context. By convention entry 0 is 1, and the others are of order 1.
    alpha, floor : float
        See :class:`online_models.choice.Chooser`.
    draws : int
        Monte Carlo draws of each choice.
    prior_mean : float
        Of the bias of all offers together, in log odds; other weights have prior mean 0.
    prior_variance : float
        Of an offer's weights around those of offers like it. A category takes half of it.
    pool_variance : float
        Of the weights of all offers together around the prior; 0 makes offers independent.
    half_life_s : float
        Event time in which evidence loses half of its weight, s.
    max_offers : int
        Offers that are remembered; the one whose feedback is oldest is forgotten for a new one.

    Examples
    --------
    >>> model = ThompsonSampling(n_features=2)
    >>> choice = model.choose(
    ...     ["ten_percent", NOTHING], [1.0, 0.3], [40.0, 0.0], [1.0, 0.0], seed=7, decision_id="d1"
    ... )
    >>> choice.offer in {"ten_percent", NOTHING}, round(sum(choice.propensities), 9)
    (True, 1.0)
    """

    name = "offers"

    def __init__(
        self,
        n_features: int,
        *,
        alpha: float = 0.5,
        floor: float = 0.02,
        draws: int = 256,
        prior_mean: float = -3.0,
        prior_variance: float = 0.5,
        pool_variance: float = 1.0,
        half_life_s: float = math.inf,
        max_offers: int = 128,
    ) -> None:
        if not 1 <= n_features <= 64:
            raise ValueError(
                f"n_features is {n_features}; it must be from 1 to 64 (a choice costs its square)"
            )
        if draws < 1 or max_offers < 1:
            raise ValueError(f"draws {draws} and max_offers {max_offers} must be at least 1")
        if not (abs(prior_mean) <= MAX_PRIOR_MEAN and MIN_VARIANCE <= prior_variance <= MAX_VARIANCE):
            raise ValueError(
                f"prior N({prior_mean}, {prior_variance}); |mean| at most 20, variance from .001 to 1000"
            )
        if not (pool_variance == 0.0 or MIN_VARIANCE <= pool_variance <= MAX_VARIANCE):
            raise ValueError(f"pool_variance is {pool_variance}; it must be 0 or from .001 to 1000")
        self.chooser = Chooser(alpha, floor)
        self.clock = ForgettingClock(f"{self.name}.alarms", half_life_s)
        self.n_features = n_features
        self.draws = draws
        self.max_offers = max_offers
        self.prior_variance = prior_variance
        self.pool_variance = pool_variance
        self.spec = (
            f"offers(format=3, n_features={n_features}, prior_mean={prior_mean!r}, "
            f"prior_variance={prior_variance!r}, pool_variance={pool_variance!r}, "
            f"half_life_s={half_life_s!r}, max_offers={max_offers})"
        )
        d = n_features
        self._width = d * (d + 1) // 2 + d  # of one sum; the layout is the kernel's
        # Rows of offers, of categories, of all together, and an empty one for who is unknown.
        self._first = {_OFFER: 0, _CATEGORY: max_offers, _ALL: max_offers + MAX_CATEGORIES}
        self._room = {_OFFER: max_offers, _CATEGORY: MAX_CATEGORIES, _ALL: 1}
        self._empty = max_offers + MAX_CATEGORIES + 1
        self._table = np.zeros((self._empty + 1, 2 * self._width + TAIL), np.int64)
        self._prior = np.zeros(d)
        self._prior[0] = prior_mean
        self._rows: dict[_Key, int] = {}
        self._keys: dict[int, _Key] = {}
        self._n_ops = 0
        self._newest = 0.0  # age of the newest operation
        self._journal = Journal(self._table)
        self._open = False
        self._taken: list[tuple[int, _Key, _Key | None]] = []
        self._before = (0, 0.0)
        self._log_keys: list[_Key] = []
        self._log = np.zeros((64, OP_HEAD + d))

    def __len__(self) -> int:
        return sum(level == _OFFER for level, _ in self._rows)

    def __contains__(self, offer: object) -> bool:
        return (_OFFER, offer) in self._rows

    def choose(
        self,
        offers: Sequence[str],
        x: Sequence[float] | NDArray[np.float64],
        values: Sequence[float],
        costs: Sequence[float],
        *,
        seed: int,
        decision_id: str,
        categories: Sequence[str] | None = None,
        at: float = 0.0,
    ) -> Choice:
        """Choose one of the eligible offers; changes nothing.

        Parameters
        ----------
        offers, values, costs, categories : sequences
            See :class:`online_models.choice.Eligible`.
        x : array of shape (n_features,)
            The context; entries that are not finite count as 0, others are clipped to ±8.
        seed, decision_id : int, str
            See :meth:`online_models.choice.Chooser.choose`.
        at : float
            Event time, s since the epoch.

        Raises
        ------
        ValueError
            For offers, money or a time that are none.
        """
        eligible = Eligible(offers, values, costs, categories)
        context = clean_context(x, self.n_features)
        solved = self._solve(eligible.offers, eligible.categories, self.clock.age_of(at))
        centre, variance = self._score(solved, context)
        return self.chooser.choose(eligible, centre, variance, self.draws, seed=seed, decision_id=decision_id)

    def predict_one(
        self, offer: str, x: Sequence[float] | NDArray[np.float64], *, category: str = "", at: float = 0.0
    ) -> float:
        """Conversion probability of one offer in a context, averaged over the posterior; 0 for nothing."""
        context, age = clean_context(x, self.n_features), self.clock.age_of(at)
        if offer == NOTHING:
            return 0.0
        centre, variance = self._score(self._solve([offer], [category], age), context)
        return 1.0 / (1.0 + math.exp(-float(centre[0]) / math.sqrt(1.0 + _PI_8 * float(variance[0]))))

    def learn_one(
        self,
        offer: str,
        x: Sequence[float] | NDArray[np.float64],
        y: float,
        weight: float = 1.0,
        *,
        category: str = "",
        at: float = 0.0,
    ) -> float:
        """Learn the outcome of one decision, from the context that was logged with it.

        Learning ``NOTHING`` changes nothing: it has no posterior.

        Parameters
        ----------
        offer : str
            The offer that was sent.
        x : array of shape (n_features,)
            The context, as in :meth:`choose`.
        y : bool or float
            1 for a conversion, 0 for none.
        weight : float
            Importance, clipped at 100.
        category : str
            The offer's category, ``""`` for none.
        at : float
            Event time, s since the epoch.

        Returns
        -------
        float
            The conversion probability from before learning.

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
        context, age = clean_context(x, self.n_features), self.clock.age_of(at)
        if offer == NOTHING:
            return 0.0
        keys: list[_Key] = [(_OFFER, offer)]
        if self.pool_variance:
            keys += [(_CATEGORY, category)] if category else []
            keys.append((_ALL, ""))
        solved = self._solve([offer], [category], age)
        # The places of an offer, its category and all are the last, the one before and the first.
        places = [int(solved.places[0]), *range(len(keys) - 1, 0, -1)]
        centre, variance = self._score(solved, context, np.array(places))
        n = len(self._log_keys)
        if n + len(keys) > len(self._log):
            self._log = np.concatenate([self._log, np.zeros_like(self._log)])
        probabilities = [
            posteriors.observe(
                float(centre[k]),
                float(variance[k]),
                float(solved.precision[place]),
                context,
                float(y),
                min(float(weight), MAX_WEIGHT),
                age,
                self._log[n + k],
            )
            for k, place in enumerate(places)
        ]
        for k, key in enumerate(keys):
            self._log_keys.append(key)
            self._absorb(key, self._log[n + k])
        return probabilities[0]

    def alarm(self, at: float) -> bool:
        """Forget faster for a while: the environment changed. Return whether this is news."""
        if not self._open:
            raise RuntimeError("an alarm needs an open batch: call begin() first")
        return self.clock.alarm(at)

    def describe(self, categories: Mapping[str, str] | None = None) -> list[OfferPosterior]:
        """What is known of each remembered offer, sorted by its id, as of the newest feedback.

        ``categories`` maps offers to their categories; one that it does not name counts as without.
        """
        offers = sorted(name for level, name in self._rows if level == _OFFER)
        solved = self._solve(offers, [(categories or {}).get(offer, "") for offer in offers], self._newest)
        found = []
        for offer, place in zip(offers, solved.places.tolist(), strict=True):
            z, v = float(solved.mean[place, 0]), float(solved.covariance[place, 0, 0])
            p = 1.0 / (1.0 + math.exp(-z / math.sqrt(1.0 + _PI_8 * v)))
            row = self._rows[_OFFER, offer]
            pulls, rewards = (self._table[row, 1 - TAIL : -1] / posteriors.GRID_TOTAL).tolist()
            found.append(OfferPosterior(offer, p, p * (1.0 - p) * math.sqrt(v), pulls, rewards))
        return found

    # One batch

    def begin(self) -> None:
        """Open a batch."""
        if self._open:
            raise RuntimeError("a batch is open already: keep() or rollback() it first")
        self._journal.begin()
        self.clock.open()
        self._before = (self._n_ops, self._newest)
        self._open = True

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write the batch's operations in order: level, name, and (age, r, c, weight, reward, context)."""
        n = len(self._log_keys)
        levels = np.array([level for level, _ in self._log_keys], dtype=np.uint8)
        names = np.array([delta.intern(name) for _, name in self._log_keys], dtype=np.int32)
        delta.add(self.name, {"level": levels, "name": names, "op": self._log[:n]})
        self.clock.write(delta)

    def keep(self) -> None:
        """Close the batch and keep what it learned."""
        self._journal.keep()
        self._close()

    def rollback(self) -> None:
        """Close the batch and undo it, bit for bit."""
        self._journal.rollback()
        self.clock.undo()
        for row, key, previous in reversed(self._taken):
            del self._rows[key]
            if previous is None:
                del self._keys[row]
                continue
            self._keys[row] = previous
            self._rows[previous] = row
        self._n_ops, self._newest = self._before
        self._close()

    def _close(self) -> None:
        self._taken.clear()
        self._log_keys.clear()
        self._open = False

    def fold(self, delta: DeltaReader) -> None:
        """Apply a committed batch's operations in order."""
        self.clock.read(delta)
        columns = delta.columns(self.name)
        if not columns:
            return
        levels, names, ops = columns["level"], columns["name"], columns["op"]
        if (
            names.ndim != 1
            or levels.shape != names.shape
            or ops.shape != (len(names), OP_HEAD + self.n_features)
            or ops.dtype != np.float64
        ):
            raise DeltaError(
                f"operations on offers of shape {ops.shape}; expected (n, {OP_HEAD + self.n_features})"
            )
        limits = [MAX_AGE, *[MAX_OP * _GROWN] * 2, *[MAX_WEIGHT] * 2, *[MAX_CONTEXT] * self.n_features]
        in_range = (np.abs(ops) <= limits).all()  # a comparison with NaN is false
        if not in_range or (ops[:, :2] < 0.0).any() or (levels > _ALL).any():
            raise DeltaError("an operation on an offer is not finite or out of range")
        for level, index, op in zip(levels.tolist(), names.tolist(), ops.copy(), strict=True):
            self._absorb((level, "" if level == _ALL else delta.text_of(index)), op)

    # State

    def snapshot(self) -> Snapshot:
        """Rows of what is remembered, sorted by level and name, and the number of operations so far."""
        keys = sorted(self._rows)
        raw = [name.encode() for _, name in keys]
        return {
            "levels": np.array([level for level, _ in keys], np.uint8),
            "names": np.frombuffer(b"".join(raw), np.uint8),
            "lengths": np.array([len(part) for part in raw], np.int32),
            "rows": self._table[[self._rows[key] for key in keys]],
            "n_ops": np.array([self._n_ops], np.int64),
            "newest": np.array([self._newest]),
            **self.clock.state(),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot."""
        raw = arrays["names"].tobytes()
        ends = np.cumsum(arrays["lengths"].astype(np.int64)).tolist()
        names = [raw[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
        levels = arrays["levels"].astype(np.int64).tolist()
        keys = list(zip(levels, names, strict=True))
        rows = arrays["rows"]
        room = all(levels.count(level) <= self._room.get(level, 0) for level in {*levels})
        if not room or len(set(keys)) != len(keys) or rows.shape != (len(keys), self._table.shape[1]):
            raise ValueError(
                f"a snapshot of {levels.count(_OFFER)} offers with rows of shape {rows.shape}; at most "
                f"{self.max_offers} fit"
            )
        if rows.dtype != np.int64:
            raise ValueError("a snapshot of offers holds numbers that are no integers")
        self._table[:] = 0
        self._rows.clear()
        self._keys.clear()
        for key, content in zip(keys, rows, strict=True):
            row = self._free_row(key[0])
            self._rows[key], self._keys[row] = row, key
            self._table[row] = content
        self._n_ops = int(arrays["n_ops"].astype(np.int64)[0])
        self._newest = float(arrays["newest"].astype(np.float64)[0])
        self.clock.take_over(arrays)

    def _absorb(self, key: _Key, op: NDArray[np.float64]) -> None:
        row = self._rows.get(key)
        if row is None:
            row = self._admit(key)
        self._journal.remember(row)
        posteriors.absorb(row, op, self.n_features, self._table)
        self._n_ops += 1
        self._newest = max(self._newest, float(op[0]))
        self._table[row, -1] = self._n_ops

    def _admit(self, key: _Key) -> int:
        row = self._free_row(key[0])
        previous = self._keys.get(row)
        if previous is not None:
            del self._rows[previous]
        self._rows[key], self._keys[row] = row, key
        self._taken.append((row, key, previous))
        self._journal.remember(row)
        self._table[row] = 0
        return row

    def _free_row(self, level: int) -> int:
        """A free row of a level, else the one whose feedback is oldest."""
        first, room = self._first[level], self._room[level]
        used = sum(one == level for one, _ in self._rows)
        if used < room:
            return first + used
        return first + int(np.argmin(self._table[first : first + room, -1]))

    def _solve(self, offers: Sequence[str], categories: Sequence[str], age: float) -> _Solved:
        """Solve the posteriors of offers after those of their categories and of all."""
        rows, parents, spreads = [], [], []
        place_of: dict[str, int] = {"": 0}
        if self.pool_variance:
            for name in ("", *sorted({*categories} - {""})):
                level = _CATEGORY if name else _ALL
                rows.append(self._rows.get((level, name), self._empty))
                parents.append(1 if name else 0)
                spreads.append(self.prior_variance / 2.0 if name else self.pool_variance)
                place_of[name] = len(rows)
        places = np.full(len(offers), -1)
        for n, (offer, category) in enumerate(zip(offers, categories, strict=True)):
            if offer == NOTHING:
                continue
            parent = place_of.get(category, 0)
            rows.append(self._rows.get((_OFFER, offer), self._empty))
            parents.append(parent)
            spreads.append(self.prior_variance / 2.0 if parent > 1 else self.prior_variance)
            places[n] = len(rows)
        d = self.n_features
        mean, covariance = np.empty((len(rows) + 1, d)), np.empty((len(rows) + 1, d, d))
        mean[0], covariance[0] = self._prior, 0.0
        precision = np.empty(len(rows) + 1)
        posteriors.solve(
            np.array(rows, np.int64),
            np.array(parents, np.int64),
            np.array(spreads, np.float64),
            age,
            self._table,
            mean,
            covariance,
            precision,
        )
        return _Solved(places, mean, covariance, precision)

    def _score(
        self, solved: _Solved, context: NDArray[np.float64], places: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of the log odds at some places, those of the offers by default."""
        at = solved.places if places is None else places
        centre, variance = np.empty(len(at)), np.empty(len(at))
        posteriors.score(at, context, solved.mean, solved.covariance, centre, variance)
        return centre, variance
