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
from online_models.kernels import posteriors
from online_models.kernels.posteriors import MAX_CONTEXT, MAX_OP, OP_HEAD
from online_models.posterior_rows import ALL, CATEGORY, OFFER, Key, PosteriorRows

__all__ = ["NOTHING", "Choice", "OfferPosterior", "ThompsonSampling"]

MAX_WEIGHT = 100.0  # of one feedback
MAX_PRIOR_MEAN = 20.0  # log odds; σ(-20) is 2e-9
MIN_VARIANCE, MAX_VARIANCE = 1e-3, 1e3  # what the grid of the natural parameters resolves
MAX_AGE = 1e9  # half-lives
_GROWN = 64.0  # the most by which age makes an increment grow
_PI_8 = math.pi / 8.0


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
        self._prior = np.zeros(n_features)
        self._prior[0] = prior_mean
        self._rows = PosteriorRows(n_features, max_offers)
        self._open = False
        self._log_keys: list[Key] = []
        self._log = np.zeros((64, OP_HEAD + n_features))

    def __len__(self) -> int:
        return len(self._rows.names(OFFER))

    def __contains__(self, offer: object) -> bool:
        return (OFFER, offer) in self._rows

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
        keys: list[Key] = [(OFFER, offer)]
        if self.pool_variance:
            keys += [(CATEGORY, category)] if category else []
            keys.append((ALL, ""))
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
            self._rows.absorb(key, self._log[n + k])
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
        offers = self._rows.names(OFFER)
        solved = self._solve(
            offers, [(categories or {}).get(offer, "") for offer in offers], self._rows.newest
        )
        found = []
        for offer, place in zip(offers, solved.places.tolist(), strict=True):
            z, v = float(solved.mean[place, 0]), float(solved.covariance[place, 0, 0])
            p = 1.0 / (1.0 + math.exp(-z / math.sqrt(1.0 + _PI_8 * v)))
            pulls, rewards = self._rows.feedback((OFFER, offer))
            found.append(OfferPosterior(offer, p, p * (1.0 - p) * math.sqrt(v), pulls, rewards))
        return found

    # One batch

    def begin(self) -> None:
        """Open a batch."""
        if self._open:
            raise RuntimeError("a batch is open already: keep() or rollback() it first")
        self._rows.begin()
        self.clock.open()
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
        self._rows.keep()
        self._close()

    def rollback(self) -> None:
        """Close the batch and undo it, bit for bit."""
        self._rows.rollback()
        self.clock.undo()
        self._close()

    def _close(self) -> None:
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
        if not in_range or (ops[:, :2] < 0.0).any() or (levels > ALL).any():
            raise DeltaError("an operation on an offer is not finite or out of range")
        for level, index, op in zip(levels.tolist(), names.tolist(), ops.copy(), strict=True):
            self._rows.absorb((level, "" if level == ALL else delta.text_of(index)), op)

    # State

    def snapshot(self) -> Snapshot:
        """Rows of what is remembered, sorted by level and name, and the number of operations so far."""
        return {**self._rows.snapshot(), **self.clock.state()}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot."""
        self._rows.restore(arrays)
        self.clock.take_over(arrays)

    def _solve(self, offers: Sequence[str], categories: Sequence[str], age: float) -> _Solved:
        """Solve the posteriors of offers after those of their categories and of all."""
        rows, parents, spreads = [], [], []
        place_of: dict[str, int] = {"": 0}
        if self.pool_variance:
            for name in ("", *sorted({*categories} - {""})):
                level = CATEGORY if name else ALL
                rows.append(self._rows.row((level, name)))
                parents.append(1 if name else 0)
                spreads.append(self.prior_variance / 2.0 if name else self.pool_variance)
                place_of[name] = len(rows)
        places = np.full(len(offers), -1)
        for n, (offer, category) in enumerate(zip(offers, categories, strict=True)):
            if offer == NOTHING:
                continue
            parent = place_of.get(category, 0)
            rows.append(self._rows.row((OFFER, offer)))
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
            self._rows.table,
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
