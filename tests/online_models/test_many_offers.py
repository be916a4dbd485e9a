"""Many offers: exact propensities at a bounded cost, and offers that help one another."""

from __future__ import annotations

import numpy as np
import pytest

from online_models.choice import NOTHING
from online_models.many_offers import ManyOffers


def shop(
    n_offers: int, seed: int
) -> tuple[list[str], list[str], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """Offers, their categories, and weights that lie around those of the category."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(5, 3))
    kinds[:, 0] -= 2.5
    weights = kinds[np.arange(n_offers) % 5] + 0.3 * rng.normal(size=(n_offers, 3))
    return [f"o{n}" for n in range(n_offers)], [f"c{n % 5}" for n in range(n_offers)], weights


def test_regret_among_many_is_far_below_that_of_uniform_choice() -> None:
    """Over 1,500 decisions among 120 offers the regret is less than three quarters of uniform choice."""
    offers, categories, true = shop(120, 1)
    rng = np.random.default_rng(2)
    model = ManyOffers(3, floor=0.0)
    model.begin()
    regret, uniform = 0.0, 0.0
    for decision in range(1500):
        x = np.r_[1.0, rng.normal(size=2)]
        p = 1.0 / (1.0 + np.exp(-true @ x))
        choice = model.choose(
            offers, x, [1.0] * 120, [0.0] * 120, seed=1, decision_id=f"d{decision}", categories=categories
        )
        at = offers.index(choice.offer)
        regret += p.max() - p[at]
        uniform += p.max() - p.mean()
        model.learn_offer(choice.offer, x, float(rng.random() < p[at]), category=categories[at])
    assert regret < 0.75 * uniform


@pytest.mark.parametrize("n", [1, 128, 1000, 5000])
def test_propensities_are_a_floored_distribution_for_any_number(n: int) -> None:
    """They sum to 1, at most half of all choices are uniform, and the action's is the one that is logged."""
    offers, categories, _ = shop(n, 3)
    model = ManyOffers(3)
    choice = model.choose(
        offers, [1.0, 0.5, 0.0], [5.0] * n, [1.0] * n, seed=1, decision_id="d", categories=categories
    )
    assert 1.0 == pytest.approx(sum(choice.propensities))
    assert min(choice.propensities) >= min(0.02, 0.5 / n) - 1e-12
    assert choice.propensity == choice.propensities[offers.index(choice.offer)]


def test_actions_follow_the_logged_propensities() -> None:
    """Over 3,000 decisions the counts agree with the summed propensities within four deviations."""
    offers, categories, _ = shop(12, 4)
    model = ManyOffers(3)
    expected, variance, counts = np.zeros(12), np.zeros(12), np.zeros(12)
    for decision in range(3000):
        choice = model.choose(
            offers,
            [1.0, 0.0, 0.0],
            [1.0] * 12,
            [0.0] * 12,
            seed=1,
            decision_id=f"d{decision}",
            categories=categories,
        )
        pi = np.array(choice.propensities)
        expected += pi
        variance += pi * (1.0 - pi)
        counts[offers.index(choice.offer)] += 1
    assert (np.abs(counts - expected) / np.sqrt(variance)).max() < 4.0


def test_a_new_offer_begins_where_its_category_is() -> None:
    """Outcomes of a category's offers say something about one that has none."""
    model = ManyOffers(1)
    model.begin()
    for n in range(600):
        model.learn_offer(f"o{n % 6}", [1.0], float(n % 2 == 0), category=("good", "bad")[n % 2])
    choice = model.choose(
        ["new good", "new bad"],
        [1.0],
        [1.0] * 2,
        [0.0] * 2,
        seed=1,
        decision_id="d",
        categories=["good", "bad"],
    )
    assert choice.means[0] > 0.7
    assert choice.means[1] < 0.3


def test_refusals() -> None:
    """Contexts of another length and tables that hold no offer are refused."""
    with pytest.raises(ValueError, match="shape"):
        ManyOffers(2).learn_offer("a", [1.0], 1)
    with pytest.raises(ValueError, match="4 slots"):
        ManyOffers(8, 16)


def test_what_is_expected_of_offers_is_what_they_bring() -> None:
    """150 offers that bring 3 % or 6 %: the mean of what choices expect is near the mean of what came."""
    rng, model = np.random.default_rng(0), ManyOffers(8)
    offers = [f"o{n}" for n in range(150)]
    contexts = np.c_[np.ones(20_000), rng.random((20_000, 7))]
    came = rng.random(20_000) < 0.03 * (1 + (contexts[:, 1] > 0.5))
    model.begin()
    for n, (x, y) in enumerate(zip(contexts, came, strict=True)):
        model.learn_offer(offers[n % 150], x, float(y), at=float(n))
    model.keep()
    expected = [
        model.choose(
            [NOTHING, *offers], x, [1.0] * 151, [0.0] * 151, seed=1, decision_id=f"d{n}", at=2e4
        ).means[1:]
        for n, x in enumerate(contexts[:100])
    ]
    assert float(np.mean(came)) == pytest.approx(float(np.mean(expected)), rel=0.15)
