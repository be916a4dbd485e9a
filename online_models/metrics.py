"""Progressive metrics: every model is scored on an event before it learns it.

Plain Python floats, one dictionary of results, memory that does not grow with the stream.
``update`` takes one event, ``get`` gives the headline number, ``snapshot`` all numbers by the names that
reports use. A number that is not defined yet (no positives, no events) is NaN from ``get`` and absent from
``snapshot``, so that a snapshot is always valid JSON.

References
----------
He et al.: Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014 (normalised entropy,
calibration). Vinagre, Jorge, Gama: Evaluation of recommender systems in streaming environments, 2015.
Whang, Vander-Zanden, Taylor: A Linear-Time Probabilistic Counting Algorithm, 1990 (coverage).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Protocol

__all__ = ["CalibrationBins", "ClickMetrics", "Coverage", "LogLoss", "Metric", "RankingMetrics"]

MIN_PROBABILITY = 1e-6  # one surprise costs at most 13.8 nats
N_ECE_BINS = 20
_N_BINS = 2048
_MAX_LOG_ODDS = 14.0  # σ(-14) is 8e-7, just outside the clipped range
_BINS_PER_UNIT = _N_BINS / (2.0 * _MAX_LOG_ODDS)


class Metric(Protocol):
    """What all metrics share besides their own ``update``."""

    def get(self) -> float:
        """Headline number, NaN while it is not defined."""

    def snapshot(self) -> dict[str, float]:
        """Every number that is defined, by its reporting name."""


def _clipped(p: float) -> float:
    if not 0.0 <= p <= 1.0:  # also NaN, which would poison every later number
        raise ValueError(f"probability is {p}; it must be between 0 and 1")
    return min(max(p, MIN_PROBABILITY), 1.0 - MIN_PROBABILITY)


class LogLoss:
    """Mean negative log likelihood of binary outcomes, beside that of always saying the base rate.

    The base-rate loss is the entropy of the stream's overall rate, which no constant prediction can beat, so
    normalised entropy below 1 means that the features told something (He et al. 2014).

    >>> loss = LogLoss()
    >>> for y, p in [(1, 0.8), (0, 0.4)]:
    ...     loss.update(y, p)
    >>> round(loss.get(), 4), round(loss.base_rate(), 4)
    (0.367, 0.6931)
    """

    def __init__(self) -> None:
        self.n = 0
        self._weight = 0.0
        self._loss = 0.0
        self._positives = 0.0
        self._predicted = 0.0

    def update(self, y: float, p: float, weight: float = 1.0) -> None:
        """Count one outcome ``y`` of 0 or 1 that was predicted with probability ``p``."""
        clipped = _clipped(p)
        self.n += 1
        self._weight += weight
        self._loss -= weight * (math.log(clipped) if y else math.log(1.0 - clipped))
        self._predicted += weight * p
        if y:
            self._positives += weight

    def scale(self, factor: float) -> None:
        """Let all outcomes so far count so much less; ratios stay as they are."""
        self._weight *= factor
        self._loss *= factor
        self._positives *= factor
        self._predicted *= factor

    def get(self) -> float:
        """Log loss in nats per event."""
        return self._loss / self._weight if self._weight else math.nan

    def base_rate(self) -> float:
        """Entropy of the outcomes' overall rate, in nats."""
        if not self._weight:
            return math.nan
        rate = self._positives / self._weight
        if rate in (0.0, 1.0):
            return 0.0
        return -rate * math.log(rate) - (1.0 - rate) * math.log(1.0 - rate)

    def normalised_entropy(self) -> float:
        """Log loss over base-rate log loss; NaN while all outcomes are equal."""
        base = self.base_rate()
        return self.get() / base if base > 0.0 else math.nan

    def calibration_ratio(self) -> float:
        """Predicted over observed positives: 1 is right, above 1 promises too much; NaN without positives."""
        return self._predicted / self._positives if self._positives else math.nan

    def snapshot(self) -> dict[str, float]:
        """Return n, log_loss, base_rate_log_loss, normalised_entropy, calibration_ratio."""
        return _defined(
            n=self.n,
            log_loss=self.get(),
            base_rate_log_loss=self.base_rate(),
            normalised_entropy=self.normalised_entropy(),
            calibration_ratio=self.calibration_ratio(),
        )


class CalibrationBins:
    """Expected calibration error and AUC from a histogram of 2,048 bins of log odds.

    A bin is .014 wide in log odds, a relative step of 1.4 % in small probabilities, so the AUC differs from
    the exact one by the share of pairs inside one bin, half of which count as ties; a test measures it.
    """

    def __init__(self) -> None:
        self._weight = [0.0] * _N_BINS
        self._positives = [0.0] * _N_BINS
        self._predicted = [0.0] * _N_BINS

    def update(self, y: float, p: float, weight: float = 1.0) -> None:
        """Count one outcome ``y`` of 0 or 1 that was predicted with probability ``p``."""
        clipped = _clipped(p)
        at = int((math.log(clipped / (1.0 - clipped)) + _MAX_LOG_ODDS) * _BINS_PER_UNIT)
        self._weight[at] += weight
        self._predicted[at] += weight * p
        if y:
            self._positives[at] += weight

    def get(self) -> float:
        """Return the expected calibration error over 20 bins."""
        return self.ece()

    def ece(self, n_bins: int = N_ECE_BINS) -> float:
        """Mean absolute gap of predicted and observed rate over ``n_bins`` bins of (nearly) equal count.

        A histogram bin that straddles a border is divided in proportion, so all bins have the same count.
        """
        total = sum(self._weight)
        if not total:
            return math.nan
        room = total / n_bins
        gap = 0.0
        left, difference = room, 0.0
        for weight, positives, predicted in zip(self._weight, self._positives, self._predicted, strict=True):
            if not weight:
                continue
            per_unit = (predicted - positives) / weight
            rest = weight
            while rest > left:
                gap += abs(difference + per_unit * left)
                rest -= left
                left, difference = room, 0.0
            difference += per_unit * rest
            left -= rest
        return (gap + abs(difference)) / total

    def auc(self) -> float:
        """Chance that a positive was scored above a negative, ties counting half; NaN with one class only."""
        positives = sum(self._positives)
        negatives = sum(self._weight) - positives
        if not positives or not negatives:
            return math.nan
        below = 0.0
        won = 0.0
        for weight, positive in zip(self._weight, self._positives, strict=True):
            negative = weight - positive
            won += positive * (below + 0.5 * negative)
            below += negative
        return won / (positives * negatives)

    def snapshot(self) -> dict[str, float]:
        """Return ``auc`` and ``ece``."""
        return _defined(auc=self.auc(), ece=self.ece())


