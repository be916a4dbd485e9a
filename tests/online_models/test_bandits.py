"""Offers: hand arithmetic, the Kalman form, exact propensities, floors, forgetting, refusals."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from online_models.bandits import NOTHING, Choice, ThompsonSampling
from online_models.base import Foldable
from online_models.delta import DeltaError, DeltaReader, DeltaWriter
from tests.oracles.kalman import FullGaussian, newton, probability


def pick(model: ThompsonSampling, offers: list[str], decision_id: str = "d", **changes: Any) -> Choice:
    """Choose with value 10, cost 0, a context of ones and seed 1, but for the changes."""
    n = len(offers)
    settings: dict[str, Any] = {
        "x": np.ones(model.n_features),
        "values": [10.0] * n,
        "costs": [0.0] * n,
        "seed": 1,
    }
    settings |= changes
    return model.choose(
        offers,
        settings["x"],
        settings["values"],
        settings["costs"],
        seed=settings["seed"],
        decision_id=decision_id,
        categories=settings.get("categories"),
        at=settings.get("at", 0.0),
    )


def trained(seed: int = 0, n: int = 400, **settings: Any) -> ThompsonSampling:
    """Train a model of three offers, the first of which converts often when feature 1 is high."""
    rng = np.random.default_rng(seed)
    model = ThompsonSampling(3, **settings)
    model.begin()
    for _ in range(n):
        x = np.r_[1.0, rng.normal(size=2)]
        offer = int(rng.integers(3))
        p = 1.0 / (1.0 + math.exp(2.0 - 1.5 * x[1] * (offer == 0)))
        model.learn_one(f"offer{offer}", x, float(rng.random() < p))
    model.keep()
    return model


def alone(n_features: int, **settings: Any) -> ThompsonSampling:
    """Make a model whose offers have nothing to do with each other: the textbook case."""
    return ThompsonSampling(n_features, pool_variance=0.0, **settings)


def posterior(model: ThompsonSampling, offer: str = "a") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and covariance of an offer's weights."""
    solved = model._solve([offer], [""], 0.0)
    return solved.mean[-1], solved.covariance[-1]


def delta_of(model: ThompsonSampling) -> bytes:
    """Delta of the open batch."""
    writer = DeltaWriter(model.spec)
    model.write_delta(writer)
    return writer.to_bytes()


def test_prior_by_hand() -> None:
    """Prior N(-3, .5): the mean conversion probability is σ(-3 / √(1 + π·.5/8)), the deviation √.5."""
    choice = pick(alone(1), ["a", NOTHING])
    assert 1.0 / (1.0 + math.exp(3.0 / math.sqrt(1.0 + math.pi / 16.0))) == pytest.approx(choice.means[0])
    assert math.sqrt(0.5) == pytest.approx(choice.deviations[0])
    assert (0.0, 0.0) == (choice.means[1], choice.deviations[1])


def test_one_conversion_by_hand() -> None:
    """Λ 2 → 2 + r and η -6 → -6 + (1 - p) - 3r, with r = p(1 - p)."""
    model = alone(1)
    model.begin()
    p = model.learn_one("a", [1.0], 1)
    assert probability(-3.0, 0.5) == pytest.approx(p)
    r = p * (1.0 - p)
    mean, covariance = posterior(model)
    assert 2.0 + r == pytest.approx(1.0 / covariance[0, 0], abs=1e-8)
    assert -6.0 + (1.0 - p) - 3.0 * r == pytest.approx(mean[0] / covariance[0, 0], abs=1e-7)
    (known,) = model.describe()
    expected = (-6.0 + (1.0 - p) - 3.0 * r) / (2.0 + r)
    assert probability(expected, 1.0 / (2.0 + r)) == pytest.approx(known.mean, abs=1e-7)
    assert ("a", 1.0, 1.0) == (known.offer, known.pulls, known.rewards)


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_equals_the_kalman_form(weight: float) -> None:
    """Natural parameters, solved on read, give the means and covariances of the Kalman steps."""
    rng = np.random.default_rng(4)
    model = alone(4)
    oracle = FullGaussian(np.array([-3.0, 0.0, 0.0, 0.0]), np.eye(4) * 0.5)
    model.begin()
    for _ in range(500):
        x = np.r_[1.0, rng.normal(size=3)]
        y = float(rng.random() < 0.2)
        assert oracle.learn_one(x, y, weight) == pytest.approx(model.learn_one("a", x, y, weight), abs=1e-6)
    mean, covariance = posterior(model)
    np.testing.assert_allclose(mean, oracle.mean, atol=1e-6)
    np.testing.assert_allclose(covariance, oracle.covariance, atol=1e-7)


