"""Decayed measures equal those computed from the whole history with a weight for each observation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from online_models.recent import MAX_ITEMS, MAX_NAMES, RecentExposure, RecentLoss, RecentShares, RecentValues

DAY = 86_400.0
START = 1.7e9


def times(n: int, seed: int) -> NDArray[np.float64]:
    """Event times over 90 half-lives, some of them late, so that the landmark moves several times."""
    rng = np.random.default_rng(seed)
    return START + np.sort(rng.uniform(0.0, 90 * DAY, n)) - rng.exponential(600.0, n)


def weights(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 to the age, relative to the last observation."""
    found: NDArray[np.float64] = 2.0 ** ((at - at.max()) / DAY)
    return found


def test_the_loss_is_that_of_weighted_observations() -> None:
    """Log loss, base rate, normalised entropy and calibration by their definitions."""
    rng, at = np.random.default_rng(1), times(3000, 2)
    p = rng.uniform(0.01, 0.6, 3000)
    y = (rng.random(3000) < p * 0.8).astype(float)
    given = rng.choice([1.0, 10.0], 3000)
    recent = RecentLoss()
    for one in zip(y.tolist(), p.tolist(), given.tolist(), at.tolist(), strict=True):
        recent.update(*one)
    w = weights(at) * given
    loss = -(w @ np.where(y > 0, np.log(p), np.log1p(-p))) / w.sum()
    rate = (w @ y) / w.sum()
    base = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    told = recent.snapshot()

    assert loss == pytest.approx(told["log_loss"], rel=1e-9)
    assert loss / base == pytest.approx(told["normalised_entropy"], rel=1e-9)
    assert (w @ p) / (w @ y) == pytest.approx(told["calibration_ratio"], rel=1e-9)


def test_shares_and_entropy_are_those_of_weighted_outcomes() -> None:
    """Each name's weight over all of it."""
    rng, at = np.random.default_rng(3), times(2000, 4)
    names = rng.choice(["a", "b", "c"], 2000, p=[0.6, 0.3, 0.1])
    recent = RecentShares()
    for name, t in zip(names.tolist(), at.tolist(), strict=True):
        recent.update(name, t)
    w = weights(at)
    expected = {str(name): float(w[names == name].sum() / w.sum()) for name in np.unique(names)}

    assert expected == pytest.approx(recent.shares(), rel=1e-9)
    assert -sum(p * math.log(p) for p in expected.values()) == pytest.approx(recent.entropy(), rel=1e-9)


def test_names_are_bounded() -> None:
    """A flood of names ends up under one."""
    recent = RecentShares()
    for n in range(10 * MAX_NAMES):
        recent.update(f"offer-{n}", START)

    assert MAX_NAMES + 1 == len(recent.shares())
    assert 0.9 == pytest.approx(recent.shares()["other"], abs=0.01)


def test_exposure_is_that_of_weighted_places() -> None:
    """Gini by the mean difference of all pairs of items, coverage by what was shown lately."""
    rng, at = np.random.default_rng(5), times(500, 6)
    drawn = (60 * rng.random((500, 5)) ** 2).astype(int)
    recent = RecentExposure()
    for items, t in zip(drawn.tolist(), at.tolist(), strict=True):
        recent.update([f"i{item}" for item in items], t)
    exposure = np.zeros(80)
    np.add.at(exposure, drawn, weights(at)[:, None])
    exposure[exposure < 2.0**-4] = 0.0
    differences = np.abs(exposure[:, None] - exposure[None, :]).mean()

    assert (exposure > 0).mean() == pytest.approx(recent.coverage(80))
    assert 0.0 < recent.coverage(80) < 0.75  # not all that were ever shown
    assert differences / (2 * exposure.mean()) == pytest.approx(recent.gini(80), rel=1e-9)


def test_items_are_bounded_and_the_most_shown_stay() -> None:
    """Beyond the bound the least shown half is forgotten."""
    recent = RecentExposure()
    for _ in range(3):
        recent.update(["bestseller"], START)
    for n in range(MAX_ITEMS):
        recent.update([f"i{n}"], START)

    assert MAX_ITEMS / 2 / 1e6 == pytest.approx(recent.coverage(1_000_000))
    assert "bestseller" in recent._sums


def test_values_are_those_of_weighted_scores() -> None:
    """Mean and variance of the mean over decisions weighted by their own time, answers coming later."""
    rng, at = np.random.default_rng(7), times(4000, 8)
    scores = np.where(rng.random(4000) < 0.1, rng.uniform(1.0, 20.0, 4000), 0.0)
    told = [(t, "decided", t, 0.0) for t in at.tolist()]
    told += [(t + 4000.0, "scored", t, s) for t, s in zip(at.tolist(), scores.tolist(), strict=True) if s]
    recent = RecentValues(1)
    for _, what, decided_at, score in sorted(told):
        if what == "decided":
            recent.decided(decided_at)
        else:
            recent.scored([score], decided_at)
    w = weights(at)
    mean = (w @ scores) / w.sum()
    deviation = math.sqrt(w**2 @ (scores - mean) ** 2) / w.sum()
    interval = recent.intervals()[0]

    assert mean == pytest.approx(interval.estimate, rel=1e-9)
    assert mean + 1.959964 * deviation == pytest.approx(interval.high, rel=1e-6)
    assert mean - 1.959964 * deviation == pytest.approx(interval.low, rel=1e-6)


def test_intervals_of_ips_hold_the_truth() -> None:
    """Drawn uniformly from three arms of known rates, the greedy policy's value is in 95 of 100 intervals."""
    rng, rates = np.random.default_rng(9), np.array([0.05, 0.2, 0.1])
    held = 0
    for _ in range(200):
        recent = RecentValues(1)
        for n, arm in enumerate(rng.integers(0, 3, 3000).tolist()):
            recent.decided(START + n)
            if arm == 1 and rng.random() < rates[arm]:
                recent.scored([3.0], START + n)
        (interval,) = recent.intervals()
        held += interval.low <= rates[1] <= interval.high

    assert 180 <= held <= 199


def test_nothing_is_told_of_nothing() -> None:
    """Without observations there are no numbers."""
    assert [] == RecentValues(1).intervals()


def test_scores_of_decisions_that_others_counted_count_for_nothing() -> None:
    """After a restart answers come to what was decided before it; the mean stays that of what was counted."""
    recent = RecentValues(1)
    recent.scored([5.0], decided_at=50.0)
    assert [] == recent.intervals()
    for _ in range(4):
        recent.decided(at=100.0)
    recent.decided(at=99.0)
    recent.scored([5.0], decided_at=99.0)
    recent.scored([2.0], decided_at=100.0)

    assert 0.5 == pytest.approx(recent.intervals()[0].estimate)
    assert 4 == recent.n
    assert {} == RecentShares().shares()
    assert math.isnan(RecentShares().entropy())
    assert math.isnan(RecentExposure().gini(10))
