"""Progressive metrics against brute force, River and hand arithmetic."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import river.metrics
from numpy.typing import NDArray

from online_models.metrics import CalibrationBins, ClickMetrics, Coverage, LogLoss, RankingMetrics


def predictions(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Miscalibrated predictions around a rate of a few percent, and outcomes."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-3.0, 1.2, n)
    y = (rng.random(n) < 1.0 / (1.0 + np.exp(-z))).astype(float)
    return 1.0 / (1.0 + np.exp(-0.7 * z - 0.3)), y


def test_log_loss_equals_rivers() -> None:
    """Weighted log loss is River's, event by event."""
    ours = LogLoss()
    theirs: Any = getattr(river.metrics, "LogLoss")()  # noqa: B009  (River has no annotations)
    rng = np.random.default_rng(1)
    for p, y in zip(*(column.tolist() for column in predictions(500, 1)), strict=True):
        weight = float(rng.integers(1, 4))
        ours.update(y, p, weight)
        theirs.update(bool(y), p, weight)
        assert theirs.get() == pytest.approx(ours.get())


def test_base_rate_loss_is_the_best_constant() -> None:
    """No constant prediction has a lower loss than the base-rate loss."""
    y = [1.0] * 3 + [0.0] * 17
    losses = []
    loss = LogLoss()
    for p in np.linspace(0.01, 0.99, 99):
        loss = LogLoss()
        for one in y:
            loss.update(one, float(p))
        losses.append(loss.get())
        assert loss.normalised_entropy() >= 1.0 - 1e-12
    assert min(losses) == pytest.approx(loss.base_rate())
    assert int(np.argmin(losses)) == 14  # p = .15


def test_calibration_ratio_by_hand() -> None:
    """Predicted .5 and .25 and one of two clicked: .75 promised for 1 kept."""
    loss = LogLoss()
    loss.update(1, 0.5)
    loss.update(0, 0.25)
    assert 0.75 == loss.calibration_ratio()


def test_auc_equals_counting_pairs() -> None:
    """The histogram's AUC is within .001 of the share of rightly ordered pairs."""
    p, y = predictions(3000, 2)
    bins = CalibrationBins()
    for one, label in zip(p.tolist(), y.tolist(), strict=True):
        bins.update(label, one)
    difference = p[y == 1][:, None] - p[y == 0][None, :]
    assert ((difference > 0).mean() + 0.5 * (difference == 0).mean()) == pytest.approx(bins.auc(), abs=1e-3)


def test_auc_of_ties_and_of_order() -> None:
    """Equal predictions give 1/2, a right order 1, a reversed one 0."""
    for scores, expected in (((0.3, 0.3), 0.5), ((0.9, 0.1), 1.0), ((0.1, 0.9), 0.0)):
        bins = CalibrationBins()
        bins.update(1, scores[0])
        bins.update(0, scores[1])
        assert expected == bins.auc()


def test_ece_equals_equal_count_bins() -> None:
    """ECE(20) is that of sorting all predictions into 20 bins of equal count."""
    p, y = predictions(20_000, 3)
    bins = CalibrationBins()
    for one, label in zip(p.tolist(), y.tolist(), strict=True):
        bins.update(label, one)
    order = np.argsort(p, kind="stable")
    gaps = [abs(p[part].mean() - y[part].mean()) for part in np.array_split(order, 20)]
    assert float(np.mean(gaps)) > 0.02  # the predictions are off, or the test would show nothing
    assert float(np.mean(gaps)) == pytest.approx(bins.ece(), abs=5e-4)


def test_ece_of_one_prediction_by_hand() -> None:
    """Always .3 with 1 of 4 clicked is off by .05, though all events lie in one histogram bin."""
    bins = CalibrationBins()
    for y in (1, 0, 0, 0):
        bins.update(y, 0.3)
    assert 0.05 == pytest.approx(bins.get())


