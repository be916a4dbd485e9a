"""Additive streaming ALS in plain numpy: dictionaries, full matrices, ``np.linalg.solve``."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


class ClearIALS:
    """One object for all users and items; statistics decay by the item's own events."""

    def __init__(
        self,
        start: dict[str, Vector],
        *,
        w0: float,
        lambda_: float,
        beta: float,
        gamma: float,
        kappa: float,
        refresh: int,
        resolve: int,
    ) -> None:
        self.k = len(next(iter(start.values())))
        self.w0, self.lambda_, self.beta, self.gamma = w0, lambda_, beta, gamma
        self.kappa = kappa
        self.refresh, self.resolve = refresh, resolve
        self.q = {item: vector.astype(np.float64) for item, vector in start.items()}
        self.solved: set[str] = set()
        self.a: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros((self.k, self.k)))
        self.b: dict[str, Vector] = defaultdict(lambda: np.zeros(self.k))
        self.n: dict[str, int] = defaultdict(int)
        self.p: dict[str, Vector] = defaultdict(lambda: np.zeros(self.k))
        self.histories: dict[str, list[tuple[str, int]]] = defaultdict(list)

    def gram(self, vectors: list[Vector]) -> NDArray[np.float64]:
        """Sum of outer products."""
        return sum((np.outer(v, v) for v in vectors), np.zeros((self.k, self.k)))

    def learn_one(self, user: str, item: str) -> None:
        """Section 7.6 of the algorithms' handbook, line by line, with a bound on who did not choose."""
        identity = np.eye(self.k)
        history = self.histories[user]
        ring = [item, *(j for j, _ in history)]
        a = self.w0 * self.gram([self.q[j] for j in self.solved]) + self.lambda_ * identity
        b = np.zeros(self.k)
        for age, j in enumerate(ring):
            w = math.exp(-self.beta * age)
            a += w * np.outer(self.q[j], self.q[j])
            b += (w + self.w0) * self.q[j]
        old: Vector = self.p[user].copy()
        new: Vector = np.linalg.solve(a, b).astype(np.float64)
        self.p[user] = new
        self.a[item] = self.gamma * self.a[item] + np.outer(new, new)
        self.b[item] = self.gamma * self.b[item] + (1.0 + self.w0) * new
        self.n[item] += 1
        for j, n_then in history[: self.refresh]:
            w = self.gamma ** (self.n[j] - n_then)
            self.a[j] = self.a[j] + w * (np.outer(new, new) - np.outer(old, old))
            self.b[j] = self.b[j] + w * (1.0 + self.w0) * (new - old)
        gram_p = self.gram(list(self.p.values()))
        for j in [item, *(j for j, _ in history[: self.resolve])]:
            share = min(1.0, self.kappa * np.trace(self.a[j]) / np.trace(gram_p))
            penalty = self.w0 * share * gram_p + self.lambda_ * identity
            self.q[j] = np.linalg.solve(penalty + self.a[j], self.b[j]).astype(np.float64)
            self.solved.add(j)
        history.insert(0, (item, self.n[item]))
