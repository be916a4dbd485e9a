"""Alarms: seldom without a change, soon after one, and only when errors rise."""

from __future__ import annotations

import numpy as np

from online_models.click_rate import ClickRate
from online_models.drift import DriftWatch


def alarms(watch: DriftWatch, errors: list[float]) -> list[int]:
    """Examples at which there was an alarm."""
    return [n for n, error in enumerate(errors) if watch.update(error)]


def squared_errors(rate: float, n: int, seed: int) -> list[float]:
    """Errors of a model that always says .1 where the truth is another rate."""
    y = np.random.default_rng(seed).random(n) < rate
    found: list[float] = ((y - 0.1) ** 2).tolist()
    return found


def test_no_alarm_without_a_change() -> None:
    """20,000 examples at one rate, five times: no alarm."""
    assert [[]] * 5 == [alarms(DriftWatch(), squared_errors(0.1, 20_000, seed)) for seed in range(5)]


def test_an_alarm_soon_after_errors_rise_and_none_when_they_fall() -> None:
    """Errors that grow threefold raise one within 2,000 examples; errors that fall again raise none."""
    watch = DriftWatch()
    assert [] == alarms(watch, squared_errors(0.1, 10_000, 1))
    raised = alarms(watch, squared_errors(0.3, 5000, 2))
    assert raised
    assert raised[0] < 2000
    assert len(raised) == watch.n_alarms == watch.take_alarms()
    assert 0 == watch.take_alarms()
    assert [] == alarms(watch, squared_errors(0.02, 10_000, 3))


def test_an_alarm_lets_a_model_follow_a_change_sooner() -> None:
    """After half of a hundred known rates turned over, an alarmed model is nearer to them six days on."""
    day, probabilities = 86_400.0, []
    for alarmed in (False, True):
        model, watch = ClickRate(n_slots=2**12), DriftWatch()
        model.begin()
        for n in range(36_000):
            turned = n % 2 == 0 and n >= 30_000
            y, at = float((n // 100 % 10 == 0) != turned), n * day / 1000.0
            p = model.learn_one({"a": str(n % 100)}, y, 1.0, at)
            if watch.update((y - p) ** 2) and alarmed:
                model.alarm(at)
        known = [model.predict_proba_one({"a": str(k)}, 36 * day) for k in range(0, 100, 2)]
        probabilities.append(sum(known) / len(known))
    assert probabilities[1] > probabilities[0] + 0.01
