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
    """Logistic regression with one mean and one variance for each weight, and a calibration curve.

    The curve is piecewise linear over the log odds z, with knots at -16, -14, ... 16. Of an example's
    information the share ``evidence`` counts.
    """

    def __init__(self, precision: Vector, curve_precision: float, evidence: float) -> None:
        self.knots = np.linspace(-16.0, 16.0, 17)
        self.mean = np.zeros(len(precision) + len(self.knots))
        self.variance = 1.0 / np.r_[precision, np.full(len(self.knots), curve_precision)]
        self.evidence = evidence
        self.n_slots = len(precision)

    def learn_one(self, slots: NDArray[np.int32], x: Vector, y: float, weight: float = 1.0) -> float:
        """Learn one example; the probability from before."""
        m, c = self.mean[slots], self.variance[slots]
        z = float(m @ x) / math.sqrt(1.0 + math.pi * float(c @ (x * x)) / 8.0)
        near = np.maximum(1.0 - np.abs(self.knots - z) / 2.0, 0.0)
        at, values = np.r_[slots, self.n_slots + np.arange(len(near))], np.r_[x, near]
        m, c = self.mean[at], self.variance[at]
        p = 1.0 / (1.0 + math.exp(-z - float(self.mean[self.n_slots :] @ near)))
        r = p * (1.0 - p)
        d = 1.0 + weight * r * float(c @ (values * values))
        self.mean[at] = m + weight * (y - p) * c * values / d
        learned = 1.0 / (c - weight * c**2 * values**2 * r / d) - 1.0 / c
        self.variance[at] = 1.0 / (1.0 / c + self.evidence * learned)
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
