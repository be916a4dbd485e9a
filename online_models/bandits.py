"""Choice of an offer: logistic Thompson sampling with exact, floored propensities.

Each offer has a Bayesian logistic regression of conversion on the context, kept as natural parameters that
add up over workers. A choice estimates the policy's distribution over the eligible offers by Monte Carlo,
lifts it to a floor, and draws from that very distribution, so the logged
propensity is exact and not an approximation.
The maths is in :mod:`online_models.kernels.posteriors`, the reasons in ``docs/models/offers.md``.

References
----------
Chapelle, Li: An Empirical Evaluation of Thompson Sampling, NIPS 2011.
Russo, Van Roy, Kazerouni, Osband, Wen: A Tutorial on Thompson Sampling, 2018.
Broderick, Boyd, Wibisono, Wilson, Jordan: Streaming Variational Bayes, NIPS 2013.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from online_models.base import Snapshot
from online_models.delta import DeltaError, DeltaReader, DeltaWriter
from online_models.journal import Journal
from online_models.kernels import posteriors

__all__ = ["NOTHING", "Choice", "OfferPosterior", "ThompsonSampling"]

NOTHING = "nothing"
"""The offer that sends no message: utility 0 exactly, no posterior. An ordinary member of the eligible."""

MAX_WEIGHT = 100.0  # of one feedback
MAX_FLOOR = 0.5  # two offers then are chosen uniformly
MAX_PRIOR_MEAN = 20.0  # log odds; σ(-20) is 2e-9
MIN_VARIANCE, MAX_VARIANCE = 1e-3, 1e3  # what the grid of the natural parameters resolves
_OP_HEAD = 4  # r, c, ω, ωy; the context follows
_PI_8 = math.pi / 8.0


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice, with all that off-policy evaluation needs.

    Sequences are parallel to the eligible offers as they were given.

    Attributes
    ----------
    offer : str
        The chosen offer.
    propensity : float
        Probability with which the policy chose it.
    propensities : tuple[float, ...]
        Probability of each eligible offer; they sum to 1.
    means : tuple[float, ...]
        Posterior mean of each offer's conversion probability in this context; 0 for "nothing".
    deviations : tuple[float, ...]
        Posterior standard deviation of each offer's log odds.
    explored : bool
        Whether the chosen offer differs from the one with the highest mean utility.
    floor_share : float
        Share of ``propensity`` that comes from the floor and not from the posterior.
    """

    offer: str
    propensity: float
    propensities: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    explored: bool
    floor_share: float


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
        Weight of the feedback learned, and of the conversions in it.
    """

    offer: str
    mean: float
    deviation: float
    pulls: float
    rewards: float


class ThompsonSampling:
    """One full-covariance logistic posterior for each offer, and Thompson sampling over them.

    Parameters
    ----------
    n_features : int
        Length of a context. By convention entry 0 is 1, and the others are of order 1.
    alpha : float
        Scale of the sampled deviations; .5 measured better than 1.
    floor : float
        Least propensity of every eligible offer. With more than ``.5 / floor`` offers it is
        ``.5 / offers``, so that at most half of all choices are uniform.
    draws : int
        Monte Carlo draws of each choice.
    prior_mean : float
        Of the bias, in log odds; other weights have prior mean 0.
    prior_variance : float
        Of every weight.
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
        max_offers: int = 128,
    ) -> None:
        if not 1 <= n_features <= 64:
            raise ValueError(
                f"n_features is {n_features}; it must be from 1 to 64 (a choice costs its square)"
            )
        if not 0.0 <= floor <= MAX_FLOOR:
            raise ValueError(f"floor is {floor}; it must be from 0 to .5")
        if draws < 1 or max_offers < 1 or alpha < 0.0:
            raise ValueError(
                f"draws {draws} and max_offers {max_offers} must be at least 1, alpha {alpha} at least 0"
            )
        if not (abs(prior_mean) <= MAX_PRIOR_MEAN and MIN_VARIANCE <= prior_variance <= MAX_VARIANCE):
            raise ValueError(
                f"prior N({prior_mean}, {prior_variance}); |mean| at most 20, variance from .001 to 1000"
            )
        self.n_features = n_features
        self.alpha = alpha
        self.floor = floor
        self.draws = draws
        self.max_offers = max_offers
        self.spec = (
            f"offers(format=1, n_features={n_features}, prior_mean={prior_mean!r}, "
            f"prior_variance={prior_variance!r}, max_offers={max_offers})"
        )
        d = n_features
        # One row is [Λ | η | pulls, rewards | number of its last operation]; the last row is the prior's.
        self._table = np.zeros((max_offers + 1, d * d + d + 3))
        self._precision = self._table[:, : d * d].reshape(max_offers + 1, d, d)
        self._eta = self._table[:, d * d : d * d + d]
        self._totals = self._table[:, d * d + d :]
        self._precision[max_offers] = np.eye(d) * _on_grid(1.0 / prior_variance)
        self._eta[max_offers, 0] = _on_grid(prior_mean / prior_variance)
        # Solved from the rows when they are read.
        self._mean = np.zeros((max_offers + 1, d))
        self._covariance = np.zeros((max_offers + 1, d, d))
        self._fresh = bytearray(max_offers + 1)
        self._rows: dict[str, int] = {}
        self._offers: list[str] = []
        self._n_ops = 0
        self._journal = Journal(self._table)
        self._open = False
        self._taken: list[tuple[int, str | None]] = []
        self._n_ops_before = 0
        self._log_offers: list[str] = []
        self._log = np.zeros((64, _OP_HEAD + d))
        self._generator = np.random.Generator(np.random.Philox(key=0))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, offer: object) -> bool:
        return offer in self._rows

    def choose(
        self,
        offers: Sequence[str],
        x: Sequence[float] | NDArray[np.float64],
        values: Sequence[float],
        costs: Sequence[float],
        *,
        seed: int,
        decision_id: str,
    ) -> Choice:
        """Choose one of the eligible offers; changes nothing.

        Parameters
        ----------
        offers : sequence of str
            The eligible offers, different from each other. All filters have been applied: one that is applied
            afterwards would make the propensity wrong. The order does not matter.
        x : array of shape (n_features,)
            The context; entries that are not finite count as 0, others are clipped to ±8.
        values, costs : sequences of float
            Money that a conversion brings and that the message costs, one of each for each offer; those of
            ``NOTHING`` are ignored.
        seed : int
            Secret of the deployment, from 0 to 2**63 - 1.
        decision_id : str
            Together with the seed it determines every draw, so that a replay chooses the same.

        Raises
        ------
        ValueError
            For no offers, repeated offers, other lengths, or money that is not finite.
        """
        n = len(offers)
        if n == 0 or len(set(offers)) != n:
            raise ValueError(
                f"{n} eligible offers, {len(set(offers))} different; give at least one, each once"
            )
        if len(values) != n or len(costs) != n:
            raise ValueError(
                f"{n} offers, {len(values)} values, {len(costs)} costs; give one of each for each offer"
            )
        context = self._context(x)
        order = sorted(range(n), key=offers.__getitem__)
        rows = np.array([self._solved(offers[at]) for at in order])
        money = np.array([[values[at] for at in order], [costs[at] for at in order]], dtype=np.float64)
        if not np.isfinite(money[:, rows >= 0]).all():
            raise ValueError(f"values {list(values)}, costs {list(costs)}; they must be finite")
        generator = self._keyed(seed, decision_id)
        normals = generator.standard_normal((self.draws, n))
        uniforms = generator.random(self.draws + 1)
        out = np.empty((5, n))
        chosen = posteriors.choose(
            rows, context, money, self.alpha, self.floor, normals, uniforms, self._mean, self._covariance, out
        )
        return self._choice(offers, order, chosen, out)

    def learn_one(
        self, offer: str, x: Sequence[float] | NDArray[np.float64], y: float, weight: float = 1.0
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

        Returns
        -------
        float
            The conversion probability from before learning.

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
        context = self._context(x)
        if offer == NOTHING:
            return 0.0
        n = len(self._log_offers)
        if n == len(self._log):
            self._log = np.concatenate([self._log, np.zeros_like(self._log)])
        row = self._solved(offer)
        op = self._log[n]
        p = posteriors.observe(
            row,
            context,
            float(y),
            min(float(weight), MAX_WEIGHT),
            self._precision,
            self._mean,
            self._covariance,
            op,
        )
        self._log_offers.append(offer)
        self._absorb(offer, op)
        return p

    def describe(self) -> list[OfferPosterior]:
        """What is known of each remembered offer, sorted by its id."""
        found = []
        for offer in sorted(self._rows):
            row = self._solved(offer)
            z, v = float(self._mean[row, 0]), float(self._covariance[row, 0, 0])
            p = 1.0 / (1.0 + math.exp(-z / math.sqrt(1.0 + _PI_8 * v)))
            pulls, rewards = self._totals[row, :2].tolist()
            found.append(OfferPosterior(offer, p, p * (1.0 - p) * math.sqrt(v), pulls, rewards))
        return found

    # One batch

    def begin(self) -> None:
        """Open a batch."""
        if self._open:
            raise RuntimeError("a batch is open already: keep() or rollback() it first")
        self._journal.begin()
        self._n_ops_before = self._n_ops
        self._open = True

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write the batch's operations in order: the offer, and (r, c, weight, reward, context)."""
        n = len(self._log_offers)
        indices = np.array([delta.intern(offer) for offer in self._log_offers], dtype=np.int32)
        delta.add(self.name, {"offer": indices, "op": self._log[:n]})

    def keep(self) -> None:
        """Close the batch and keep what it learned."""
        self._journal.keep()
        self._close()

    def rollback(self) -> None:
        """Close the batch and undo it, bit for bit."""
        kept = self._journal.book[2 : 2 + int(self._journal.book[1])].tolist()
        self._journal.rollback()
        for row in kept:
            self._fresh[row] = 0
        for row, previous in reversed(self._taken):
            del self._rows[self._offers[row]]
            if previous is None:
                self._offers.pop()
                continue
            self._offers[row] = previous
            self._rows[previous] = row
        self._n_ops = self._n_ops_before
        self._close()

    def _close(self) -> None:
        self._taken.clear()
        self._log_offers.clear()
        self._open = False

    def fold(self, delta: DeltaReader) -> None:
        """Apply a committed batch's operations in order."""
        columns = delta.columns(self.name)
        if not columns:
            return
        indices, ops = columns["offer"], columns["op"]
        if (
            indices.ndim != 1
            or ops.shape != (len(indices), _OP_HEAD + self.n_features)
            or ops.dtype != np.float64
        ):
            raise DeltaError(
                f"operations on offers of shape {ops.shape}; expected (n, {_OP_HEAD + self.n_features})"
            )
        head, contexts = ops[:, :_OP_HEAD], ops[:, _OP_HEAD:]
        in_range = (np.abs(head) <= posteriors.MAX_OP).all() and (
            np.abs(contexts) <= posteriors.MAX_CONTEXT
        ).all()
        if not in_range or (head[:, 0] < 0.0).any():  # a comparison with NaN is false
            raise DeltaError("an operation on an offer is not finite or out of range")
        for index, op in zip(indices.tolist(), ops.copy(), strict=True):
            self._absorb(delta.text_of(index), op)

    # State

    def snapshot(self) -> Snapshot:
        """Rows of the remembered offers, sorted by id, and the number of operations so far."""
        offers = sorted(self._rows)
        raw = [offer.encode() for offer in offers]
        return {
            "ids": np.frombuffer(b"".join(raw), np.uint8),
            "lengths": np.array([len(part) for part in raw], np.int32),
            "rows": self._table[[self._rows[offer] for offer in offers]],
            "n_ops": np.array([self._n_ops], np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot."""
        raw = arrays["ids"].tobytes()
        ends = np.cumsum(arrays["lengths"].astype(np.int64)).tolist()
        offers = [raw[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
        rows = arrays["rows"].astype(np.float64)
        n = len(offers)
        if n > self.max_offers or len(set(offers)) != n or rows.shape != (n, self._table.shape[1]):
            raise ValueError(
                f"a snapshot of {n} offers with rows of shape {rows.shape}; at most {self.max_offers} fit"
            )
        if not np.isfinite(rows).all():
            raise ValueError("a snapshot of offers holds numbers that are not finite")
        self._table[:n] = rows
        self._offers = offers
        self._rows = {offer: row for row, offer in enumerate(offers)}
        self._n_ops = int(arrays["n_ops"].astype(np.int64)[0])
        self._fresh = bytearray(self.max_offers + 1)

    def _absorb(self, offer: str, op: NDArray[np.float64]) -> None:
        row = self._rows.get(offer)
        if row is None:
            row = self._admit(offer)
        self._journal.remember(row)
        posteriors.absorb(row, op, self._precision, self._eta, self._totals)
        self._n_ops += 1
        self._totals[row, 2] = self._n_ops
        self._fresh[row] = 0

    def _admit(self, offer: str) -> int:
        row = len(self._offers)
        previous = None
        if row < self.max_offers:
            self._offers.append(offer)
        else:
            row = int(np.argmin(self._totals[: self.max_offers, 2]))
            previous = self._offers[row]
            del self._rows[previous]
            self._offers[row] = offer
        self._rows[offer] = row
        self._taken.append((row, previous))
        self._journal.remember(row)
        self._table[row] = self._table[self.max_offers]
        return row

    def _solved(self, offer: str) -> int:
        """Row of an offer with its posterior solved; the prior's row for an unknown one, -1 for nothing."""
        if offer == NOTHING:
            return -1
        row = self._rows.get(offer, self.max_offers)
        if not self._fresh[row]:
            posteriors.solve(row, self._precision, self._eta, self._mean, self._covariance)
            self._fresh[row] = 1
        return row

    def _context(self, x: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        context = np.ascontiguousarray(x, dtype=np.float64)
        if context.shape != (self.n_features,):
            raise ValueError(f"a context of shape {context.shape}; this model takes ({self.n_features},)")
        return context

    def _keyed(self, seed: int, decision_id: str) -> np.random.Generator:
        """The one generator, put to the start of the stream of this decision: a new one costs 15 µs."""
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed is {seed}; it must be from 0 to 2**63 - 1")
        digest = blake2b(decision_id.encode(), digest_size=8).digest()
        self._generator.bit_generator.state = {
            "bit_generator": "Philox",
            "state": {
                "counter": np.zeros(4, np.uint64),
                "key": np.array([seed, int.from_bytes(digest, "little")], np.uint64),
            },
            "buffer": np.zeros(4, np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self._generator

    def _choice(
        self, offers: Sequence[str], order: list[int], chosen: int, out: NDArray[np.float64]
    ) -> Choice:
        parallel = np.empty_like(out)
        parallel[:, order] = out
        propensities, floors, means, deviations, utilities = parallel.tolist()
        at = order[chosen]
        return Choice(
            offer=offers[at],
            propensity=propensities[at],
            propensities=tuple(propensities),
            means=tuple(means),
            deviations=tuple(deviations),
            explored=at != max(order, key=utilities.__getitem__),
            floor_share=floors[at] / propensities[at],
        )


def _on_grid(number: float) -> float:
    """Round to the coarser grid of the increments, or sums with them would round."""
    return round(number * posteriors.GRID_ETA) / posteriors.GRID_ETA
