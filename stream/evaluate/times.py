"""Times of recorded lines: seconds since the epoch, or RFC 3339."""

from __future__ import annotations

from online_models.fading import MAX_TIME_S
from schemas.codec import parse_time

__all__ = ["Time", "seconds_of"]

Time = float | str | None


def seconds_of(value: Time, name: str) -> float | None:
    """Return seconds since the epoch, None where no time was given.

    Raises
    ------
    ValueError
        It is no time, or beyond what models forget by; the message names the field.

    >>> seconds_of("1970-01-01T00:01:00Z", "time")
    60.0
    """
    if value is None:
        return None
    try:
        seconds = parse_time(value) if isinstance(value, str) else float(value)
    except ValueError as error:
        raise ValueError(f"{name} {value!r} is neither seconds nor RFC 3339") from error
    if not abs(seconds) <= MAX_TIME_S:
        raise ValueError(f"{name} {value!r} is not within ±{MAX_TIME_S:g} s; are these milliseconds?")
    return seconds
