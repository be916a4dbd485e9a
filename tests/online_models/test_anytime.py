"""Intervals and tests that may be looked at any time: by hand, and by looking after every unit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaln

from online_models.anytime import (
    MIN_AMOUNTS,
    MIN_UNITS,
    Interval,
    difference,
    mean_interval,
    rate_interval,
    sample_ratio_p_value,
)

RUNS, LENGTH = 100, 400


@given(st.integers(0, 500), st.integers(0, 500), st.sampled_from([0.001, 0.05, 0.2]))
def test_the_bounds_of_a_rate_are_where_the_martingale_reaches_its_limit(
    successes: int, failures: int, alpha: float
) -> None:
    """At a bound B(1/2+s, 1/2+f) / B(1/2, 1/2) / (p^s (1-p)^f) is 1/alpha, by SciPy's beta function."""
    found = rate_interval(successes, successes + failures, alpha)
    mixture = betaln(0.5 + successes, 0.5 + failures) - betaln(0.5, 0.5)

    assert 0 <= found.low <= found.estimate <= found.high <= 1
    for bound in (found.low, found.high):
        if 0 < bound < 1:
            log_likelihood = successes * math.log(bound) + failures * math.log1p(-bound)
            assert mixture - log_likelihood == pytest.approx(-math.log(alpha), rel=1e-6, abs=1e-6)


def test_a_rate_that_is_looked_at_after_every_unit_is_missed_by_few_runs() -> None:
    """Of 100 runs with p = 0.1, looked at 400 times each, at most 5 % may ever miss it."""
    draws = np.random.Generator(np.random.Philox(5)).random((RUNS, LENGTH)) < 0.1
    counts = draws.cumsum(axis=1)
    known: dict[tuple[int, int], Interval] = {}

    def misses(run: int) -> bool:
        for n in range(1, LENGTH + 1):
            key = int(counts[run, n - 1]), n
            low, _, high = known.setdefault(key, rate_interval(*key, 0.05))
            if not low <= 0.1 <= high:
                return True
        return False

    missed = sum(misses(run) for run in range(RUNS))
    assert missed <= 0.05 * RUNS
    fixed = 1.96 * np.sqrt(0.09 / np.arange(1, LENGTH + 1))
    rates = counts / np.arange(1, LENGTH + 1)
    peeked = (np.abs(rates - 0.1) > fixed)[:, 30:].any(axis=1).sum()
    assert peeked > 0.15 * RUNS, "void: peeking at a fixed interval is not punished here"


def test_a_mean_that_is_looked_at_after_every_unit_is_missed_by_few_runs() -> None:
    """Revenue: nine users in ten spend nothing, the others an exponential amount; the mean is 2."""
    rng, length = np.random.Generator(np.random.Philox(6)), 4 * MIN_UNITS
    spent = rng.exponential(20.0, (RUNS, length)) * (rng.random((RUNS, length)) < 0.1)
    sums, squares = spent.cumsum(axis=1), (spent**2).cumsum(axis=1)
    missed = 0
    for run in range(RUNS):
        looks = (
            mean_interval(sums[run, n], squares[run, n], n + 1, 0.05) for n in range(MIN_UNITS - 1, length, 9)
        )
        missed += any(not found.low <= 2.0 <= found.high for found in looks)
    assert missed <= 0.05 * RUNS


@pytest.mark.parametrize(("rate", "sigma"), [(0.1, 1.0), (0.03, 1.2), (0.01, 1.0), (0.003, 0.5)])
def test_revenue_of_rare_buyers_is_rarely_missed(rate: float, sigma: float) -> None:
    """Both arms are alike, one has 5 % of users: of runs that are watched all along 5 % differ at most."""
    rng, length = np.random.Generator(np.random.Philox(11)), round(6000 / rate)
    missed = shown = 0
    for _ in range(100):
        arms = []
        for n in (length * 19 // 20, length // 20):
            amounts = np.where(rng.random(n) < rate, rng.lognormal(0.0, sigma, n), 0.0)
            arms.append((n, amounts.cumsum(), (amounts**2).cumsum()))
        found = []
        for share in np.linspace(0.02, 1.0, 60):
            places = [(round(n * share), sums, squares) for n, sums, squares in arms]
            treated, control = (
                mean_interval(sums[n - 1], squares[n - 1], n, 0.025) for n, sums, squares in places
            )
            found.append(difference(treated, control))
        shown += math.isfinite(found[-1].low)
        missed += any(not one.low <= 0.0 <= one.high for one in found)
    assert missed <= 5
    assert shown >= 80


def test_few_units_say_nothing_about_a_mean() -> None:
    """One unit below the least number, one amount below its own, or none: the interval is the whole line."""
    n, k = MIN_UNITS, int(MIN_AMOUNTS)
    assert Interval(-math.inf, 2.0, math.inf) == mean_interval(2.0 * (n - 1), 9.0 * n, n - 1, 0.05)
    assert mean_interval(2.0 * n, 9.0 * n, n, 0.05).high < math.inf
    assert math.inf == mean_interval(3.0 * (k - 1), 9.0 * (k - 1), n, 0.05).high
    assert mean_interval(3.0 * k, 9.0 * k, n, 0.05).high < math.inf
    assert Interval(-math.inf, 0.0, math.inf) == mean_interval(0.0, 0.0, n, 0.05)


def test_a_difference_combines_the_worst_cases() -> None:
    """[0.2, 0.4] - [0.1, 0.3] is [-0.1, 0.3] around 0.1."""
    found = difference(Interval(0.2, 0.3, 0.4), Interval(0.1, 0.2, 0.3))
    assert pytest.approx((-0.1, 0.1, 0.3)) == tuple(found)


def test_a_right_split_is_rarely_called_wrong_and_a_wrong_one_soon() -> None:
    """Shares 0.9 and 0.1: looked at after every unit, 5 % of runs at most fall to 0.05; at 0.8 all do."""
    rng = np.random.Generator(np.random.Philox(7))

    def falls(share: float, n: int) -> bool:
        control = (rng.random(n) < share).cumsum()
        return any(
            sample_ratio_p_value([k + 1 - int(c), int(c)], [0.9, 0.1]) <= 0.05 for k, c in enumerate(control)
        )

    assert sum(falls(0.1, LENGTH) for _ in range(RUNS)) <= 0.05 * RUNS
    assert all(falls(0.2, 1000) for _ in range(50))


def test_what_cannot_happen_is_found_at_once() -> None:
    """A control unit where nobody is held out; and no unit at all says nothing."""
    assert 0.0 == sample_ratio_p_value([10, 1], [1.0, 0.0])
    assert 1.0 == sample_ratio_p_value([10, 0], [1.0, 0.0])
    assert 1.0 == sample_ratio_p_value([0, 0], [0.95, 0.05])
