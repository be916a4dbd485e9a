"""Baseline: incremental item-item cosine over the sets of users who chose the items, without order.

Deshpande, Karypis: Item-Based Top-N Recommendation Algorithms, ACM TOIS 2004, kept up to date as in
Papagelis et al. 2005. All items are neighbours; nothing is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream.evaluate.baselines.catalogue import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_ITEMS", "ItemCosine"]

MAX_ITEMS = 12_000  # a dense table of counts: 576 MB
MAX_HISTORY = 500  # newest items of a user that pair up


class ItemCosine:
    """Score of i: the sum of n_ij / sqrt(n_i n_j) over the user's items j."""

    name = "item_knn"

    def __init__(self) -> None:
        self._pairs = np.zeros((256, 256), np.float32)
        self._users = np.zeros(256)
        self._n = 0
        self._items: dict[int, list[int]] = {}

    def scores(self, user: int, at: float) -> NDArray[np.float64] | None:
        """Cosines summed over the user's items."""
        del at
        items = self._items.get(user)
        if not items:
            return None
        near = np.array(items)
        weights = (1.0 / np.sqrt(self._users[near])).astype(np.float32)
        sums = weights @ self._pairs[near, : self._n]
        scores: NDArray[np.float64] = sums / np.sqrt(np.maximum(self._users[: self._n], 1.0))
        return scores

    def learn(self, user: int, item: int, at: float, *, repeat: bool) -> None:
        """Count the item with each of the user's others."""
        del at
        if item >= self._n:
            self._n = item + 1
            self._users = grown(self._users, self._n)
            if self._n > len(self._pairs):
                larger = np.zeros((len(self._users), len(self._users)), np.float32)
                larger[: len(self._pairs), : len(self._pairs)] = self._pairs
                self._pairs = larger
        if repeat:
            return
        items = self._items.setdefault(user, [])
        if items:
            near = np.array(items)
            self._pairs[item, near] += 1.0
            self._pairs[near, item] += 1.0
        self._users[item] += 1.0
        items.append(item)
        del items[:-MAX_HISTORY]
