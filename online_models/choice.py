"""A choice among offers with exact propensities, whatever posterior it is made from.

The policy's distribution over the eligible offers is estimated by Monte Carlo, lifted to a floor, and the
action is drawn from that very distribution: the logged propensity is exact and not an approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from online_models.kernels import choosing
from online_models.kernels.posteriors import MAX_CONTEXT

__all__ = ["NOTHING", "Choice", "Chooser", "Eligible", "clean_context"]

NOTHING = "nothing"
"""The offer that sends no message: utility 0 exactly, no posterior. An ordinary member of the eligible."""

MAX_FLOOR = 0.5  # two offers then are chosen uniformly


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


def clean_context(x: Sequence[float] | NDArray[np.float64], n_features: int) -> NDArray[np.float64]:
    """A context of finite entries within ±8: those that are not finite count as 0."""
    context = np.array(x, dtype=np.float64)
    if context.shape != (n_features,):
        raise ValueError(f"a context of shape {context.shape}; this model takes ({n_features},)")
    context[~np.isfinite(context)] = 0.0
    return context.clip(-MAX_CONTEXT, MAX_CONTEXT, out=context)


class Eligible:
    """The eligible offers of one decision, sorted by id, so that the order they came in does not matter.

    Parameters
    ----------
    offers : sequence of str
        Different from each other.
    values, costs : sequences of float
        Money that a conversion brings and that the message costs, one of each for each offer; those of
        ``NOTHING`` are ignored.
    categories : sequence of str, optional
        The category of each offer, ``""`` for none.

    Raises
    ------
    ValueError
        For no offers, repeated offers, other lengths, or money that is not finite.
    """

    def __init__(
        self,
        offers: Sequence[str],
        values: Sequence[float],
        costs: Sequence[float],
        categories: Sequence[str] | None = None,
    ) -> None:
        n = len(offers)
        if n == 0 or len(set(offers)) != n:
            raise ValueError(
                f"{n} eligible offers, {len(set(offers))} different; give at least one, each once"
            )
        if len(values) != n or len(costs) != n or (categories is not None and len(categories) != n):
            raise ValueError(
                f"{n} offers, {len(values)} values, {len(costs)} costs; give one of each for each offer"
            )
        self.order = sorted(range(n), key=offers.__getitem__)
        self.offers = [offers[at] for at in self.order]
        self.categories = ["" if categories is None else categories[at] for at in self.order]
        self.money = np.array(
            [[values[at] for at in self.order], [costs[at] for at in self.order]], dtype=np.float64
        )
        if NOTHING in offers:
            self.money[:, self.offers.index(NOTHING)] = 0.0
        if not np.isfinite(self.money).all():
            raise ValueError(f"values {list(values)}, costs {list(costs)}; they must be finite")

    def __len__(self) -> int:
        return len(self.offers)


class Chooser:
    """Draws choices; every draw is determined by the seed and the decision's id.

    Parameters
    ----------
    alpha : float
        Scale of the sampled deviations; .5 measured better than 1.
    floor : float
        Least propensity of every eligible offer. With more than ``.5 / floor`` offers it is
        ``.5 / offers``, so that at most half of all choices are uniform.
    """

    def __init__(self, alpha: float, floor: float) -> None:
        if not 0.0 <= floor <= MAX_FLOOR:
            raise ValueError(f"floor is {floor}; it must be from 0 to .5")
        if not alpha >= 0.0:
            raise ValueError(f"alpha is {alpha}; it must be at least 0")
        self.alpha = alpha
        self.floor = floor
        self._generator = np.random.Generator(np.random.Philox(key=0))

    def choose(
        self,
        eligible: Eligible,
        centre: NDArray[np.float64],
        variance: NDArray[np.float64],
        draws: int,
        *,
        seed: int,
        decision_id: str,
    ) -> Choice:
        """Choose one of the eligible offers.

        Parameters
        ----------
        eligible : Eligible
            All filters have been applied: one that is applied afterwards would make the propensity wrong.
        centre, variance : float64[n]
            Of the log odds of each; those of ``NOTHING`` are ignored.
        draws : int
            Monte Carlo draws.
        seed : int
            Secret of the deployment, from 0 to 2**63 - 1.
        decision_id : str
            Together with the seed it determines every draw, so that a replay chooses the same.
        """
        generator = self._keyed(seed, decision_id)
        n = len(eligible)
        normals = generator.standard_normal((draws, n))
        uniforms = generator.random(draws + 1)
        out = np.empty((5, n))
        chosen = choosing.choose(
            centre, variance, eligible.money, self.alpha, self.floor, normals, uniforms, out
        )
        if NOTHING in eligible.offers:
            out[2:, eligible.offers.index(NOTHING)] = 0.0
        # Ties of the mean utility go to the first id.
        best = int(np.argmax(out[4]))
        parallel = np.empty_like(out)
        parallel[:, eligible.order] = out
        propensities, _, means, deviations, _ = parallel.tolist()
        return Choice(
            offer=eligible.offers[chosen],
            propensity=float(out[0, chosen]),
            propensities=tuple(propensities),
            means=tuple(means),
            deviations=tuple(deviations),
            explored=chosen != best,
            floor_share=float(out[1, chosen] / out[0, chosen]),
        )

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
