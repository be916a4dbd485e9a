"""Measures of the recent past: what is older counts less, by event time.

Forward decay (Cormode, Shkapenyuk, Srivastava, Xu, ICDE 2009): an observation enters with a weight that grows
with its event time, so nothing is touched again, and every measure is a ratio in which the growth cancels.
So the numbers are a function of the observations in their order, whenever one looks. All of it is plain
Python: an update costs less than a microsecond, and memory is bounded.

References
----------
Kish: Survey Sampling, 1965 (effective sample size, here of the weights' decay).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

import numpy as np

from online_models.anytime import Interval
from online_models.metrics import LogLoss

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["RecentExposure", "RecentLoss", "RecentShares", "RecentValues"]

HALF_LIFE_S: Final = 86_400.0
MAX_AGE: Final = 32.0  # half-lives from the landmark; from there on all sums are brought to a new one
LEAST_EXPOSURE: Final = 2.0**-4  # of one showing: an item not shown for four half-lives is not covered
MAX_ITEMS: Final = 65_536
MAX_NAMES: Final = 256
OTHER: Final = "other"
Z_95: Final = 1.959964  # two-sided 95 % of the normal distribution


class _Decayed(ABC):
    """The weight of an event time; a subclass scales its sums when the landmark moves.

    Attributes
    ----------
    n : int
        How much was observed in all.
    """

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        self.n = 0
        self._rate = 1.0 / half_life_s
        self._landmark = -math.inf

    def _weight(self, at: float) -> float:
        age = (at - self._landmark) * self._rate
        if age > MAX_AGE:
            self._scale(2.0**-age)
            self._landmark, age = at, 0.0
        return float(2.0**age)

    @abstractmethod
    def _scale(self, factor: float) -> None:
        """Multiply all sums."""


class RecentLoss(_Decayed):
    """Log loss, normalised entropy and calibration ratio of a probability model.

    >>> recent = RecentLoss(half_life_s=60.0)
    >>> recent.update(0, 0.5, 1.0, at=0.0)
    >>> recent.update(1, 0.5, 1.0, at=60.0)
    >>> round(recent.snapshot()["calibration_ratio"], 3)  # (.5 / 2 + .5) / 1
    0.75
    """

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        super().__init__(half_life_s)
        self._loss = LogLoss()

    def update(self, y: float, p: float, weight: float, at: float) -> None:
        """Count one outcome ``y`` of 0 or 1 that was predicted with probability ``p``."""
        self.n += 1
        self._loss.update(y, p, weight * self._weight(at))

    def snapshot(self) -> dict[str, float]:
        """The numbers of :class:`online_models.metrics.LogLoss`; ``n`` is of all time."""
        return self._loss.snapshot()

    def _scale(self, factor: float) -> None:
        self._loss.scale(factor)


class RecentShares(_Decayed):
    """Shares of named outcomes, and their entropy. Beyond 256 names the rest are ``other``.

    >>> recent = RecentShares(half_life_s=60.0)
    >>> recent.update("a", at=0.0)
    >>> recent.update("b", at=60.0)
    >>> {name: round(share, 3) for name, share in recent.shares().items()}
    {'a': 0.333, 'b': 0.667}
    """

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        super().__init__(half_life_s)
        self._sums: dict[str, float] = {}

    def update(self, name: str, at: float) -> None:
        """Count one outcome."""
        self.n += 1
        weight, sums = self._weight(at), self._sums
        if name not in sums and len(sums) >= MAX_NAMES:
            name = OTHER
        sums[name] = sums.get(name, 0.0) + weight

    def shares(self) -> dict[str, float]:
        """Share of each name; they sum to 1."""
        total = sum(self._sums.values())
        return {name: value / total for name, value in sorted(self._sums.items())} if total else {}

    def entropy(self) -> float:
        """Entropy of the shares, in nats; NaN before anything was counted."""
        shares = self.shares()
        return -sum(p * math.log(p) for p in shares.values() if p > 0.0) + 0.0 if shares else math.nan

    def _scale(self, factor: float) -> None:
        self._sums = {name: value * factor for name, value in self._sums.items()}


class RecentExposure(_Decayed):
    """How a catalogue's items share the places of lists; the least shown go beyond 65,536 items.

    >>> recent = RecentExposure()
    >>> recent.update(["a", "b"], at=0.0)
    >>> recent.coverage(4), recent.gini(4)
    (0.5, 0.5)
    """

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        super().__init__(half_life_s)
        self._sums: dict[str, float] = {}
        self._last = -math.inf

    def update(self, item_ids: Iterable[str], at: float) -> None:
        """Count the items of one list."""
        self.n += 1
        weight, sums = self._weight(at), self._sums
        for item_id in item_ids:
            sums[item_id] = sums.get(item_id, 0.0) + weight
        self._last = max(self._last, at)
        if len(sums) > MAX_ITEMS:
            kept = sorted(sums.items(), key=lambda one: (-one[1], one[0]))[: MAX_ITEMS // 2]
            self._sums = dict(kept)

    def coverage(self, n_items: int) -> float:
        """Share of ``n_items`` that stood in a list lately: each at least a 16th of a showing now."""
        return min(1.0, len(self._shown()) / n_items) if n_items > 0 and self._sums else math.nan

    def gini(self, n_items: int) -> float:
        """Gini coefficient of the exposure of ``n_items``: 0 is equal; those never shown count as 0."""
        shown = np.sort(np.array(self._shown()))
        if n_items <= 0 or not len(shown):
            return math.nan
        n = max(n_items, len(shown))
        ranks = np.arange(n - len(shown) + 1, n + 1)
        return float(2.0 * (ranks @ shown) / (n * shown.sum()) - (n + 1) / n)

    def _shown(self) -> list[float]:
        least = LEAST_EXPOSURE * self._weight(self._last) if self._sums else 0.0
        return [value for value in self._sums.values() if value >= least]

    def _scale(self, factor: float) -> None:
        self._sums = {item: value * factor for item, value in self._sums.items() if value * factor > 2.0**-16}


class RecentValues(_Decayed):
    """Means of several scores per decision, where only scores above 0 are told, some time after it.

    A score that is still to come counts as 0 until then. Importance-weighted rewards are such scores, and
    their mean is the estimate of inverse propensity scoring. Decisions of before the first that was counted
    here, and their scores, count for nothing: another process counted them.

    >>> recent = RecentValues(1)
    >>> for _ in range(4):
    ...     recent.decided(at=0.0)
    >>> recent.scored([2.0], decided_at=0.0)
    >>> recent.intervals()[0].estimate
    0.5
    """

    def __init__(self, n: int, half_life_s: float = HALF_LIFE_S) -> None:
        super().__init__(half_life_s)
        self._units = 0.0
        self._units_2 = 0.0
        self._sums = [0.0] * n
        self._sums_2 = [0.0] * n  # of the weights' squares
        self._squares = [0.0] * n
        self._since = math.inf

    def decided(self, at: float) -> None:
        """Count one decision."""
        if not self.n:
            self._since = at
        if at < self._since:
            return
        self.n += 1
        weight = self._weight(at)
        self._units += weight
        self._units_2 += weight * weight

    def scored(self, scores: Sequence[float], decided_at: float) -> None:
        """Add the scores of a decision, if it was counted."""
        if decided_at < self._since:
            return
        weight = self._weight(decided_at)
        squared = weight * weight
        for n, score in enumerate(scores):
            self._sums[n] += weight * score
            self._sums_2[n] += squared * score
            self._squares[n] += squared * score * score

    def intervals(self) -> list[Interval]:
        """Each mean with its 95 % interval by the normal approximation, which holds at any one time.

        Not at all times together: old decisions fade, so there is no martingale. Empty before anything was
        decided.
        """
        total = self._units
        if not total > 0.0:
            return []
        found = []
        for mass, mass_2, squares in zip(self._sums, self._sums_2, self._squares, strict=True):
            mean = mass / total
            spread = squares - 2.0 * mean * mass_2 + mean * mean * self._units_2
            width = Z_95 * math.sqrt(max(spread, 0.0)) / total
            found.append(Interval(mean - width, mean, mean + width))
        return found

    def _scale(self, factor: float) -> None:
        self._units *= factor
        self._units_2 *= factor * factor
        self._sums = [value * factor for value in self._sums]
        self._sums_2 = [value * factor * factor for value in self._sums_2]
        self._squares = [value * factor * factor for value in self._squares]