def test_one_pass_comes_close_to_the_batch_solution() -> None:
    """After 4,000 examples the one-pass means are within .1 of the most probable weights of all data."""
    rng = np.random.default_rng(5)
    true = np.array([-2.0, 1.0, -0.5])
    x = np.c_[np.ones(4000), rng.normal(size=(4000, 2))]
    y = (rng.random(4000) < 1.0 / (1.0 + np.exp(-x @ true))).astype(float)
    model = alone(3)
    model.begin()
    for features, label in zip(x, y.tolist(), strict=True):
        model.learn_one("a", features, label)
    batch = newton(x, y, np.array([-3.0, 0.0, 0.0]), np.eye(3) * 2.0)
    np.testing.assert_allclose(posterior(model)[0], batch, atol=0.1)


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


def test_hostile_contexts_are_cleaned() -> None:
    """NaN and infinity count as 0, huge entries as ±8, in choosing and learning; all stays finite."""
    model = trained()
    offers = ["offer0", "offer1"]
    assert pick(model, offers, x=[1.0, 0.0, 8.0]) == pick(model, offers, x=[1.0, math.nan, 1e308])
    assert pick(model, offers, x=[1.0, 0.0, -8.0]) == pick(model, offers, x=[1.0, -math.inf, -1e300])
    model.begin()
    for _ in range(500):
        assert 0.0 <= model.learn_one("offer0", [math.inf, 1e308, -1e308], 1, weight=1e300) <= 1.0
    (known,) = [one for one in model.describe() if one.offer == "offer0"]
    assert math.isfinite(known.mean)
    assert known.pulls > 0.0
    assert all(0.0 <= one.mean <= 1.0 and math.isfinite(one.deviation) for one in model.describe())


def test_learning_nothing_changes_nothing() -> None:
    """The outcome of sending nothing has no posterior."""
    model = trained()
    before = model.snapshot()["rows"].tobytes()
    model.begin()
    assert 0.0 == model.learn_one(NOTHING, [1.0, 0.0, 0.0], 1)
    assert before == model.snapshot()["rows"].tobytes()
    assert NOTHING not in model


def test_the_offer_with_the_oldest_feedback_is_forgotten() -> None:
    """With room for two, a third offer replaces the one learned longest ago; undo restores it."""
    model = ThompsonSampling(1, max_offers=2)
    model.begin()
    for offer in ("a", "b", "a"):
        model.learn_one(offer, [1.0], 1)
    model.keep()
    before = {one.offer: one for one in model.describe()}
    model.begin()
    model.learn_one("c", [1.0], 0)
    assert ["a", "c"] == [one.offer for one in model.describe()]
    model.learn_one("b", [1.0], 0)
    assert ["b", "c"] == [one.offer for one in model.describe()]
    assert 1.0 == model.describe()[0].pulls
    model.rollback()
    assert before == {one.offer: one for one in model.describe()}
    assert 2 == len(model)


@pytest.mark.parametrize("seed", range(5))
def test_bits_do_not_depend_on_batches_even_while_forgetting(seed: int) -> None:
    """learn, fold and any split give the same bits, with more offers than room."""
    rng = np.random.default_rng(seed)
    events = [(f"o{rng.integers(7)}", rng.normal(size=2), int(rng.integers(2))) for _ in range(80)]
    whole, split, folded = (ThompsonSampling(2, max_offers=4) for _ in range(3))
    whole.begin()
    for event in events:
        whole.learn_one(*event)
    delta = delta_of(whole)
    whole.keep()
    for start in range(0, 80, 7):
        split.begin()
        for event in events[start : start + 7]:
            split.learn_one(*event)
        split.rollback()
        split.begin()
        for event in events[start : start + 7]:
            split.learn_one(*event)
        split.keep()
    folded.begin()
    folded.fold(DeltaReader(delta, folded.spec))
    folded.keep()
    expected = {key: array.tobytes() for key, array in whole.snapshot().items()}
    assert expected == {key: array.tobytes() for key, array in split.snapshot().items()}
    assert expected == {key: array.tobytes() for key, array in folded.snapshot().items()}


