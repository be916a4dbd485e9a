"""Intervals: the bootstrap over groups that may depend inside (users, stretches of time), and McNemar's test.

Efron, Tibshirani: An Introduction to the Bootstrap, 1993. Draws come from Philox, so a run repeats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["N_DRAWS", "draws", "interval", "mcnemar", "mean_intervals"]

N_DRAWS = 500
MIN_GROUPS = 10
LEVEL = 0.95
_KEY = 7


def draws(n_groups: int, n_draws: int = N_DRAWS) -> Iterator[NDArray[np.float64]]:
    """Yield how often each group was drawn, once for each draw of as many groups with replacement."""
    generator = np.random.Generator(np.random.Philox(_KEY))
    for _ in range(n_draws):
        times = np.bincount(generator.integers(0, n_groups, n_groups), minlength=n_groups)
        yield times.astype(np.float64)


def interval(values: NDArray[np.float64], n_groups: int) -> tuple[float, float] | None:
    """The middle 95 % of bootstrapped values; None where fewer than half of them are defined.

    Also None for fewer than ten groups: of one or two every draw is the same, or nearly.
    """
    values = values[np.isfinite(values)]
    if len(values) < N_DRAWS // 2 or n_groups < MIN_GROUPS:
        return None
    low, high = np.quantile(values, ((1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0))
    return float(low), float(high)


def mean_intervals(
    values: NDArray[np.float64], groups: NDArray[np.int64]
) -> list[tuple[float, float] | None]:
    """Intervals of the means of each column of ``values``, rows of a group being drawn together.

    Parameters
    ----------
    values : ndarray of shape (n, m)
    groups : ndarray of shape (n,)
        Group of each row, any integers.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    counts = np.bincount(codes).astype(np.float64)
    sums = np.stack([np.bincount(codes, column, minlength=len(counts)) for column in values.T])
    # Not a matrix product: its threads would cost more than they bring, 500 times over.
    means = np.array([(sums * drawn).sum(axis=1) / (counts * drawn).sum() for drawn in draws(len(counts))])
    return [interval(column, len(counts)) for column in means.T]


def mcnemar(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """Exact two-sided p-value that two hit vectors of the same events come from equal chances.

    >>> mcnemar(np.array([True, True, True, False]), np.array([False, False, False, False]))
    0.25
    """
    wins, losses = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if wins + losses == 0:
        return 1.0
    return float(min(1.0, 2.0 * bdtr(min(wins, losses), wins + losses, 0.5)))
