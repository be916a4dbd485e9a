"""The user's clock, by hand and against a walk through the minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.localtime import day_of, known_zone, next_active_hour, quiet_until, zone_of

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC")


def at(text: str) -> float:
    """UTC time as seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("hours", "now", "until"),
    [
        ("21:00-08:00", "2026-01-01T19:59", None),
        ("21:00-08:00", "2026-01-01T20:00", "2026-01-02T07:00"),
        ("21:00-08:00", "2026-01-02T06:59", "2026-01-02T07:00"),
        ("21:00-08:00", "2026-01-02T07:00", None),
        ("12:00-13:00", "2026-07-01T10:30", "2026-07-01T11:00"),
        # Clocks go forward at 01:00 UTC on 29 March: 02:30 does not exist, it is 03:30.
        ("21:00-02:30", "2026-03-28T22:00", "2026-03-29T01:30"),
        ("21:00-08:00", "2026-03-28T22:00", "2026-03-29T06:00"),
        # Clocks go back at 01:00 UTC on 25 October: 02:30 comes at 00:30 and at 01:30.
        ("21:00-02:30", "2026-10-24T22:00", "2026-10-25T00:30"),
        ("21:00-02:30", "2026-10-25T01:10", "2026-10-25T01:30"),
        ("none", "2026-01-01T20:00", None),
    ],
)
def test_quiet_hours_in_berlin(hours: str, now: str, until: str | None) -> None:
    """One hour ahead of UTC in winter, two in summer."""
    assert quiet_until(hours, at(now), BERLIN) == (None if until is None else at(until))


@pytest.mark.parametrize(
    ("zone", "hours", "now", "until"),
    [
        ("Europe/Berlin", "21:00-02:30", "2026-03-29T00:30", "2026-03-29T01:30"),
        ("Europe/Berlin", "21:00-03:00", "2026-03-29T00:30", "2026-03-29T01:00"),
        ("America/Sao_Paulo", "22:00-00:30", "2018-11-04T02:00", "2018-11-04T03:30"),
        ("Australia/Lord_Howe", "22:00-02:15", "2026-10-03T14:00", "2026-10-03T15:45"),
    ],
)
def test_an_end_that_the_clock_skips_is_later_by_what_it_skips(
    zone: str, hours: str, now: str, until: str
) -> None:
    """Times in UTC; the clock of Lord Howe skips half an hour."""
    assert at(until) == quiet_until(hours, at(now), ZoneInfo(zone))


@given(
    st.sampled_from(ZONES),
    st.integers(0, 365 * 24 * 60),
    st.integers(0, 24 * 60 - 1),
    st.integers(0, 24 * 60 - 1),
)
def test_the_end_of_quiet_hours_is_ahead_and_not_quiet(zone: str, minute: int, start: int, end: int) -> None:
    """Whatever the clock does: it ends, within a day and an hour, at a minute that is not quiet."""
    hours = f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}"
    now, where = at("2026-01-01T00:00") + 60.0 * minute, ZoneInfo(zone)
    until = quiet_until(hours, now, where)
    if until is None:
        return

    assert now < until <= now + timedelta(hours=25).total_seconds()
    skipped = datetime.fromtimestamp(until, where)
    local = skipped.hour * 60 + skipped.minute
    assert local == end or where.utcoffset(skipped) != where.utcoffset(datetime.fromtimestamp(now, where))


def test_days_are_the_users() -> None:
    """23:30 in London is the next day in Kolkata; an unknown zone is the fallback, or else UTC."""
    now = at("2026-01-01T23:30")

    assert day_of(now, UTC) + 1 == day_of(now, ZoneInfo("Asia/Kolkata"))
    assert (ZoneInfo("Asia/Kolkata"), UTC) == (zone_of("x/y", "Asia/Kolkata"), zone_of(None, "no such"))


def test_the_most_active_hour_is_the_next_one() -> None:
    """Nine events at 19:00 and one at 08:00; fewer than eight in all say nothing."""
    counts = [0] * 24
    counts[19], counts[8] = 9, 1

    assert at("2026-01-01T19:00") == next_active_hour(counts, at("2026-01-01T10:20"))
    assert at("2026-01-02T19:00") == next_active_hour(counts, at("2026-01-01T20:20"))
    assert next_active_hour(counts, at("2026-01-01T19:20")) is None
    assert next_active_hour([0] * 24, at("2026-01-01T19:20")) is None


@pytest.mark.parametrize(
    ("name", "fallback", "taken"),
    [
        ("Asia/Kolkata", "Europe/Berlin", "Asia/Kolkata"),
        ("Mars/Olympus", "Europe/Berlin", "Europe/Berlin"),
        ("+05:30", "Europe/Berlin", "Europe/Berlin"),
        (None, "Europe/Berlin", "Europe/Berlin"),
        ("Mars/Olympus", "no such", "UTC"),
    ],
)
def test_the_zone_that_is_told_is_the_one_that_is_taken(name: str | None, fallback: str, taken: str) -> None:
    """Whoever reads it can load it."""
    assert taken == known_zone(name, fallback)
    assert ZoneInfo(taken) == zone_of(name, fallback) or zone_of(name, fallback) is UTC
