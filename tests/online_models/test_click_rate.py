"""The click model: hand arithmetic, the clear version, sums over workers, refusals, real data."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.base import Foldable
from online_models.click_rate import ClickRate
from online_models.delta import DeltaError, DeltaWriter, read_delta
from online_models.hashed import HashedLogistic
from online_models.hashing import FeatureValue, SparseFeatures
from online_models.kernels.logistic import ERA_COLUMN, GRID, KNOTS
from online_models.proximal import FollowTheRegularizedLeader
from tests.oracles.kalman import DiagonalGaussian
from tests.oracles.proximal import Ftrl

DAY = 86_400.0
ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("NUDGE_DATA", ROOT.parent / "shared" / "data"))


def sparse(slots: list[int], values: list[float]) -> SparseFeatures:
    """Features by hand."""
    return SparseFeatures(np.array(slots, np.int32), np.array(values), tuple(map(str, slots)))


def delta_of(model: ClickRate) -> bytes:
    """Delta of the open batch."""
    writer = DeltaWriter(model.spec)
    model.write_delta(writer)
    return writer.to_bytes()


def random_events(n: int, n_slots: int, seed: int) -> list[tuple[SparseFeatures, float]]:
    """Events of two to seven slots whose labels depend on their first slot."""
    rng = np.random.default_rng(seed)
    events = []
    for _ in range(n):
        slots = np.unique(np.r_[0, rng.integers(1, n_slots, rng.integers(1, 7))])
        y = float(rng.random() < (0.8 if slots[1] % 2 else 0.1))
        events.append((sparse(slots.tolist(), rng.uniform(0.2, 2.0, len(slots)).tolist()), y))
    return events


def test_one_event_by_hand() -> None:
    """Bias of precision .1 and the curve's middle knot of 10: v = 10.1, p = 1/2, r = 1/4, d = 1 + 10.1/4.

    The means move by .5·10/3.525 and .5·.1/3.525; of the information 1/(4 + .1) and 1/(4 + 10) counts .6.
    """
    model = ClickRate(n_slots=8)
    model.begin()
    assert model.learn_one({}, 1) == pytest.approx(0.5)
    mean, variance = model.moments(np.zeros(1, np.int32), 0.0)[:, 0]
    assert 1.0 / variance == pytest.approx(0.1 + 0.6 / 4.1, abs=1e-7)
    assert mean == pytest.approx(5.0 / 3.525, abs=1e-6)
    knot = model._state[8 + 8, :2] / GRID
    np.testing.assert_allclose(knot, [0.6 / 14.0, (10.0 + 0.6 / 14.0) * 0.05 / 3.525], atol=1e-8)


@pytest.mark.parametrize(("weight", "evidence"), [(1.0, 0.4), (0.3, 0.4), (7.0, 0.4), (1.0, 1.0)])
def test_equals_the_clear_version(weight: float, evidence: float) -> None:
    """The additive form gives the Kalman form's means, variances and probabilities, to the grid's step."""
    model = ClickRate(n_slots=64, prior_precision=4.0, curve_precision=10.0, evidence=evidence)
    oracle = DiagonalGaussian(np.r_[0.1, np.full(63, 4.0)], 10.0, evidence)
    model.begin()
    for features, y in random_events(1500, 64, seed=1):
        expected = oracle.learn_one(features.slots, features.values, y, weight)
        assert expected == pytest.approx(model.predict_proba_one(features), abs=1e-6)
        assert expected == pytest.approx(model.learn_one(features, y, weight), abs=1e-6)
    means, variances = model.moments(np.arange(64, dtype=np.int32), 0.0)
    np.testing.assert_allclose(means, oracle.mean[:64], atol=1e-5)
    np.testing.assert_allclose(variances, oracle.variance[:64], rtol=1e-5)


def test_the_curve_corrects_what_the_weights_cannot_say() -> None:
    """Ten features always come together and mean one thing: a curve brings probabilities nearer to .95."""
    errors = []
    for curve_precision in (10.0, 2.0**20):
        model = ClickRate(n_slots=2**10, curve_precision=curve_precision)
        model.begin()
        for n in range(200):
            kind = "ab"[n % 2]
            x: dict[str, FeatureValue] = {f"f{k}": kind for k in range(10)}
            model.learn_one(x, float((kind == "a") != (n // 2 % 20 == 0)))
        errors.append(abs(model.predict_proba_one({f"f{k}": "a" for k in range(10)}) - 0.95))
    assert errors[0] < errors[1]


INTERPRETED = """
import json
from tests.online_models.test_click_rate import *
print(json.dumps([learned_states(learner) for learner in (ClickRate, FollowTheRegularizedLeader)]))
"""


def learned_states(learner: Callable[..., HashedLogistic]) -> list[list[float]]:
    """State of a small fading model after 300 events."""
    model = learner(n_slots=64, half_life_s=DAY)
    model.begin()
    for n, (features, y) in enumerate(random_events(300, 64, seed=2)):
        model.learn_one(features, y, at=n * DAY / 20.0)
    found: list[list[float]] = (model._state[:, :ERA_COLUMN] / GRID).tolist()
    return found


def test_source_and_compiled_kernel_agree() -> None:
    """The same source, interpreted, leaves the same numbers."""
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    for learner, interpreted in zip(
        (ClickRate, FollowTheRegularizedLeader), json.loads(done.stdout), strict=True
    ):
        np.testing.assert_allclose(learned_states(learner), interpreted, rtol=1e-6, atol=2e-7)


def test_increments_of_workers_commute_exactly() -> None:
    """Three workers' deltas, folded in any order, give the same bits: the sums do not round."""
    deltas = []
    for worker in range(3):
        model = ClickRate(n_slots=64)
        model.begin()
        for features, y in random_events(400, 64, seed=10 + worker):
            model.learn_one(features, y)
        deltas.append(delta_of(model))
    states = []
    for order in itertools.permutations(deltas):
        model = ClickRate(n_slots=64)
        model.begin()
        for delta in order:
            model.fold(read_delta(delta, model.spec))
        model.keep()
        states.append(model.snapshot()["state"].tobytes())
    assert {states[0]} == set(states)