class ClickMetrics:
    """All numbers of a probability model: log loss, normalised entropy, calibration, ECE(20), AUC."""

    def __init__(self) -> None:
        self.loss = LogLoss()
        self.bins = CalibrationBins()

    def update(self, y: float, p: float, weight: float = 1.0) -> None:
        """Count one outcome ``y`` of 0 or 1 that was predicted with probability ``p``."""
        self.loss.update(y, p, weight)
        self.bins.update(y, p, weight)

    def get(self) -> float:
        """Log loss in nats per event."""
        return self.loss.get()

    def snapshot(self) -> dict[str, float]:
        """Return the numbers of :class:`LogLoss` and :class:`CalibrationBins`."""
        return self.loss.snapshot() | self.bins.snapshot()


class Coverage:
    """How many different items were shown, by linear counting in 2**17 bits (16 KiB).

    The standard error is below 1 % up to 300 thousand items; beyond about a million the bitmap saturates and
    the number is a lower bound.
    """

    _BITS = 2**17

    def __init__(self) -> None:
        self._seen = bytearray(self._BITS // 8)
        self._zeros = self._BITS

    def update(self, items: Iterable[str]) -> None:
        """Count the items of one list."""
        for item in items:
            # A CRC spreads similar ids evenly and not at random; the multiplications scatter them.
            code = zlib.crc32(item.encode())
            code = (code ^ code >> 15) * 0x2C1B3C6D & 0xFFFFFFFF
            code = (code ^ code >> 12) * 0x297A2D39 & 0xFFFFFFFF
            at = (code ^ code >> 15) % self._BITS
            bit = 1 << (at & 7)
            if not self._seen[at >> 3] & bit:
                self._seen[at >> 3] |= bit
                self._zeros -= 1

    def get(self) -> float:
        """Estimated number of different items shown."""
        return self._BITS * math.log(self._BITS / max(self._zeros, 1))

    def snapshot(self) -> dict[str, float]:
        """Return ``items_shown``."""
        return {"items_shown": self.get()}


class RankingMetrics:
    """Recall, MRR, NDCG and coverage of ranked lists against the one item that came next.

    A target that the ranking does not hold (rank None) is a miss and stays in the denominator.

    >>> ranking = RankingMetrics()
    >>> for rank in (0, 14, None, 3):
    ...     ranking.update(rank)
    >>> ranking.get(), ranking.snapshot()["recall_at_20"]
    (0.5, 0.75)
    """

    def __init__(self) -> None:
        self.n = 0
        self._hits_10 = 0
        self._hits_20 = 0
        self._reciprocal = 0.0
        self._gain = 0.0
        self._coverage: Coverage | None = None  # until somebody says what was shown

    def update(self, rank: int | None, shown: Sequence[str] = ()) -> None:
        """Count one event: the target's rank (0 is best) and the items that would have been shown."""
        self.n += 1
        if shown:
            self._coverage = self._coverage or Coverage()
            self._coverage.update(shown)
        if rank is None:
            return
        self._reciprocal += 1.0 / (rank + 1)
        if rank >= 20:
            return
        self._hits_20 += 1
        if rank >= 10:
            return
        self._hits_10 += 1
        self._gain += 1.0 / math.log2(rank + 2)  # one relevant item: the ideal gain is 1

    def get(self) -> float:
        """Recall@10."""
        return self._hits_10 / self.n if self.n else math.nan

    def standard_error(self) -> float:
        """Binomial standard error of recall@10; a lower bound, as events of one user depend."""
        recall = self.get()
        return math.sqrt(recall * (1.0 - recall) / self.n) if self.n else math.nan

    def coverage(self, n_items: int) -> float:
        """Share of the ``n_items`` known items that was shown at least once."""
        if self._coverage is None or n_items <= 0:
            return math.nan
        return min(1.0, self._coverage.get() / n_items)

    def snapshot(self) -> dict[str, float]:
        """Return ``n``, recall at 10 and 20, ``mrr``, ``ndcg_at_10``; ``items_shown`` if told."""
        if not self.n:
            return {"n": 0}
        return {
            "n": self.n,
            "recall_at_10": self._hits_10 / self.n,
            "recall_at_20": self._hits_20 / self.n,
            "mrr": self._reciprocal / self.n,
            "ndcg_at_10": self._gain / self.n,
            **(self._coverage.snapshot() if self._coverage is not None else {}),
        }


def _defined(**numbers: float) -> dict[str, float]:
    return {name: number for name, number in numbers.items() if math.isfinite(number)}
