"""Extended Kalman steps of Bayesian logistic regression, as the papers write them: means and covariances."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def probability(log_odds: float, variance: float) -> float:
    """σ averaged over a Gaussian of the log odds, by MacKay's approximation."""
    return 1.0 / (1.0 + math.exp(-log_odds / math.sqrt(1.0 + math.pi * variance / 8.0)))


class FullGaussian:
    """Logistic regression with a full covariance; mean and covariance are updated."""

    def __init__(self, mean: Vector, covariance: NDArray[np.float64]) -> None:
        self.mean = mean.astype(np.float64)
        self.covariance = covariance.astype(np.float64)

    def learn_one(self, x: Vector, y: float, weight: float = 1.0) -> float:
        """Learn one example; the probability from before."""
        sx = self.covariance @ x
        v = float(x @ sx)
        p = probability(float(self.mean @ x), v)
        r = weight * p * (1.0 - p)
        d = 1.0 + r * v
        self.mean = self.mean + sx * (weight * (y - p) / d)
        self.covariance = self.covariance - np.outer(sx, sx) * (r / d)
        return p


class DiagonalGaussian:
    """Logistic regression with one mean and one variance for each weight."""

    def __init__(self, precision: Vector) -> None:
        self.mean = np.zeros(len(precision))
        self.variance = 1.0 / precision

    def learn_one(self, slots: NDArray[np.int32], x: Vector, y: float, weight: float = 1.0) -> float:
        """Learn one example; the probability from before."""
        m, c = self.mean[slots], self.variance[slots]
        v = float(c @ (x * x))
        p = probability(float(m @ x), v)
        r = p * (1.0 - p)
        d = 1.0 + weight * r * v
        self.mean[slots] = m + weight * (y - p) * c * x / d
        self.variance[slots] = c - weight * c**2 * x**2 * r / d
        return p


def newton(
    x: NDArray[np.float64], y: Vector, prior_mean: Vector, prior_precision: NDArray[np.float64]
) -> Vector:
    """Most probable weights of a whole data set, by Newton's method."""
    w = np.zeros_like(prior_mean)
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-x @ w))
        gradient = x.T @ (y - p) - prior_precision @ (w - prior_mean)
        hessian = (x * (p * (1.0 - p))[:, None]).T @ x + prior_precision
        w = w + np.linalg.solve(hessian, gradient)
    return w