def test_learned_folded_and_undone_states_have_equal_bits() -> None:
    """learn, delta, rollback restores the prior's bits; folding the delta restores the learned bits."""
    model = ClickRate(n_slots=64)
    events = random_events(200, 64, seed=3)
    model.begin()
    for features, y in events[:100]:
        model.learn_one(features, y)
    model.keep()
    before = model._state.tobytes()
    model.begin()
    for features, y in events[100:]:
        model.learn_one(features, y)
    after, delta = model._state.tobytes(), delta_of(model)
    model.rollback()
    assert before == model._state.tobytes()
    model.begin()
    model.fold(read_delta(delta, model.spec))
    model.keep()
    assert after == model._state.tobytes()


def test_colliding_features_are_treated_alike_in_learning_and_scoring() -> None:
    """With a single slot beside the bias, two features act as one of value 2."""
    collided, by_hand = ClickRate(n_slots=2), ClickRate(n_slots=2)
    x: dict[str, FeatureValue] = {"a": "1", "b": "2"}
    for model, features in ((collided, collided.encode(x)), (by_hand, sparse([0, 1], [1.0, 2.0]))):
        model.begin()
        model.learn_one(features, 1)
    assert by_hand._state.tobytes() == collided._state.tobytes()
    assert by_hand.predict_proba_one(sparse([0, 1], [1.0, 2.0])) == collided.predict_proba_one(x)