def test_refusals() -> None:
    """Each misuse names what is wrong."""
    model = ThompsonSampling(2)
    assert isinstance(model, Foldable)
    with pytest.raises(RuntimeError, match="open batch"):
        model.learn_one("a", [1.0, 0.0], 1)
    model.begin()
    with pytest.raises(RuntimeError, match="open already"):
        model.begin()
    with pytest.raises(ValueError, match="label is 2"):
        model.learn_one("a", [1.0, 0.0], 2)
    with pytest.raises(ValueError, match="weight is nan"):
        model.learn_one("a", [1.0, 0.0], 1, math.nan)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        model.learn_one("a", [1.0, 0.0, 0.0], 1)
    with pytest.raises(ValueError, match="0 eligible"):
        pick(model, [])
    with pytest.raises(ValueError, match="2 eligible offers, 1 different"):
        pick(model, ["a", "a"])
    with pytest.raises(ValueError, match="1 values"):
        pick(model, ["a", "b"], values=[1.0])
    with pytest.raises(ValueError, match="must be finite"):
        pick(model, ["a", "b"], values=[1.0, math.inf])
    with pytest.raises(ValueError, match="seed is -1"):
        pick(model, ["a"], seed=-1)


@pytest.mark.parametrize(
    "settings",
    [
        {"floor": 0.6},
        {"draws": 0},
        {"max_offers": 0},
        {"alpha": -1.0},
        {"prior_variance": 0.0},
        {"pool_variance": -1.0},
        {"half_life_s": 0.0},
    ],
)
def test_refuses_settings(settings: dict[str, Any]) -> None:
    """Settings outside of their bounds are refused at once."""
    with pytest.raises(ValueError, match=next(iter(settings)).split("_")[0]):
        ThompsonSampling(2, **settings)


@pytest.mark.parametrize(
    ("column", "value"), [(0, -1.0), (1, -1.0), (2, math.nan), (2, 1e6), (3, 101.0), (5, 9.0), (0, 1e10)]
)
def test_refuses_deltas_that_no_model_wrote(column: int, value: float) -> None:
    """Operations out of range are refused and change nothing."""
    model = trained()
    op = np.zeros((1, 8))
    op[0, column] = value
    writer = DeltaWriter(model.spec)
    names = np.array([writer.intern("a")], np.int32)
    writer.add(model.name, {"level": np.zeros(1, np.uint8), "name": names, "op": op})
    before = model._rows.table.tobytes()
    model.begin()
    with pytest.raises(DeltaError):
        model.fold(DeltaReader(writer.to_bytes(), model.spec))
    assert before == model._rows.table.tobytes()


def test_refuses_snapshots_that_do_not_fit() -> None:
    """More offers than room, or numbers that are no integers."""
    arrays = trained().snapshot()
    with pytest.raises(ValueError, match="snapshot of 3 offers"):
        ThompsonSampling(3, max_offers=2).restore(arrays)
    arrays["rows"] = np.full(arrays["rows"].shape, math.nan)
    with pytest.raises(ValueError, match="no integers"):
        ThompsonSampling(3).restore(arrays)


def test_regret_is_far_below_that_of_uniform_choice() -> None:
    """Over 3,000 decisions with five offers the regret is less than half of uniform choice."""
    rng = np.random.default_rng(8)
    true = np.c_[rng.normal(-2.0, 0.4, 5), rng.normal(0.0, 1.0, (5, 3))]
    model = ThompsonSampling(4)
    offers = [f"o{n}" for n in range(5)]
    regret, uniform = 0.0, 0.0
    model.begin()
    for decision in range(3000):
        x = np.r_[1.0, rng.normal(size=3)]
        p = 1.0 / (1.0 + np.exp(-true @ x))
        choice = pick(model, offers, f"d{decision}", x=x)
        at = offers.index(choice.offer)
        regret += p.max() - p[at]
        uniform += p.max() - p.mean()
        model.learn_one(choice.offer, x, float(rng.random() < p[at]))
    assert regret < 0.5 * uniform


def outcomes(rng: np.random.Generator, n: int) -> list[tuple[str, str, list[float], int]]:
    """Offers of two categories, one of which converts often and the other hardly."""
    found = []
    for _ in range(n):
        k = int(rng.integers(6))
        category = ("gifts", "discounts")[k % 2]
        y = int(rng.random() < (0.5 if category == "gifts" else 0.05))
        found.append((f"{category}{k}", category, [1.0, float(rng.normal())], y))
    return found


def test_a_new_offer_starts_where_its_category_is() -> None:
    """Its mean lies with its category, else with all offers; it is less certain than that of its siblings."""
    model = ThompsonSampling(2)
    model.begin()
    for offer, category, x, y in outcomes(np.random.default_rng(1), 1500):
        model.learn_one(offer, x, y, category=category)
    offers = ["gifts0", "new gift", "discounts1", "new discount", "new"]
    categories = ["gifts", "gifts", "discounts", "discounts", ""]
    choice = pick(model, offers, x=[1.0, 0.0], categories=categories)
    known_gift, new_gift, known_discount, new_discount, new = choice.means
    assert new_gift == pytest.approx(known_gift, abs=0.05)
    assert new_discount == pytest.approx(known_discount, abs=0.05)
    assert new_discount + 0.05 < new < new_gift - 0.05
    assert choice.deviations[1] > 2.0 * choice.deviations[0]
    assert choice.deviations[4] > choice.deviations[1] > math.sqrt(0.25)


