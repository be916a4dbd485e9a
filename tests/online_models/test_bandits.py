"""Offers' posteriors: hand arithmetic, the Kalman form, priors, forgetting, undo, refusals."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.bandits import NOTHING, ThompsonSampling
from online_models.base import Foldable
from online_models.delta import DeltaError, DeltaWriter, read_delta
from tests.online_models.thompson import alone, pick, posterior, trained
from tests.oracles.kalman import FullGaussian, newton, probability


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
    folded.fold(read_delta(delta, folded.spec))
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
        model.fold(read_delta(writer.to_bytes(), model.spec))
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
            model.fold(read_delta(delta, model.spec))
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
    folded.fold(read_delta(delta, folded.spec))
    folded.keep()
    assert model.snapshot()["rows"].tobytes() == folded.snapshot()["rows"].tobytes()
