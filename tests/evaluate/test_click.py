from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from online_models.click_rate import ClickRate
from online_models.hashing import FeatureHasher
from stream.assembly import build_models
from stream.evaluate.baselines import CLICK
from stream.evaluate.baselines.predictors import BaseRate, FollowTheLeader
from stream.evaluate.baselines.vowpal_wabbit import VowpalWabbit, is_installed
from stream.evaluate.click import evaluate_click
from stream.evaluate.predictions import report_predictions
from stream.reading import BadFileError
from stream.settings import Settings

SETTINGS = Settings(click_slots=2**12, max_items=256)


def run(path: Path, examples: list[Any], baselines: tuple[str, ...] = ()) -> dict[str, Any]:
    """Evaluate lines; text stands for itself."""
    lines = [one if isinstance(one, str) else json.dumps(one) for one in examples]
    path.write_text("\n".join(lines) + "\n")
    return evaluate_click(SETTINGS, path, baselines=baselines)


def learnable(n: int) -> list[dict[str, Any]]:
    """Mobiles click in nine of ten, desktops in one of ten; one example a second."""
    generator = np.random.default_rng(3)
    found = []
    for at in range(n):
        mobile = bool(generator.random() < 0.5)
        features = {"device": "mobile" if mobile else "desktop", "price": float(at % 7), "new": at % 2 == 0}
        found.append(
            {"time": at, "features": features, "label": int(generator.random() < (0.9 if mobile else 0.1))}
        )
    return found


def test_predictions_are_those_of_the_model_before_it_learned(tmp_path: Path) -> None:
    """The log loss is that of the production model asked first and taught then."""
    examples = learnable(300)
    model, loss = ClickRate(2**12), 0.0
    model.begin()
    for one in examples:
        p = model.learn_one(one["features"], one["label"])
        loss -= math.log(p if one["label"] else 1.0 - p)

    assert run(tmp_path / "e.jsonl", examples)["log_loss"] == pytest.approx(loss / 300)


def test_every_baseline_is_reported_with_the_same_keys(tmp_path: Path) -> None:
    """On learnable data the model is ahead of the base rate, which no constant beats."""
    report = run(tmp_path / "e.jsonl", learnable(2000), CLICK)
    keys = {"log_loss", "base_rate_log_loss", "normalised_entropy", "auc", "ece", "n", "intervals", "slices"}
    missing = {"vowpal_wabbit"} if not is_installed() else set()

    assert set(CLICK) - missing == set(report["baselines"])
    assert missing == set(report["baselines_skipped"])
    assert all(keys <= set(one) for one in (report, *report["baselines"].values()))
    assert report["normalised_entropy"] < 0.7
    assert report["auc"] > 0.85
    assert report["baselines"]["base_rate"]["lead"]["log_loss"]["low"] > 0.2
    low, high = report["intervals"]["auc"]
    assert low < report["auc"] < high


def test_few_examples_have_no_interval(tmp_path: Path) -> None:
    """Ten stretches of the stream at least: of fewer a draw is nearly what was drawn from."""
    found = [run(tmp_path / "e.jsonl", learnable(n), ("base_rate",)) for n in (9, 10)]

    for report, is_known in zip(found, (False, True), strict=True):
        assert is_known == (report["intervals"]["log_loss"] is not None)
        assert is_known == (report["baselines"]["base_rate"]["lead"]["log_loss"]["low"] is not None)
        assert report["log_loss"] > 0.0


def test_a_label_is_learned_when_it_arrives(tmp_path: Path) -> None:
    """The second example comes before the first one's label, the third after it."""
    features = {"device": "mobile"}
    late = [
        {"time": 0, "features": features, "label": 1, "label_time": 10},
        {"time": 5, "features": features, "label": 1, "label_time": "1970-01-01T00:01:00Z"},
        {"time": 10, "features": features, "label": 1},
    ]
    report = run(tmp_path / "e.jsonl", late)
    model = ClickRate(2**12)
    model.begin()
    unknown = model.predict_proba_one(features)
    model.learn_one(features, 1)
    losses = [unknown, unknown, model.predict_proba_one(features)]

    assert report["log_loss"] == pytest.approx(-sum(map(math.log, losses)) / 3)
    assert (2, 1) == (report["examples"]["delayed_labels"], report["examples"]["labels_never_learned"])


def test_forgetting_is_evaluated_as_it_is_set(tmp_path: Path) -> None:
    """What is clicked turns round every week: who forgets within a day follows; without times nobody can."""
    turning: list[dict[str, Any]] = []
    for n in range(3000):
        advertisement, week = "ab"[n * 7 % 11 % 2], n // 500 % 2
        clicked = (advertisement == "a") == bool(week) and n % 5 > 0
        example = {"features": {"ad": advertisement}, "label": int(clicked)}
        turning.append({"time": 1.7e9 + n * 7 * 86_400 / 500} | example)
    timeless = [{name: one[name] for name in ("features", "label")} for one in turning]

    def loss(examples: list[dict[str, Any]], days: float) -> float:
        file = tmp_path / "examples.jsonl"
        file.write_text("".join(f"{json.dumps(one)}\n" for one in examples))
        settings = Settings(click_slots=4096, clicks={"half_life_days": days})
        return float(evaluate_click(settings, file, baselines=())["log_loss"])

    assert loss(turning, 1.0) < 0.8 * loss(turning, 0.0)
    assert loss(timeless, 1.0) == loss(timeless, 0.0)