def test_the_prior_by_hand() -> None:
    """One context entry: all N(m, v) gives a new offer N(m, v + .5)."""
    model, single = ThompsonSampling(1, pool_variance=2.0), alone(1, prior_variance=2.0)
    for one in (model, single):
        one.begin()
        for y in (1, 0, 0, 1, 0):
            one.learn_one("a", [1.0], y)
    mean, covariance = posterior(single)
    new_mean, new_covariance = posterior(model, "new")
    assert mean[0] == pytest.approx(new_mean[0], abs=1e-7)
    assert covariance[0, 0] + 0.5 == pytest.approx(new_covariance[0, 0], abs=1e-8)


def test_priors_do_not_depend_on_the_order_of_folding() -> None:
    """Deltas of two workers folded in either order give the same bits, at any age, also across eras."""
    deltas = []
    for seed in (1, 2):
        model = ThompsonSampling(2, half_life_s=DAY)
        model.begin()
        for n, (offer, category, x, y) in enumerate(outcomes(np.random.default_rng(seed), 60)):
            model.learn_one(offer, x, y, category=category, at=n * DAY / 3.0)
        model.alarm(seed * 2 * DAY)
        deltas.append(delta_of(model))
    rows = []
    for order in (deltas, deltas[::-1]):
        model = ThompsonSampling(2, half_life_s=DAY)
        for delta in order:
            model.begin()
            model.fold(DeltaReader(delta, model.spec))
            model.keep()
        arrays = model.snapshot()
        rows.append((arrays["rows"][:, :-1].tobytes(), arrays["alarms"].tobytes(), model.describe()))
    assert rows[0] == rows[1]


DAY = 86_400.0


def test_evidence_fades_by_event_time() -> None:
    """After one half-life the data count half, after many the prior is back; nothing is reset at once."""
    model = alone(1, half_life_s=DAY)
    model.begin()
    for _ in range(40):
        model.learn_one("a", [1.0], 1, at=6.0 * DAY)
    deviations = [
        pick(model, ["a"], at=age * DAY, x=[1.0]).deviations[0] ** -2 - 2.0
        for age in (6.0, 7.0, 8.0, 11.0, 12.5)
    ]
    ratios = np.array(deviations) / deviations[0]
    np.testing.assert_allclose(ratios, [1.0, 0.5, 0.25, 2.0**-5, 2.0**-6.5], rtol=1e-9)
    assert pick(alone(1), ["a"]).means == pick(model, ["a"], at=40.0 * DAY).means


def test_an_alarm_forgets_one_half_life_over_the_next_day() -> None:
    """Without a half-life only alarms forget: data count half after the next day, and no less later."""
    model = alone(1)
    model.begin()
    for _ in range(40):
        model.learn_one("a", [1.0], 1, at=DAY)
    assert model.alarm(1.5 * DAY)
    assert not model.alarm(1.7 * DAY)
    data = [
        pick(model, ["a"], at=day * DAY, x=[1.0]).deviations[0] ** -2 - 2.0
        for day in (1.5, 2.0, 2.5, 3.0, 300.0)
    ]
    np.testing.assert_allclose(np.array(data) / data[0], [1.0, 1.0, 0.5**0.5, 0.5, 0.5], rtol=1e-9)
    model.rollback()
    with pytest.raises(RuntimeError, match="open batch"):
        model.alarm(DAY)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.floats() | st.sampled_from([1e308, -1e308]),
            st.booleans(),
            st.floats(),
            st.floats(),
        ),
        max_size=30,
    )
)
def test_no_number_taints_a_posterior(events: list[tuple[str, float, bool, float, float]]) -> None:
    """Whatever floats come as context, weight or time: all stays finite, and folds as it was learned."""
    model, folded = (ThompsonSampling(2, half_life_s=DAY, max_offers=2) for _ in range(2))
    model.begin()
    for offer, number, y, weight, at in events:
        with suppress(ValueError):
            model.learn_one(offer, [1.0, number], y, weight, category=offer, at=at)
    delta = delta_of(model)
    model.keep()
    choice = pick(model, ["a", "b", NOTHING], at=DAY)
    assert 1.0 == pytest.approx(sum(choice.propensities))
    folded.begin()
    folded.fold(DeltaReader(delta, folded.spec))
    folded.keep()
    assert model.snapshot()["rows"].tobytes() == folded.snapshot()["rows"].tobytes()
