"""Choices among offers: exact propensities, floors, ties, draws keyed by seed and decision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.bandits import NOTHING, ThompsonSampling
from tests.online_models.thompson import alone, pick, posterior, trained


def test_actions_follow_the_logged_propensities() -> None:
    """Over 8,000 decisions the counts of each action agree with the summed propensities (χ², 99.9 %)."""
    model = trained(max_offers=8)
    offers = ["offer0", "offer1", "offer2", "new", NOTHING]
    rng = np.random.default_rng(6)
    n = 8000
    expected, variance, counts = np.zeros(5), np.zeros(5), np.zeros(5)
    for decision in range(n):
        x = np.r_[1.0, rng.normal(size=2)]
        choice = pick(model, offers, f"d{decision}", x=x, costs=[0.5, 0.5, 0.5, 0.5, 0.0])
        pi = np.array(choice.propensities)
        expected += pi
        variance += pi * (1.0 - pi)
        counts[offers.index(choice.offer)] += 1
    assert n == counts.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 18.47  # χ² with 4 degrees of freedom at .999
    assert (np.abs(counts - expected) / np.sqrt(variance)).max() < 4.0
    assert expected.min() > 0.02 * n  # every action is tested


@given(
    st.lists(st.sampled_from([f"offer{n}" for n in range(40)]), min_size=1, max_size=40, unique=True),
    st.floats(0.0, 0.5),
    st.lists(st.floats(-5.0, 5.0), min_size=80, max_size=80),
)
def test_propensities_are_a_floored_distribution(offers: list[str], floor: float, money: list[float]) -> None:
    """They sum to 1, none is below min(floor, .5/K), and the action's is the one that is logged."""
    n = len(offers)
    choice = pick(TRAINED[floor > 0.1], offers, values=money[:n], costs=money[40 : 40 + n])
    assert 1.0 == pytest.approx(sum(choice.propensities), abs=1e-12)
    assert choice.propensity == choice.propensities[offers.index(choice.offer)]
    least = min(TRAINED[floor > 0.1].chooser.floor, 0.5 / n)
    assert min(choice.propensities) >= least - 1e-12
    assert 0.0 <= choice.floor_share <= 1.0


TRAINED = {False: trained(seed=1), True: trained(seed=2, floor=0.2)}


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_shares_are_the_chance_of_the_highest_draw(alpha: float) -> None:
    """Of two offers the first wins with probability Φ((z1 - z2) / (α √(v1 + v2))), on average."""
    model = alone(1, alpha=alpha, floor=0.0)
    model.begin()
    for y in (1, 0, 0, 0):
        model.learn_one("a", [1.0], y)
    choices = [pick(model, ["a", "b"], f"d{n}") for n in range(100)]
    mean, covariance = posterior(model)
    z, v = float(mean[0]), float(covariance[0, 0])
    expected = 0.5 * (1.0 + math.erf((z + 3.0) / (alpha * math.sqrt(2.0 * (v + 0.5)))))
    # Four standard errors of 100 · 256 draws.
    assert expected == pytest.approx(float(np.mean([one.propensities[0] for one in choices])), abs=0.0125)


def test_without_a_floor_an_unlikely_offer_may_have_no_chance() -> None:
    """The floor alone keeps a hopeless offer above zero."""
    offers = ["good", "bad"]
    assert 0.0 == pick(ThompsonSampling(1, floor=0.0), offers, costs=[0.0, 100.0]).propensities[1]
    floored = pick(ThompsonSampling(1, floor=0.05), offers, costs=[0.0, 100.0])
    assert 0.05 == pytest.approx(floored.propensities[1])
    assert 0.0 < floored.floor_share < 1.0 or floored.offer == "bad"


def test_nothing_has_utility_zero() -> None:
    """Where every message costs more than it brings, nothing is sent but for the floors."""
    offers = ["a", "b", NOTHING]
    choice = pick(ThompsonSampling(1), offers, costs=[20.0, 20.0, math.nan], values=[10.0, 10.0, math.nan])
    assert (0.02, 0.02, 0.96) == pytest.approx(choice.propensities)


def test_ties_are_broken_evenly() -> None:
    """Five offers that are worth nothing tie with "nothing" in every draw: each wins about a sixth."""
    offers = ["a", "b", "c", "d", "e", NOTHING]
    shares = np.mean(
        [pick(ThompsonSampling(1), offers, f"d{n}", values=[0.0] * 6).propensities for n in range(60)], axis=0
    )
    np.testing.assert_allclose(shares, 1 / 6, atol=0.015)  # four standard errors of 60·256 draws


def test_order_of_the_offers_does_not_matter() -> None:
    """The same offers in another order: the same choice and the same propensities."""
    model = trained()
    first = pick(model, ["offer0", "offer1", "offer2", NOTHING])
    second = pick(model, [NOTHING, "offer2", "offer0", "offer1"])
    assert (first.offer, first.propensity, first.explored) == (
        second.offer,
        second.propensity,
        second.explored,
    )
    assert dict(zip(["offer0", "offer1", "offer2", NOTHING], first.propensities, strict=True)) == dict(
        zip([NOTHING, "offer2", "offer0", "offer1"], second.propensities, strict=True)
    )


def test_draws_are_keyed_by_seed_and_decision() -> None:
    """A replay chooses the same, whatever was chosen in between; other decisions and seeds draw anew."""
    model = trained()
    offers = ["offer0", "offer1", "offer2"]
    first = pick(model, offers, "d1")
    assert first != pick(model, offers, "d2")
    assert first != pick(model, offers, "d1", seed=2)
    assert first == pick(model, offers, "d1") == pick(trained(), offers, "d1")


def test_explored_means_other_than_the_best_mean_utility() -> None:
    """An offer that is certain to be best is chosen without exploring; the floor's choices explore."""
    offers = ["good", "bad"]
    for n in range(300):
        choice = pick(ThompsonSampling(1, floor=0.1), offers, f"d{n}", costs=[0.0, 100.0])
        assert ("bad" == choice.offer) == choice.explored


def test_prefers_what_converts() -> None:
    """After 2,000 outcomes the offer that suits the context gets most of the probability there only."""
    model = trained(n=2000)
    offers = ["offer0", "offer1", "offer2"]
    assert pick(model, offers, x=[1.0, 2.0, 0.0]).propensities[0] > 0.9
    assert pick(model, offers, x=[1.0, -2.0, 0.0]).propensities[0] < 0.2
