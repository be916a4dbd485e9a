"""Baseline: incremental SGD matrix factorisation of positive-only feedback.

Vinagre, Jorge, Gama: Fast Incremental Matrix Factorization for Recommendation with Positive-Only Feedback,
UMAP 2014. Parameters are those of its authors for MovieLens-1M (repository joaoms/streamRec).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream.evaluate.baselines.catalogue import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["IncrementalSGD"]

N_FACTORS = 160
N_STEPS = 8
ETA = 0.1
LAMBDA = 0.4
DEVIATION = 0.1  # of the vectors at the start


class IncrementalSGD:
    """ISGD: rank by the distance of p·q from 1, the target of every observation."""

    name = "isgd"

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.Philox(seed))
        self._users: dict[int, NDArray[np.float64]] = {}
        self._items = np.zeros((256, N_FACTORS))
        self._n = 0

    def scores(self, user: int, at: float) -> NDArray[np.float64] | None:
        """-|1 - p·q| for every known item."""
        del at
        p = self._users.get(user)
        if p is None:
            return None
        return -np.abs(1.0 - self._items[: self._n] @ p)

    def learn(self, user: int, item: int, at: float, *, repeat: bool) -> None:
        """Move both vectors towards p·q = 1, eight times; q uses the new p."""
        del at
        self._items = grown(self._items, item + 1)
        while self._n <= item:
            self._items[self._n] = self._generator.normal(0.0, DEVIATION, N_FACTORS)
            self._n += 1
        if repeat:
            return
        p = self._users.get(user)
        if p is None:
            p = self._users[user] = self._generator.normal(0.0, DEVIATION, N_FACTORS)
        q = self._items[item]
        for _ in range(N_STEPS):
            error = 1.0 - p @ q
            p += ETA * (error * q - LAMBDA * p)
            q += ETA * (error * p - LAMBDA * q)
