"""Off-policy estimates on public logs contain what the estimated policy earned where it was at work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import benchmarks.offers_logged as logs


@pytest.fixture(autouse=True)
def _data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "DATA", data_dir)


def contains(estimate: dict[str, Any], value: float) -> bool:
    """Whether the interval of an estimate holds a value."""
    low, high = estimate["interval"]
    return bool(low <= value <= high)


@pytest.mark.parametrize("campaign", ["all", "men"])
def test_open_bandit_logs_value_the_random_policy(campaign: str) -> None:
    """From the log of Bernoulli Thompson sampling; a mean weight of 1 says propensities are right."""
    found = logs.reproduce_random(campaign)

    assert abs(found["mean_weight"] - 1.0) < 3 * found["mean_weight_standard_error"]
    assert contains(found["ips"], found["own_log"]["value"])
    assert contains(found["snips"], found["own_log"]["value"])


def test_a_greedy_policy_earns_in_the_trial_what_was_estimated() -> None:
    """Fitted, estimated and checked on three different thirds of Hillstrom's e-mail trial."""
    found = logs.greedy_policy()

    for name in ("ips", "snips", "dr"):
        assert contains(found[name], found["held_out_truth"]["value"]), name
