"""Alarms when a model's progressive error has risen: River's ADWIN over means of windows.

A watch belongs to one worker and is no state of a model: it starts anew with the worker, and a batch that is
undone and learned again is seen twice. What an alarm *does* is an operation of the model
(:class:`online_models.fading.ForgettingClock`), travels in its delta, and is undone with its batch.

Reference
---------
Bifet, Gavaldà: Learning from Time-Changing Data with Adaptive Windowing, SDM 2007.
"""

from __future__ import annotations

from typing import Any

__all__ = ["DriftWatch"]

WINDOW = (
    10  # examples; the bound of ADWIN is for inputs from 0 to 1, and means of more would be too few inputs
)


class DriftWatch:
    """Tells when errors are larger than they were.

    Parameters
    ----------
    window : int
        Examples whose mean is looked at as one.
    delta : float
        Bound of the chance of an alarm without a change, at each look.

    Examples
    --------
    >>> watch = DriftWatch(window=10)
    >>> any(watch.update(0.1 + 0.01 * (n % 3)) for n in range(2000))
    False
    >>> any(watch.update(0.5 + 0.01 * (n % 3)) for n in range(500))
    True
    """

    def __init__(self, window: int = WINDOW, delta: float = 0.002) -> None:
        self._window = window
        from river.drift import ADWIN  # noqa: PLC0415  a second of imports that only a worker needs

        make: Any = ADWIN
        self._adwin = make(delta=delta, clock=1)
        self._sum = 0.0
        self._n = 0
        self._untold = 0
        self.n_alarms = 0

    def update(self, error: float) -> bool:
        """Take note of one error from 0 to 1; return whether errors have risen."""
        self._sum += error
        self._n += 1
        if self._n < self._window:
            return False
        before = self._adwin.estimation
        self._adwin.update(self._sum / self._n)
        self._sum, self._n = 0.0, 0
        if not self._adwin.drift_detected or self._adwin.estimation <= before:
            return False  # as it was, or better: models that learn get better
        self.n_alarms += 1
        self._untold += 1
        return True

    def take_alarms(self) -> int:
        """How many alarms there were since this was asked last."""
        untold, self._untold = self._untold, 0
        return untold
