"""Baseline: how often each item was chosen, halved in every half-life."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream.evaluate.baselines.catalogue import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DecayedCounts"]

MAX_DOUBLINGS = 500.0  # 2**500: far from the end of a double, reached once in 500 half-lives


class DecayedCounts:
    """Decayed popularity, repeats included; the same list for everybody.

    Weights grow with time instead of counts shrinking (forward decay), which orders items alike.
    """

    def __init__(self, half_life_s: float, name: str) -> None:
        self.name = name
        self._half_life_s = half_life_s
        self._landmark: float | None = None
        self._counts = np.zeros(256)
        self._n = 0

    def scores(self, user: int, at: float) -> NDArray[np.float64]:
        """Decayed counts, up to a common factor."""
        del user, at
        return self._counts[: self._n]

    def learn(self, user: int, item: int, at: float, *, repeat: bool) -> None:
        """Count."""
        del user, repeat
        if self._landmark is None:
            self._landmark = at
        doublings = (at - self._landmark) / self._half_life_s
        if doublings > MAX_DOUBLINGS:
            self._counts *= 2.0**-doublings
            self._landmark, doublings = at, 0.0
        self._n = max(self._n, item + 1)
        self._counts = grown(self._counts, self._n)
        self._counts[item] += 2.0**doublings