def test_explanation_adds_up_to_the_log_odds() -> None:
    """All contributions sum to the mean log odds; the largest comes first; unseen features are uncertain."""
    model = ClickRate(n_slots=2**10)
    model.begin()
    for _ in range(50):
        model.learn_one({"device": "mobile", "visit": "first"}, 1)
        model.learn_one({"device": "desktop", "visit": "first"}, 0)
    x: dict[str, FeatureValue] = {"device": "mobile", "visit": "first", "never": "seen"}
    found = model.explain(x, 10)
    features = model.encode(x)
    means, _ = model.moments(features.slots, 0.0)
    assert float(means @ features.values) == pytest.approx(sum(one.log_odds for one in found))
    assert "device=mobile" == found[0].name
    assert (
        0.5
        == max(one.deviation for one in found)
        == next(o.deviation for o in found if o.name == "never=seen")
    )
    assert 2 == len(model.explain(x, 2))


def test_extreme_weights_and_labels_never_leave_the_bounds() -> None:
    """A thousand heaviest examples of huge values keep every number finite and every mean within ±32."""
    model = ClickRate(n_slots=16, prior_precision=0.001)
    model.begin()
    for n in range(1000):
        p = model.learn_one({"x": 1e308, "y": str(n)}, n % 2, weight=1e300)
        assert 0.0 < p < 1.0
    means, variances = model.moments(np.arange(16, dtype=np.int32), 0.0)
    assert (np.abs(means) <= 32.0 + 1e-4).all()
    assert (variances > 0.0).all()


def test_precision_stops_growing_and_the_model_goes_on_learning() -> None:
    """A slot at the greatest precision keeps it, and its mean still follows the data."""
    model = ClickRate(n_slots=4, prior_precision=2.0**20)
    model.begin()
    features = sparse([1], [1.0])
    for _ in range(200):
        model.learn_one(features, 1, weight=100.0)
    mean, variance = model.moments(np.ones(1, np.int32), 0.0)[:, 0]
    assert 2.0**20 == 1.0 / variance
    assert mean > 0.0


@pytest.mark.parametrize("y", [0.5, -1, math.nan])
def test_refuses_labels(y: float) -> None:
    """A label is 0 or 1."""
    model = ClickRate(n_slots=8)
    model.begin()
    with pytest.raises(ValueError, match="label"):
        model.learn_one({}, y)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_refuses_weights(weight: float) -> None:
    """A weight is finite and not negative."""
    model = ClickRate(n_slots=8)
    model.begin()
    with pytest.raises(ValueError, match="weight"):
        model.learn_one({}, 1, weight)


def test_weight_zero_teaches_nothing() -> None:
    """An example of weight 0 leaves the bits."""
    model = ClickRate(n_slots=8)
    model.begin()
    before = model._state.tobytes()
    model.learn_one({"a": "b"}, 1, weight=0.0)
    assert before == model._state.tobytes()


def test_batches_are_opened_once() -> None:
    """Learning needs an open batch, and there is one at a time."""
    model = ClickRate(n_slots=8)
    assert isinstance(model, Foldable)
    with pytest.raises(RuntimeError, match="open batch"):
        model.learn_one({}, 1)
    model.begin()
    with pytest.raises(RuntimeError, match="open already"):
        model.begin()


@pytest.mark.parametrize(
    ("slots", "increments"),
    [
        ([8 + KNOTS], [[1, 0]]),
        ([-1], [[1, 0]]),
        ([1], [[-1, 0]]),
        ([1], [[0.1, math.nan]]),
        ([1], [[1]]),
        ([1], [[2**62 + 1, 0]]),
        ([1], [[1, -(2**63)]]),
    ],
)
def test_refuses_deltas_that_no_model_wrote(slots: list[int], increments: list[list[float]]) -> None:
    """Slots outside the table, negative precision, floats and huge numbers change nothing."""
    model = ClickRate(n_slots=8)
    writer = DeltaWriter(model.spec)
    writer.add(model.name, {"slot": np.array(slots, np.int32), "increment": np.array(increments)})
    before = model._state.tobytes()
    model.begin()
    with pytest.raises(DeltaError):
        model.fold(read_delta(writer.to_bytes(), model.spec))
    assert before == model._state.tobytes()


