"""The click model: hand arithmetic, the clear version, sums over workers, refusals, real data."""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from online_models.base import Foldable
from online_models.click_rate import ClickRate
from online_models.delta import DeltaError, DeltaReader, DeltaWriter
from online_models.hashing import FeatureValue, SparseFeatures
from online_models.kernels import logistic
from tests.oracles.kalman import DiagonalGaussian

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
    """Bias only, precision .1: p = 1/2, r = 1/4, d = 1 + 10/4; the mean moves by .5·10/3.5, H becomes .35."""
    model = ClickRate(n_slots=8)
    model.begin()
    assert model.learn_one({}, 1) == pytest.approx(0.5)
    state = model.snapshot()["state"]
    assert state[0, 0] == pytest.approx(0.35, abs=1e-7)
    assert state[0, 1] / state[0, 0] == pytest.approx(5.0 / 3.5, abs=1e-6)


@pytest.mark.parametrize("weight", [1.0, 0.3, 7.0])
def test_equals_the_clear_version(weight: float) -> None:
    """The additive form gives the Kalman form's means, variances and probabilities, to the grid's step."""
    model = ClickRate(n_slots=64, prior_precision=4.0)
    oracle = DiagonalGaussian(np.r_[0.1, np.full(63, 4.0)])
    model.begin()
    for features, y in random_events(1500, 64, seed=1):
        expected = oracle.learn_one(features.slots, features.values, y, weight)
        assert expected == pytest.approx(model.predict_proba_one(features), abs=1e-6)
        assert expected == pytest.approx(model.learn_one(features, y, weight), abs=1e-6)
    state = model._state
    np.testing.assert_allclose(state[:, 1] / state[:, 0], oracle.mean, atol=1e-5)
    np.testing.assert_allclose(1.0 / state[:, 0], oracle.variance, rtol=1e-5)


def test_source_and_compiled_kernel_agree() -> None:
    """The same source, interpreted, leaves the same numbers."""
    interpreted, compiled = ClickRate(n_slots=64), ClickRate(n_slots=64)
    learn: Any = logistic.learn
    interpreted.begin()
    compiled.begin()
    for features, y in random_events(300, 64, seed=2):
        journal = interpreted._journal
        p = getattr(learn, "py_func", learn)(
            features.slots,
            features.values,
            y,
            1.0,
            interpreted._state,
            journal.stamps,
            journal.book,
            journal.old,
        )
        assert p == pytest.approx(compiled.learn_one(features, y), abs=1e-9)
    np.testing.assert_allclose(compiled._state, interpreted._state, atol=2e-7)


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
            model.fold(DeltaReader(delta, model.spec))
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
    model.fold(DeltaReader(delta, model.spec))
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
    h, hm = model._state[features.slots].T
    assert float((hm / h) @ features.values) == pytest.approx(sum(one.log_odds for one in found))
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
    state = model._state
    assert np.isfinite(state).all()
    assert (np.abs(state[:, 1] / state[:, 0]) <= 32.0).all()
    assert (state[:, 0] > 0.0).all()


def test_precision_stops_growing_and_the_model_goes_on_learning() -> None:
    """A slot at the greatest precision keeps it, and its mean still follows the data."""
    model = ClickRate(n_slots=4, prior_precision=2.0**20)
    model.begin()
    features = sparse([1], [1.0])
    for _ in range(200):
        model.learn_one(features, 1, weight=100.0)
    assert 2.0**20 == model._state[1, 0]
    assert model._state[1, 1] > 0.0


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
        ([8], [[0.1, 0.0]]),
        ([-1], [[0.1, 0.0]]),
        ([1], [[-0.1, 0.0]]),
        ([1], [[0.1, math.nan]]),
        ([1], [[0.1]]),
    ],
)
def test_refuses_deltas_that_no_model_wrote(slots: list[int], increments: list[list[float]]) -> None:
    """Slots outside the table, negative precision and NaN are refused, and nothing is changed."""
    model = ClickRate(n_slots=8)
    writer = DeltaWriter(model.spec)
    writer.add(model.name, {"slot": np.array(slots, np.int32), "increment": np.array(increments)})
    before = model._state.tobytes()
    model.begin()
    with pytest.raises(DeltaError):
        model.fold(DeltaReader(writer.to_bytes(), model.spec))
    assert before == model._state.tobytes()


def test_snapshot_holds_only_what_was_learned_and_bad_ones_are_refused() -> None:
    """A fresh model's snapshot is empty; a snapshot with NaN or foreign slots is refused."""
    model = ClickRate(n_slots=8)
    assert 0 == len(model.snapshot()["slot"])
    with pytest.raises(ValueError, match="not positive and finite"):
        model.restore({"slot": np.array([1], np.int32), "state": np.array([[math.nan, 0.0]])})
    with pytest.raises(ValueError, match="outside of 8"):
        model.restore({"slot": np.array([8], np.int32), "state": np.array([[1.0, 0.0]])})
    with pytest.raises(ValueError, match="prior_precision"):
        ClickRate(prior_precision=0.0)


@pytest.mark.data
def test_log_loss_and_calibration_on_ml100k() -> None:
    """Progressive log loss .5716 ± .001 and ECE at most .01 on the published stream of 100,000 events."""
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
    assert 0.5716 == pytest.approx(found["log_loss"], abs=0.001)
    assert found["ece"] <= 0.01
    assert found["log_loss"] < 0.57371  # Vowpal Wabbit's default on the same features
