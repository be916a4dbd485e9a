"""The clock by which models forget: event time, and a step for each day with an alarm."""

from __future__ import annotations

import math
import random

import pytest

from online_models.fading import TICKS, ForgettingClock

DAY = 86_400.0


def clock_of(days: list[int]) -> ForgettingClock:
    """A clock that heard of alarms in this order."""
    clock = ForgettingClock("alarms", 30 * DAY)
    for day in days:
        clock.alarm(day * DAY + 5.0)
    return clock


@pytest.mark.parametrize("n_days", [1, 3, 64, 65, 500])
def test_an_age_counts_the_days_before_it(n_days: int) -> None:
    """Half-lives since 1970, and of each alarm's step what is over: it lasts the whole day after it."""
    rng = random.Random(n_days)
    days = rng.sample(range(20_000, 22_000), n_days)
    clock = clock_of(days)

    assert n_days == clock.n_alarms
    for _ in range(200):
        at = rng.choice([rng.uniform(19_990, 22_010), float(rng.choice(days) + rng.randrange(4))]) * DAY
        steps = sum(min(max(at / DAY - day - 1.0, 0.0), 1.0) for day in days)
        assert clock.age_of(at) == pytest.approx(at / (30 * DAY) + steps, abs=1.5 / TICKS)


def test_the_order_of_news_changes_nothing() -> None:
    """Also over more days than a clock used to remember, heard of twice, or undone in between."""
    days = list(range(20_000, 20_600, 3))
    forward, shuffled = clock_of(days), clock_of([])
    random.Random(1).shuffle(days)
    for day in days:
        shuffled.alarm(day * DAY)
        shuffled.open()
        shuffled.alarm(day * DAY + 2 * DAY)
        shuffled.undo()
        assert not shuffled.alarm(day * DAY + 60.0)
    for at in (19_000.0, 20_050.5, 20_599.0, 30_000.0):
        assert forward.age_of(at * DAY) == shuffled.age_of(at * DAY)
    heard = ForgettingClock("alarms", 30 * DAY)
    heard.take_over(forward.state())
    assert len(days) == heard.n_alarms
    assert math.isclose(heard.age_of(30_000 * DAY), forward.age_of(30_000 * DAY), rel_tol=0.0)
