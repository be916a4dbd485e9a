"""Off-policy evaluation: what a policy would have earned, from decisions that another one made and logged.

Notation: logged action a, reward r, propensity p; target policy π; reward model q̂; weight w = π(a|x) / p.
Each estimator returns one *score* for each decision, whose mean is the estimate, so that intervals, paired
differences and confidence sequences are those of a mean.

References
----------
Horvitz, Thompson 1952 (IPS). Swaminathan, Joachims: The Self-Normalized Estimator, NIPS 2015 (SNIPS).
Dudík, Langford, Li: Doubly Robust Policy Evaluation and Learning, ICML 2011, arXiv 1103.4601 (DM, DR).
Wang, Agarwal, Dudík: Optimal and Adaptive Off-policy Evaluation, ICML 2017, arXiv 1612.01205 (Switch-DR).
Su, Dimakopoulou, Krishnamurthy, Dudík: DR with Optimistic Shrinkage, ICML 2020, arXiv 1907.09623 (DRos).
Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: Time-uniform Central Limit Theory and Asymptotic Confidence
Sequences, Annals of Statistics 2024, arXiv 2103.06476.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "confidence_sequence",
    "cross_fitted_rewards",
    "direct_method",
    "doubly_robust",
    "effective_sample_size",
    "importance_weights",
    "inverse_propensity",
    "n_deviations",
    "self_normalised",
    "shrunk",
    "switched",
]

SWITCH_AT = 10.0  # a weight above it is not trusted by Switch-DR
SHRINKAGE = 100.0  # of DRos: a weight of 10 counts half
POOLED_RIDGE = 1.0  # penalty of the weights that all actions share; not of their bias
ACTION_RIDGE = 10.0  # penalty of what sets an action apart: ten decisions' worth
MIN_DEVIATIONS = 10.0  # fewer, and the sequence of rare rewards is left twice as often as it says
SMALLEST = 1e-300
ROUNDING = 1e-12  # of a variance, relative to the squared mean
TIGHTEST_AT = 10_000  # decisions at which a confidence sequence is tightest


def importance_weights(
    target: NDArray[np.float64],
    actions: NDArray[np.int64],
    propensities: NDArray[np.float64],
    cap: float = math.inf,
) -> NDArray[np.float64]:
    """π(a|x) / p of each logged decision, clipped at ``cap``; their mean is near 1 if the log is right.

    Parameters
    ----------
    target : ndarray of shape (n, n_actions)
        Probability of each action under the target policy; 0 for those that are not eligible.
    actions : ndarray of shape (n,)
        Column of the logged action.
    propensities : ndarray of shape (n,)
        Probability with which it was chosen, above 0.
    """
    chosen: NDArray[np.float64] = target[np.arange(len(actions)), actions] / propensities
    return np.minimum(chosen, cap)


def effective_sample_size(weights: NDArray[np.float64]) -> float:
    """(Σw)² / Σw²: how many equally weighted decisions would say as much; 0 without weight.

    >>> effective_sample_size(np.array([2.0, 2.0, 0.0, 0.0]))
    2.0
    """
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares > 0.0 else 0.0


def inverse_propensity(rewards: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """IPS: w r. Unbiased; its variance grows with the weights."""
    return weights * rewards


def self_normalised(rewards: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """SNIPS: Σ w r / Σ w, as scores v + w (r - v) / mean(w); NaN without weight."""
    total = weights.sum()
    if not total > 0.0:
        return np.full(len(rewards), np.nan)
    value = weights @ rewards / total
    scores: NDArray[np.float64] = value + weights * (rewards - value) / weights.mean()
    return scores


def direct_method(target: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """DM: Σ_a π(a|x) q̂(x, a). As good or bad as q̂: no interval knows its bias."""
    scores: NDArray[np.float64] = (target * expected).sum(axis=1)
    return scores


def doubly_robust(
    rewards: NDArray[np.float64],
    weights: NDArray[np.float64],
    actions: NDArray[np.int64],
    target: NDArray[np.float64],
    expected: NDArray[np.float64],
) -> NDArray[np.float64]:
    """DR: DM + w (r - q̂(x, a)). Unbiased if the propensities are right, whatever q̂ is."""
    residual = rewards - expected[np.arange(len(actions)), actions]
    return direct_method(target, expected) + weights * residual


def switched(weights: NDArray[np.float64], threshold: float = SWITCH_AT) -> NDArray[np.float64]:
    """The weights of Switch-DR: those above the threshold are 0, so that the reward model speaks alone."""
    return np.where(weights <= threshold, weights, 0.0)


def shrunk(weights: NDArray[np.float64], shrinkage: float = SHRINKAGE) -> NDArray[np.float64]:
    """The weights of DRos: λ w / (w² + λ)."""
    return shrinkage * weights / (weights * weights + shrinkage)


def cross_fitted_rewards(
    contexts: NDArray[np.float64],
    actions: NDArray[np.int64],
    rewards: NDArray[np.float64],
    n_actions: int,
    n_folds: int = 3,
) -> NDArray[np.float64]:
    """q̂(x, a) of every decision and action, from decisions of other stretches of the log alone.

    Linear in the context: weights that all actions share, and for each action its ridge regression on what
    these leave. Not clipped to the range of the rewards: where they are rare that would lift every mean.

    Parameters
    ----------
    contexts : ndarray of shape (n, d)
        Entry 0 is 1.
    n_folds : int
        Consecutive stretches of equal length; a decision's own is left out when its q̂ is fitted.

    Returns
    -------
    ndarray of shape (n, n_actions)
    """
    n, d = contexts.shape
    folds = np.arange(n) * min(n_folds, n) // n
    expected = np.zeros((n, n_actions))
    pooled = np.diag([1e-6, *[POOLED_RIDGE] * (d - 1)])
    for fold in range(int(folds[-1]) + 1):
        x, a, r = contexts[folds != fold], actions[folds != fold], rewards[folds != fold]
        if not len(x):
            continue
        shared = np.linalg.solve(x.T @ x + pooled, x.T @ r)
        left = r - x @ shared
        weights = np.tile(shared, (n_actions, 1))
        for action in np.unique(a):
            own = x[a == action]
            gram = own.T @ own + ACTION_RIDGE * np.eye(d)
            weights[action] += np.linalg.solve(gram, own.T @ left[a == action])
        expected[folds == fold] = contexts[folds == fold] @ weights.T
    return expected


def n_deviations(scores: NDArray[np.float64]) -> float:
    """How many scores deviate from their mean, as (Σd²)² / Σd⁴ of the deviations d.

    Where k of many scores are 1 and the others 0 it is k; where all are alike, 0.

    >>> round(n_deviations(np.array([1.0] * 10 + [0.0] * 9990)), 1), n_deviations(np.full(7, 0.1))
    (10.0, 0.0)
    """
    squares = (scores - scores.mean()) ** 2
    total = float(squares.sum())
    if total <= ROUNDING * float((scores**2).sum()):
        return 0.0
    return total * total / float((squares * squares).sum())


def confidence_sequence(
    scores: NDArray[np.float64], alpha: float = 0.05
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of the running mean after each score that hold at all times together, asymptotically.

    One may look after every decision and stop when one likes: theorem 2.2 of Waudby-Smith et al. The scores
    may follow a policy that learns, as long as each depends on earlier decisions alone.

    Returns
    -------
    low, high : ndarrays of shape (n,)
        Infinite while fewer than ``MIN_DEVIATIONS`` scores deviate: the variance of rewards that hardly
        anybody has had yet is not known. They are counted as (Σd²)² / Σd⁴ for deviations d from the mean,
        which is k where k of many scores are 1 and the others 0.
    """
    n = np.arange(1, len(scores) + 1)
    means = np.cumsum(scores) / n
    # Moments around the first score: where all are alike those around 0 would be rounding alone.
    moments = [np.cumsum((scores - scores[:1]) ** power) / n for power in range(1, 5)]
    first, second, third, fourth = moments
    variances = np.maximum(second - first * first, 0.0)
    fourths = fourth - 4.0 * first * third + 6.0 * first**2 * second - 3.0 * first**4
    deviations = n * variances**2 / np.maximum(fourths, SMALLEST)
    rho = (-2.0 * math.log(alpha) + math.log(-2.0 * math.log(alpha)) + 1.0) / TIGHTEST_AT
    grown = n * rho + 1.0
    widths = np.sqrt(variances * 2.0 * grown / (n * n * rho) * np.log(np.sqrt(grown) / alpha))
    widths[(deviations < MIN_DEVIATIONS) | (variances <= ROUNDING * means * means)] = math.inf
    return means - widths, means + widths
