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

__all__ = ["MAX_DENSE_ITEMS", "DensePairs", "ItemCosine", "SparsePairs"]

MAX_DENSE_ITEMS = 12_000  # a dense table of counts: 576 MB
MAX_HISTORY = 500  # newest items of a user that pair up


class DensePairs:
    """How many users chose both of two items, as a table: fast where many pairs are there."""

    def __init__(self) -> None:
        self._counts = np.zeros((256, 256), np.float32)

    def count(self, item: int, near: NDArray[np.int64]) -> None:
        """Count an item with each of others."""
        n = max(item, int(near.max())) + 1
        if n > len(self._counts):
            larger = np.zeros((max(n, 2 * len(self._counts)),) * 2, np.float32)
            larger[: len(self._counts), : len(self._counts)] = self._counts
            self._counts = larger
        self._counts[item, near] += 1.0
        self._counts[near, item] += 1.0

    def sums(self, near: NDArray[np.int64], weights: NDArray[np.float64], n: int) -> NDArray[np.float64]:
        """Weighted sum of the rows of some items, for the first ``n`` items."""
        found = np.zeros(n)
        rows = weights.astype(np.float32) @ self._counts[near, :n]
        found[: len(rows)] = rows
        return found


class SparsePairs:
    """The same as a dictionary for each item: small where most pairs never meet."""

    def __init__(self) -> None:
        self._counts: dict[int, dict[int, float]] = {}

    def count(self, item: int, near: NDArray[np.int64]) -> None:
        """Count an item with each of others."""
        own = self._counts.setdefault(item, {})
        for other in near.tolist():
            own[other] = own.get(other, 0.0) + 1.0
            row = self._counts.setdefault(other, {})
            row[item] = row.get(item, 0.0) + 1.0

    def sums(self, near: NDArray[np.int64], weights: NDArray[np.float64], n: int) -> NDArray[np.float64]:
        """Weighted sum of the rows of some items, for the first ``n`` items."""
        found = np.zeros(n)
        for item, weight in zip(near.tolist(), weights.tolist(), strict=True):
            row = self._counts.get(item, {})
            found[np.fromiter(row, np.int64, len(row))] += weight * np.fromiter(
                row.values(), np.float64, len(row)
            )
        return found


class ItemCosine:
    """Score of i: the sum of n_ij / sqrt(n_i n_j) over the user's items j."""

    name = "item_knn"

    def __init__(self, pairs: DensePairs | SparsePairs) -> None:
        self._pairs = pairs
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
        sums = self._pairs.sums(near, 1.0 / np.sqrt(self._users[near]), self._n)
        sums /= np.sqrt(np.maximum(self._users[: self._n], 1.0))
        return sums

    def learn(self, user: int, item: int, at: float, *, repeat: bool) -> None:
        """Count the item with each of the user's others."""
        del at
        self._n = max(self._n, item + 1)
        self._users = grown(self._users, self._n)
        if repeat:
            return
        items = self._items.setdefault(user, [])
        if items:
            self._pairs.count(item, np.array(items))
        self._users[item] += 1.0
        items.append(item)
        del items[:-MAX_HISTORY]