def test_labels_are_learned_at_the_time_at_which_they_are_known(tmp_path: Path) -> None:
    """A day and a half after the prediction, which is made at its own time."""
    day_s, settings = 86_400.0, Settings(click_slots=4096, clicks={"half_life_days": 1.0})
    examples: list[dict[str, Any]] = [
        {"time": n * day_s, "label_time": (n + 1.5) * day_s, "features": {"ad": "ab"[n % 2]}, "label": n % 2}
        for n in range(20)
    ]
    model, loss = build_models(settings).clicks, 0.0
    model.begin()
    for n, one in enumerate(examples):
        if n > 1:
            known = examples[n - 2]
            model.learn_one(known["features"], known["label"], at=known["label_time"])
        p = model.predict_proba_one(one["features"], one["time"])
        loss -= math.log(p if one["label"] else 1.0 - p)
    file = tmp_path / "e.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in examples))

    assert evaluate_click(settings, file, baselines=())["log_loss"] == pytest.approx(loss / 20, rel=1e-12)


def test_slices_by_half_and_by_what_was_seen(tmp_path: Path) -> None:
    """An example with a feature that nobody learned yet is apart from the others."""
    examples = [{"time": at, "features": {"item": item}, "label": 0} for at, item in enumerate("aabb")]
    slices = run(tmp_path / "e.jsonl", examples)["slices"]

    assert {"first_half": 2, "second_half": 2, "unseen_feature": 2, "seen_features": 2} == {
        name: one["n"] for name, one in slices.items()
    }


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{", "not_json"),
        ('{"features": {"a": [1]}, "label": 1}', "bad_shape"),
        ('{"features": {"a": "b"}}', "bad_shape"),
        ('{"features": {}, "label": 2}', "bad_label"),
        ('{"features": {}, "label": 1, "time": "noon"}', "bad_time"),
        ('{"features": {}, "label": 1, "label_time": 5}', "bad_time"),
        ('{"features": {}, "label": 1, "time": 9, "label_time": 5}', "bad_time"),
        ('{"features": {}, "label": 1, "time": 1.7e12}', "bad_time"),
        ('{"features": {}, "label": 1, "time": "9999-12-31T23:59:59Z"}', "bad_time"),
        ('{"features": {}, "label": 1, "time": 0, "label_time": 1.1e11}', "bad_time"),
        (json.dumps({"features": {str(n): 1 for n in range(300)}, "label": 1}), "too_many_features"),
    ],
)
def test_a_bad_line_is_a_code_with_its_place(tmp_path: Path, line: str, code: str) -> None:
    """The others are evaluated; alone it refuses the file."""
    path = tmp_path / "e.jsonl"
    report = run(path, [*learnable(3), line])["examples"]

    assert ({code: 1}, 3, 4) == (report["rejected"], report["accepted"], report["read"])
    assert report["rejected_examples"][0].startswith(f"{path}:4: {code}: ")
    with pytest.raises(BadFileError, match=f"1 lines rejected; first: .*:1: {code}"):
        run(path, [line])


def test_null_features_are_missing_and_labels_may_be_booleans(tmp_path: Path) -> None:
    """As if the feature was not there."""
    one = [{"features": {"a": "b", "c": None}, "label": True} for _ in range(3)]
    other = [{"features": {"a": "b"}, "label": 1} for _ in range(3)]

    assert run(tmp_path / "a.jsonl", one) == run(tmp_path / "b.jsonl", other)


def test_one_class_has_no_auc(tmp_path: Path) -> None:
    """What is not defined is null, and the rest is there."""
    report = run(tmp_path / "e.jsonl", [{"features": {}, "label": 0}] * 5)

    assert (None, None) == (report["auc"], report["normalised_entropy"])
    assert report["log_loss"] > 0.0


def test_base_rate_by_hand() -> None:
    """(ones + .5) / (n + 1)."""
    x, rate = FeatureHasher(16).encode({}), BaseRate()
    for y in (1, 1, 0):
        rate.learn(x, y)

    assert 2.5 / 4 == rate.predict(x)


def test_ftrl_takes_the_published_step() -> None:
    """One positive example from zero: z = -.5, n = .25, so w = .5 / ((1 + .5)/.3 + 1)."""
    x, model = FeatureHasher(16).encode({}), FollowTheLeader(16)
    model.learn(x, 1)

    assert model.predict(x) == pytest.approx(1 / (1 + math.exp(-0.5 / (1.5 / 0.3 + 1))))


@pytest.mark.skipif(not is_installed(), reason="vowpalwabbit is not installed")
def test_vowpal_wabbit_learns() -> None:
    """What clicks is told from what does not."""
    hasher, model = FeatureHasher(2**10), VowpalWabbit()
    click, none = hasher.encode({"device": "mobile"}), hasher.encode({"device": "desktop"})
    for _ in range(200):
        model.learn(click, 1)
        model.learn(none, 0)

    assert model.predict(click) > 0.9
    assert model.predict(none) < 0.1


def test_the_interval_of_the_auc_is_of_the_auc() -> None:
    """Every stretch holds the same examples, so no draw differs from the whole; ties count half."""
    labels, p = np.tile([1.0, 0.0, 1.0, 0.0], 100), np.tile([0.9, 0.5, 0.5, 0.1], 100)
    report = report_predictions(labels, {"ours": p}, {})

    assert report["intervals"]["auc"] == pytest.approx((0.875, 0.875))
    assert report["auc"] == pytest.approx(0.875)
    assert report["intervals"]["calibration_ratio"] == pytest.approx((1.0, 1.0))


def test_windows_of_examples() -> None:
    """A short last window joins the one before it."""
    labels = np.tile([0.0, 1.0], 5100)
    report = report_predictions(labels, {"ours": labels * 0.8 + 0.1, "even": np.full(10_200, 0.5)}, {})

    assert [5000, 5200] == [window["n"] for window in report["windows"]]
    assert report["windows"][0]["baselines"]["even"]["log_loss"] == pytest.approx(math.log(2))
