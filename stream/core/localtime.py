"""The user's clock: calendar day, quiet hours and the hours in which somebody is usually active. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["day_of", "is_zone", "known_zone", "next_active_hour", "quiet_until", "zone_of"]

HOUR_S = 3600.0
MIN_ACTIVITY = 8  # events before a user's own hours say anything


def zone_of(name: str | None, fallback: str) -> tzinfo:
    """Zone by name; an unknown one counts as the fallback, an unknown fallback as UTC."""
    return _zone(name or "") or _zone(fallback) or UTC


def is_zone(name: str) -> bool:
    """Whether there is a zone of that name."""
    return _zone(name) is not None


def known_zone(name: str | None, fallback: str) -> str:
    """Name of the zone that :func:`zone_of` takes."""
    return next((known for known in (name or "", fallback) if is_zone(known)), "UTC")


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def day_of(now: float, zone: tzinfo) -> int:
    """Number of the calendar day."""
    return datetime.fromtimestamp(now, zone).toordinal()


def quiet_until(hours: str, now: float, zone: tzinfo) -> float | None:
    """When the quiet hours end in which ``now`` lies; ``None`` outside of them.

    An end that the clock skips in spring is later by what it skips (02:30 is 03:30, as in RFC 5545); of one
    that comes twice in autumn the first that is still ahead counts.

    >>> quiet_until("21:00-08:00", 22 * 3600.0, UTC) == 32 * 3600.0
    True
    >>> quiet_until("21:00-08:00", 12 * 3600.0, UTC) is None
    True
    """
    if hours == "none":
        return None
    start, end = _minutes(hours)
    local = datetime.fromtimestamp(now, zone)
    minute = _minute_of(local)
    if not _inside(start, end, minute):
        return None
    day = local.replace(hour=end // 60, minute=end % 60, second=0, microsecond=0)
    if end <= minute:
        day += timedelta(days=1)
    for at in sorted(day.replace(fold=fold).timestamp() for fold in (0, 1)):
        there = datetime.fromtimestamp(at, zone)
        if at > now and not _inside(start, end, _minute_of(there)):
            return at
    return now + HOUR_S


def _minute_of(local: datetime) -> int:
    return local.hour * 60 + local.minute


def _inside(start: int, end: int, minute: int) -> bool:
    return start <= minute < end if start <= end else minute >= start or minute < end


@lru_cache(maxsize=256)
def _minutes(hours: str) -> tuple[int, int]:
    start, _, end = hours.partition("-")
    return _minute(start), _minute(end)


def _minute(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


def next_active_hour(counts: Sequence[int], now: float) -> float | None:
    """When the user's most active hour of the day begins next; ``None``: now, or nobody can tell.

    Counts are by hour of the day in UTC, which is as good as local time for all but the days on which
    clocks change. Of equal hours the earliest ahead counts.
    """
    if sum(counts) < MIN_ACTIVITY:
        return None
    this = int(now // HOUR_S)
    ahead = max(range(24), key=lambda n: (counts[(this + n) % 24], -n))
    return None if ahead == 0 else (this + ahead) * HOUR_S
