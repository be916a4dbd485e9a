"""FTRL-Proximal as algorithm 1 of McMahan et al. 2013 writes it: one dictionary for each of z and n."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping


class Ftrl:
    """Per-coordinate FTRL-Proximal logistic regression."""

    def __init__(self, alpha: float, beta: float, l1: float, l2: float) -> None:
        self.alpha, self.beta, self.l1, self.l2 = alpha, beta, l1, l2
        self.z: defaultdict[int, float] = defaultdict(float)
        self.n: defaultdict[int, float] = defaultdict(float)

    def weight(self, i: int) -> float:
        """The weight that z and n stand for."""
        z = self.z[i]
        if abs(z) <= self.l1:
            return 0.0
        return -(z - math.copysign(self.l1, z)) / ((self.beta + math.sqrt(self.n[i])) / self.alpha + self.l2)

    def learn_one(self, x: Mapping[int, float], y: float) -> float:
        """Learn one example; the probability from before."""
        w = {i: self.weight(i) for i in x}
        p = 1.0 / (1.0 + math.exp(-sum(w[i] * value for i, value in x.items())))
        for i, value in x.items():
            g = (p - y) * value
            sigma = (math.sqrt(self.n[i] + g * g) - math.sqrt(self.n[i])) / self.alpha
            self.z[i] += g - sigma * w[i]
            self.n[i] += g * g
        return p