def test_snapshot_holds_only_what_was_learned_and_bad_ones_are_refused() -> None:
    """A fresh model's snapshot is empty; a snapshot of floats, or with foreign slots, is refused."""
    model = ClickRate(n_slots=8)
    assert 0 == len(model.snapshot()["slot"])
    for state in ([[math.nan, 0.0, 0.0, 0.0, 0.0]], [[-1, 0, 0, 0, 0]]):
        with pytest.raises(ValueError, match="negative or no integer"):
            model.restore({"slot": np.array([1], np.int32), "state": np.array(state)})
    with pytest.raises(ValueError, match="outside of 25"):
        model.restore({"slot": np.array([8 + KNOTS], np.int32), "state": np.array([[1, 0, 0, 0, 0]])})
    with pytest.raises(ValueError, match="prior_precision"):
        ClickRate(prior_precision=0.0)
    with pytest.raises(ValueError, match="curve_precision"):
        ClickRate(curve_precision=math.inf)
    for evidence in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="evidence"):
            ClickRate(evidence=evidence)


def test_increments_of_workers_commute_exactly_while_they_fade() -> None:
    """As before, with event times that reach over several eras, and alarms: any order, the same bits."""
    deltas = []
    for worker in range(3):
        model = ClickRate(n_slots=64, half_life_s=DAY)
        model.begin()
        for n, (features, y) in enumerate(random_events(400, 64, seed=10 + worker)):
            model.learn_one(features, y, at=(n + 30 * worker) * DAY / 20.0)
        model.alarm(worker * 3 * DAY)
        deltas.append(delta_of(model))
    states = []
    for order in itertools.permutations(deltas):
        model = ClickRate(n_slots=64, half_life_s=DAY)
        for delta in order:
            model.begin()
            model.fold(read_delta(delta, model.spec))
            model.keep()
        states.append((model.snapshot()["state"].tobytes(), model.predict_proba_one({"a": "b"}, 30 * DAY)))
    assert {states[0]} == set(states)


@pytest.mark.parametrize("size", [1, 7, 400])
def test_a_delta_may_reach_over_eras(size: int) -> None:
    """Folding what batches of any size published gives the bits of learning, with late events among them."""
    events = random_events(400, 64, seed=5)
    times = np.cumsum(np.random.default_rng(5).uniform(-0.4, 0.6, 400)).clip(0.0) * DAY
    learned, folded = (ClickRate(n_slots=64, half_life_s=DAY) for _ in range(2))
    for start in range(0, 400, size):
        learned.begin()
        for (features, y), at in zip(events[start : start + size], times[start : start + size], strict=True):
            learned.learn_one(features, y, at=float(at))
        delta = delta_of(learned)
        learned.keep()
        folded.begin()
        folded.fold(read_delta(delta, folded.spec))
        folded.keep()
    assert times.max() > 15 * DAY
    assert learned.snapshot()["state"].tobytes() == folded.snapshot()["state"].tobytes()


def test_evidence_fades_by_event_time_and_at_alarms() -> None:
    """What the data gave of a precision counts half after a half-life, and half after the day of an alarm."""
    model = ClickRate(n_slots=4, half_life_s=10 * DAY)
    model.begin()
    slot = np.ones(1, np.int32)
    for _ in range(50):
        model.learn_one(sparse([1], [1.0]), 1, at=0.0)
    given = [1.0 / model.moments(slot, days * DAY)[1, 0] - 4.0 for days in (0.0, 10.0, 20.0)]
    np.testing.assert_allclose(np.array(given) / given[0], [1.0, 0.5, 0.25], rtol=1e-9)
    model.alarm(3 * DAY)
    given.append(1.0 / model.moments(slot, 10 * DAY)[1, 0] - 4.0)
    assert 0.25 == pytest.approx(given[3] / given[0])


