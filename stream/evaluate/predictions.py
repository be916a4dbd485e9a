"""What predicted probabilities amount to: log loss, calibration and ranking, with intervals, by slice.

Neighbours in time depend on each other, so intervals draw 100 stretches of consecutive examples.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from online_models.metrics import MIN_PROBABILITY, ClickMetrics
from stream.evaluate.bootstrap import draws, interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["report_predictions"]

N_STRETCHES = 100
WINDOW = 5000
KEYS = ("log_loss", "base_rate_log_loss", "normalised_entropy", "auc", "ece", "calibration_ratio")


def report_predictions(
    labels: NDArray[np.float64],
    predicted: Mapping[str, NDArray[np.float64]],
    slices: Mapping[str, NDArray[np.bool_]],
) -> dict[str, Any]:
    """Report the first predictor with the others as its baselines; ``lead`` is their log loss minus ours."""
    (ours, *others) = predicted
    stretches = np.arange(len(labels)) * min(N_STRETCHES, len(labels)) // len(labels)
    losses = {name: _losses(labels, p) for name, p in predicted.items()}
    report = _one(labels, predicted[ours], stretches, slices)
    report["baselines"] = {
        name: _one(labels, predicted[name], stretches, slices)
        | {"lead": {"log_loss": _lead(losses[name] - losses[ours], stretches)}}
        for name in others
    }
    report["windows"] = _windows(labels, predicted, ours)
    return report


def _one(
    labels: NDArray[np.float64],
    p: NDArray[np.float64],
    stretches: NDArray[np.int64],
    slices: Mapping[str, NDArray[np.bool_]],
) -> dict[str, Any]:
    return (
        _metrics(labels, p)
        | {"intervals": _intervals(labels, p, stretches)}
        | {"slices": {name: _metrics(labels[mask], p[mask]) for name, mask in slices.items()}}
    )


def _metrics(labels: NDArray[np.float64], p: NDArray[np.float64]) -> dict[str, Any]:
    """The production's metrics; one that is not defined, as the AUC of one class, is None."""
    metrics = ClickMetrics()
    for y, probability in zip(labels.tolist(), p.tolist(), strict=True):
        metrics.update(y, probability)
    return {"n": len(labels)} | dict.fromkeys(KEYS) | metrics.snapshot()


def _losses(labels: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(p, MIN_PROBABILITY, 1.0 - MIN_PROBABILITY)
    losses: NDArray[np.float64] = -np.where(labels > 0, np.log(clipped), np.log1p(-clipped))
    return losses


def _lead(differences: NDArray[np.float64], stretches: NDArray[np.int64]) -> dict[str, float | None]:
    sums, counts = np.bincount(stretches, differences), np.bincount(stretches)
    means = np.array([(drawn @ sums) / (drawn @ counts) for drawn in draws(len(counts))])
    found = interval(means, len(counts))
    low, high = found or (None, None)
    return {"value": float(differences.mean()), "low": low, "high": high}


def _intervals(
    labels: NDArray[np.float64], p: NDArray[np.float64], stretches: NDArray[np.int64]
) -> dict[str, tuple[float, float] | None]:
    """Intervals of all but the ECE, a sum of absolute gaps that every resampling makes larger."""
    columns = np.stack([np.ones(len(labels)), labels, p, _losses(labels, p)])
    sums = np.stack([np.bincount(stretches, column) for column in columns]).astype(np.float64)
    levels = np.unique(p, return_inverse=True)[1]
    drawn = np.array([_drawn(weights, sums, labels, stretches, levels) for weights in draws(sums.shape[1])])
    names = ("log_loss", "normalised_entropy", "calibration_ratio", "auc")
    n = sums.shape[1]
    return {name: interval(column, n) for name, column in zip(names, drawn.T, strict=True)}


def _drawn(
    weights: NDArray[np.float64],
    sums: NDArray[np.float64],
    labels: NDArray[np.float64],
    stretches: NDArray[np.int64],
    levels: NDArray[np.int64],
) -> tuple[float, float, float, float]:
    """Log loss, normalised entropy, calibration ratio and AUC of one draw; NaN where not defined."""
    n, ones, predicted, loss = sums @ weights
    if not 0.0 < ones < n:
        return loss / n, np.nan, np.nan, np.nan
    rate = ones / n
    entropy = -rate * np.log(rate) - (1.0 - rate) * np.log1p(-rate)
    each = weights[stretches]
    positives = np.bincount(levels, each * labels)
    negatives = np.bincount(levels, each) - positives
    below = np.cumsum(negatives) - negatives
    auc = (positives * (below + 0.5 * negatives)).sum() / (ones * (n - ones))
    return loss / n, loss / n / entropy, predicted / ones, auc


def _windows(
    labels: NDArray[np.float64], predicted: Mapping[str, NDArray[np.float64]], ours: str
) -> list[dict[str, Any]]:
    """Windows of 5,000 examples; a last one of less than half that size joins the one before it."""
    edges = [*range(0, len(labels), WINDOW), len(labels)]
    if len(edges) > 2 and edges[-1] - edges[-2] < WINDOW // 2:
        del edges[-2]
    return [
        _metrics(labels[start:end], predicted[ours][start:end])
        | {
            "baselines": {
                name: {"log_loss": float(_losses(labels[start:end], p[start:end]).mean())}
                for name, p in predicted.items()
                if name != ours
            }
        }
        for start, end in pairwise(edges)
    ]
