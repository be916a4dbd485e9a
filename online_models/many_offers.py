"""Choice among many offers: Thompson sampling from the click model's posterior over offer x context features.

The log odds of an offer are those of all offers, of its category and of itself, each linear in the context,
with hashed weights of which each has a Gaussian posterior. So memory does not grow with the offers, a new
offer begins with what its category's offers have in common, and a choice costs the same for each. The
distribution is explicit and floored, the propensity exact, as in :mod:`online_models.bandits`.

Reference
---------
Chapelle, Li: An Empirical Evaluation of Thompson Sampling, NIPS 2011, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from online_models.choice import NOTHING, Choice, Chooser, Eligible, clean_context
from online_models.click_rate import ClickRate
from online_models.hashing import SparseFeatures, slot_of
from online_models.kernels.logistic import MAX_PRECISION

__all__ = ["ManyOffers"]

MAX_CELLS = 2**15  # offers times draws of one choice
MIN_DRAWS, MAX_DRAWS = 16, 256


class ManyOffers(ClickRate):
    """Diagonal logistic Thompson sampling over any number of offers.

    Parameters
    ----------
    n_features : int
        Length of a context. By convention entry 0 is 1, and the others are of order 1.
    n_slots : int
        Size of the table of weights; an offer takes one block of ``n_features`` slots, by its hash.
    alpha, floor : float
        See :class:`online_models.choice.Chooser`.
    half_life_s : float
        Event time in which evidence loses half of its weight, s.

    Examples
    --------
    >>> model = ManyOffers(n_features=2)
    >>> offers = [NOTHING, *(f"offer{n}" for n in range(500))]
    >>> choice = model.choose(offers, [1.0, 0.3], [40.0] * 501, [1.0] * 501, seed=7, decision_id="d1")
    >>> choice.offer in offers, round(sum(choice.propensities), 9)
    (True, 1.0)
    """

    name = "many_offers"

    def __init__(
        self,
        n_features: int,
        n_slots: int = 2**16,
        *,
        alpha: float = 0.5,
        floor: float = 0.02,
        half_life_s: float = math.inf,
    ) -> None:
        if not 1 <= n_features <= 64 or n_slots < 4 * n_features:
            raise ValueError(
                f"{n_features} features in {n_slots} slots; from 1 to 64 features, and 4 slots for each"
            )
        # Choices draw weights and read no calibration curve, so none may take up what the weights should say.
        super().__init__(n_slots, curve_precision=MAX_PRECISION, half_life_s=half_life_s, name="many_offers")
        self.spec += f" n_features={n_features}"
        self.n_features = n_features
        self.chooser = Chooser(alpha, floor)

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
        """Choose one of the eligible offers, as :class:`online_models.bandits.ThompsonSampling` does."""
        eligible = Eligible(offers, values, costs, categories)
        context = clean_context(x, self.n_features)
        blocks = np.array(
            [self._blocks(*one) for one in zip(eligible.offers, eligible.categories, strict=True)], np.int32
        )
        within = np.arange(self.n_features, dtype=np.int32)
        slots = (blocks[:, :, None] * np.int32(self.n_features) + within).ravel()
        means, variances = self.moments(np.append(slots, np.int32(0)), at)
        shape = (len(eligible), -1, self.n_features)
        centre = means[:-1].reshape(shape).sum(1) @ context + means[-1]
        variance = variances[:-1].reshape(shape).sum(1) @ (context * context) + variances[-1]
        draws = min(max(MAX_CELLS // len(eligible), MIN_DRAWS), MAX_DRAWS)
        return self.chooser.choose(eligible, centre, variance, draws, seed=seed, decision_id=decision_id)

    def learn_offer(
        self,
        offer: str,
        x: Sequence[float] | NDArray[np.float64],
        y: float,
        weight: float = 1.0,
        *,
        category: str = "",
        at: float = 0.0,
    ) -> float:
        """Learn the outcome of one decision; return the conversion probability from before, 0 for nothing."""
        context = clean_context(x, self.n_features)
        if offer == NOTHING:
            return 0.0
        blocks, times = np.unique(self._blocks(offer, category), return_counts=True)
        within = np.arange(self.n_features)
        slots = np.append(0, (blocks[:, None] * self.n_features + within).ravel())
        values = np.append(1.0, (times[:, None] * context).ravel())
        names = tuple(map(str, slots.tolist()))
        return self.learn_one(SparseFeatures(slots.astype(np.int32), values, names), y, weight, at)

    def _blocks(self, offer: str, category: str) -> list[int]:
        """Blocks of slots of all offers, of a category, and of an offer; block 0 holds the bias alone."""
        n = self.n_slots // self.n_features
        texts = ("all", f"category={category}", f"offer={offer}")
        return [slot_of(text, n) for text in texts]
