"""The clock by which a model forgets: event time in half-lives, which an alarm makes run ahead.

An alarm forgets one half-life more, spread over the day of event time after the one in which it was raised:
evidence halves, the posterior of what was learned widens, and nothing is reset. Days with an alarm are a set,
so workers that hear of them in another order keep the same clock.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

import numpy as np

from online_models.delta import DeltaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from online_models.base import Snapshot
    from online_models.delta import DeltaReader, DeltaWriter

__all__ = ["ForgettingClock"]

DAY_S = 86_400.0
MAX_TIME_S = 1e11  # the year 5138
MIN_HALF_LIFE_S = 3600.0
TICKS = 64.0  # of a half-life; between ticks the age stands still
# Days that are remembered one by one; older ones are a number. News of a day that is older still are dropped,
# and whether they are depends on the order of news: so eleven years of an alarm a day lie in between.
MAX_ALARMS = 4096


class ForgettingClock:
    """Age of an event time in half-lives.

    Parameters
    ----------
    name : str
        Section of the alarms in a delta.
    half_life_s : float
        Event time in which evidence loses half of its weight, s; ``inf`` forgets at alarms alone.

    Examples
    --------
    >>> clock = ForgettingClock("alarms", half_life_s=10 * 86_400.0)
    >>> clock.age_of(20 * 86_400.0)
    2.0
    >>> clock.alarm(20 * 86_400.0)
    True
    >>> clock.age_of(20 * 86_400.0), clock.age_of(21.5 * 86_400.0), clock.age_of(30 * 86_400.0)
    (2.0, 2.640625, 4.0)
    """

    def __init__(self, name: str, half_life_s: float = math.inf) -> None:
        if not half_life_s >= MIN_HALF_LIFE_S:
            raise ValueError(f"half_life_s is {half_life_s}; it must be at least {MIN_HALF_LIFE_S:.0f}")
        self.section = name
        self.half_life_s = half_life_s
        self._days: list[int] = []
        self._settled = 0  # alarms of days that are no longer remembered one by one
        self._raised: list[int] = []
        self._before: tuple[list[int], int] = ([], 0)
        self._memo = (math.nan, 0.0)

    @property
    def n_alarms(self) -> int:
        """How many days had an alarm."""
        return self._settled + len(self._days)

    def age_of(self, at: float) -> float:
        """Age at an event time, s since the epoch; a time before the epoch has age 0.

        Raises
        ------
        ValueError
            When the time is not finite or beyond the year 5138.
        """
        if at == self._memo[0]:
            return self._memo[1]
        if not abs(at) <= MAX_TIME_S:
            raise ValueError(f"event time {at}; it must lie within ±{MAX_TIME_S:g} s")
        now = at / DAY_S
        whole = bisect_right(self._days, now - 2.0)  # of these days each counts whole
        age = max(at, 0.0) / self.half_life_s + self._settled + whole
        for day in self._days[whole : bisect_left(self._days, now - 1.0)]:
            age += now - day - 1.0
        age = math.floor(age * TICKS) / TICKS
        self._memo = (at, age)
        return age

    def alarm(self, at: float) -> bool:
        """Forget faster from the day after ``at`` on; return whether the day is the first to hear of it."""
        self.age_of(at)  # refuses a time that is none
        day = math.floor(at / DAY_S)
        if not self._add(day):
            return False
        self._raised.append(day)
        return True

    def _add(self, day: int) -> bool:
        at = bisect_left(self._days, day)
        if day in self._days[at : at + 1] or (self._settled and day < self._days[0]):
            return False
        insort(self._days, day)
        if len(self._days) > MAX_ALARMS:
            del self._days[0]
            self._settled += 1
        self._memo = (math.nan, 0.0)
        return True

    # One batch

    def open(self) -> None:
        """Begin a batch."""
        self._before = (self._days.copy(), self._settled)
        self._raised.clear()

    def write(self, delta: DeltaWriter) -> None:
        """Write the days of the batch's alarms."""
        delta.add(self.section, {"day": np.array(self._raised, np.int64)})

    def undo(self) -> None:
        """Undo the batch."""
        self._days, self._settled = self._before
        self._memo = (math.nan, 0.0)

    def read(self, delta: DeltaReader) -> None:
        """Hear of the alarms of a committed batch."""
        columns = delta.columns(self.section)
        if not columns:
            return
        days = columns["day"]
        if days.dtype != np.int64 or days.ndim != 1 or (np.abs(days) > MAX_TIME_S / DAY_S).any():
            raise DeltaError("days of alarms are no days")
        for day in days.tolist():
            self._add(day)

    def state(self) -> Snapshot:
        """Days with an alarm, after the number of older ones."""
        return {"alarms": np.array([self._settled, *self._days], np.int64)}

    def take_over(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over :meth:`state`."""
        self._settled, *self._days = arrays["alarms"].astype(np.int64).tolist()
        self._memo = (math.nan, 0.0)