def test_a_model_that_forgets_follows_a_change() -> None:
    """When the label turns over after 4,000 events, 100 later the fading model has followed further."""
    probabilities = []
    for half_life_s in (math.inf, 500.0 * 8.0):
        model = ClickRate(n_slots=64, half_life_s=half_life_s)
        model.begin()
        for n in range(4100):
            model.learn_one({"a": "b"}, float((n % 10 == 0) == (n < 4000)), at=n * 8.0)
        probabilities.append(model.predict_proba_one({"a": "b"}, 4100 * 8.0))
    assert 0.1 < probabilities[0] < 0.5
    assert probabilities[1] > probabilities[0] + 0.1


def test_declared_crosses_count() -> None:
    """A label that is the exclusive or of two fields cannot be told without their cross, and can with it."""
    losses = []
    for crosses in ((), [("a", "b")]):
        model = ClickRate(n_slots=2**10, crosses=crosses)
        model.begin()
        for n in range(400):
            a, b = n % 2, n // 2 % 2
            model.learn_one({"a": str(a), "b": str(b)}, a ^ b)
        losses.append(abs(1.0 - model.predict_proba_one({"a": "1", "b": "0"})))
    assert losses[0] == pytest.approx(0.5, abs=0.05)
    assert losses[1] < 0.2


def test_ftrl_equals_algorithm_1() -> None:
    """The additive form on a grid gives the published algorithm's weights and probabilities."""
    model = FollowTheRegularizedLeader(n_slots=64, alpha=0.2, beta=1.5, l1=0.02, l2=0.5)
    oracle = Ftrl(0.2, 1.5, 0.02, 0.5)
    model.begin()
    for features, y in random_events(1500, 64, seed=1):
        x = dict(zip(features.slots.tolist(), features.values.tolist(), strict=True))
        assert oracle.learn_one(x, y) == pytest.approx(model.learn_one(features, y), abs=1e-5)
    means, _ = model.moments(np.arange(64, dtype=np.int32), 0.0)
    np.testing.assert_allclose(means, [oracle.weight(i) for i in range(64)], atol=1e-4)
    with pytest.raises(ValueError, match="alpha 0"):
        FollowTheRegularizedLeader(alpha=0.0)


@given(
    st.lists(
        st.tuples(st.floats() | st.sampled_from([1e308, -1e308]), st.booleans(), st.floats(), st.floats()),
        max_size=30,
    ),
    st.sampled_from([ClickRate, FollowTheRegularizedLeader]),
)
def test_no_number_taints_a_weight(
    events: list[tuple[float, bool, float, float]], learner: type[HashedLogistic]
) -> None:
    """Whatever floats come as feature, weight or time: state and probabilities stay finite."""
    model = learner(n_slots=16, half_life_s=DAY)  # type: ignore[call-arg]  # each has its own constructor
    model.begin()
    for number, y, weight, at in events:
        with suppress(ValueError):
            model.learn_one({"x": number, "y": "z"}, y, weight, at)
    assert (model._state[:, [0, 2]] >= 0).all()  # an overflow would show
    assert (np.abs(model.moments(np.arange(16, dtype=np.int32), 0.0)) <= 33.0).all()
    assert 0.0 < model.predict_proba_one({"x": 1.0}, 5 * DAY) < 1.0


@pytest.mark.data
def test_log_loss_and_calibration_on_ml100k() -> None:
    """Progressive log loss .5700 ± .0005 and ECE at most .006 on the published stream of 100,000 events."""
    if not (DATA / "ml-100k").is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{DATA / 'ml-100k'} is missing; set NUDGE_DATA")
        pytest.skip(f"{DATA / 'ml-100k'} is missing; set NUDGE_DATA")
    path = ROOT / "benchmarks" / "click_prequential.py"
    spec = importlib.util.spec_from_file_location("click_prequential", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    found = benchmark.run("ml-100k", 1, 1000)
    assert 100_000 == found["n"]
    assert 0.5700 == pytest.approx(found["log_loss"], abs=0.0005)
    assert found["ece"] <= 0.006
    assert found["log_loss"] < 0.57371  # Vowpal Wabbit's default on the same features