def test_ranking_by_hand() -> None:
    """Ranks 0, 3, 12, 30 and a miss: recalls 2/5 and 3/5, NDCG (1 + 1/log2(5))/5, MRR over all found."""
    ranking = RankingMetrics()
    for rank in (0, 3, 12, 30, None):
        ranking.update(rank)
    found = ranking.snapshot()
    assert (5, 0.4, 0.6) == (found["n"], found["recall_at_10"], found["recall_at_20"])
    assert (1.0 + 1.0 / math.log2(5.0)) / 5.0 == pytest.approx(found["ndcg_at_10"])
    assert (1.0 + 1 / 4 + 1 / 13 + 1 / 31) / 5.0 == pytest.approx(found["mrr"])
    assert math.sqrt(0.4 * 0.6 / 5.0) == pytest.approx(ranking.standard_error())


@pytest.mark.parametrize(("rank", "hit_10", "hit_20"), [(9, 1, 1), (10, 0, 1), (19, 0, 1), (20, 0, 0)])
def test_ranks_at_the_borders(rank: int, hit_10: float, hit_20: float) -> None:
    """Rank 0 is best, so the tenth place is rank 9 and the twentieth rank 19."""
    ranking = RankingMetrics()
    ranking.update(rank)
    assert (hit_10, hit_20) == (ranking.snapshot()["recall_at_10"], ranking.snapshot()["recall_at_20"])


@pytest.mark.parametrize("n_items", [100, 20_000, 200_000])
def test_coverage_counts_different_items(n_items: int) -> None:
    """Different items are counted within 2 %, repeats are not."""
    coverage = Coverage()
    for _ in range(2):
        coverage.update(f"item-{n}" for n in range(n_items))
    assert n_items == pytest.approx(coverage.get(), rel=0.02)


def test_coverage_share() -> None:
    """The share of known items that was shown is at most 1."""
    ranking = RankingMetrics()
    ranking.update(None, ["a", "b"])
    ranking.update(0, ["b", "c"])
    assert 0.3 == pytest.approx(ranking.coverage(10), rel=1e-3)
    assert ranking.coverage(1) == 1.0
    assert math.isnan(ranking.coverage(0))


def test_coverage_is_told_by_who_tells_what_was_shown() -> None:
    """Without lists there is no count of items shown, not a count of 0."""
    ranking = RankingMetrics()
    ranking.update(3)
    assert "items_shown" not in ranking.snapshot()
    assert math.isnan(ranking.coverage(10))
    ranking.update(3, ["a"])
    assert 1.0 == pytest.approx(ranking.snapshot()["items_shown"], rel=1e-3)


@pytest.mark.parametrize("metric", [LogLoss(), CalibrationBins(), ClickMetrics(), RankingMetrics()])
def test_before_any_event(metric: LogLoss | CalibrationBins | ClickMetrics | RankingMetrics) -> None:
    """Undefined numbers are NaN from ``get`` and absent from the snapshot, which is JSON."""
    assert math.isnan(metric.get())
    assert "NaN" not in json.dumps(metric.snapshot())
    assert metric.snapshot() in ({}, {"n": 0})


def test_one_class_leaves_undefined_numbers_out() -> None:
    """Without a positive there is no AUC, no ratio and no normalised entropy."""
    clicks = ClickMetrics()
    clicks.update(0, 0.5)
    assert {"n", "log_loss", "base_rate_log_loss", "ece"} == set(clicks.snapshot())
    assert math.log(2.0) == pytest.approx(clicks.get())


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_refuses_what_is_no_probability(p: float) -> None:
    """A number outside of 0 to 1 is refused and counted nowhere."""
    clicks = ClickMetrics()
    with pytest.raises(ValueError, match="probability"):
        clicks.update(1, p)
    assert 0 == clicks.loss.n


def test_certain_and_wrong_costs_a_bounded_loss() -> None:
    """Probabilities 0 and 1 are allowed; being wrong then costs log(1e6)."""
    clicks = ClickMetrics()
    clicks.update(1, 0.0)
    clicks.update(0, 1.0)
    assert 6.0 * math.log(10.0) == pytest.approx(clicks.get(), rel=1e-6)
