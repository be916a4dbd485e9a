"""What all ranking baselines share: items as numbers, who took what, and the order of a ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Catalogue", "Ranker", "grown", "place", "top"]


class Ranker(Protocol):
    """A recommender that scores all known items.

    ``learn`` is told each interaction after it was predicted, in order of time.
    """

    name: str

    def scores(self, user: int, at: float) -> NDArray[np.float64] | None:
        """Score of every known item, higher is better; None for a user it knows nothing of."""

    def learn(self, user: int, item: int, at: float, *, repeat: bool) -> None:
        """Learn that a user chose an item; ``repeat`` says that it was not the first time."""


class Catalogue:
    """Items in the order in which they were first chosen, and how often each was.

    An array grows by doubling, so ``counts`` may be longer than the catalogue; the rest of it is 0.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self._counts = np.zeros(256)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def counts(self) -> NDArray[np.float64]:
        """How often each known item was chosen."""
        return self._counts[: len(self.numbers)]

    def count(self, item_id: str) -> int:
        """Note that an item was chosen; its number."""
        item = self.numbers.setdefault(item_id, len(self.numbers))
        self._counts = grown(self._counts, len(self.numbers))
        self._counts[item] += 1.0
        return item


def grown(array: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The array with at least ``n`` rows, new ones being 0; it doubles, so growing is cheap on average."""
    if n <= len(array):
        return array
    larger = np.zeros((max(n, 2 * len(array)), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def place(
    item: int, scores: NDArray[np.float64], counts: NDArray[np.float64], excluded: NDArray[np.int64]
) -> int:
    """Rank of an item among those not excluded, 0 for the best.

    Ties go to the item chosen more often, then to the one known longer: never to the target as such.

    >>> place(2, np.array([1.0, 3.0, 1.0]), np.array([5.0, 1.0, 5.0]), np.array([1]))
    1
    """
    score, count = scores[item], counts[item]
    ahead = scores > score
    ties = np.flatnonzero(scores == score)
    ahead[ties] = (counts[ties] > count) | ((counts[ties] == count) & (ties < item))
    return int(ahead.sum() - ahead[excluded].sum())


def top(
    n: int, scores: NDArray[np.float64], counts: NDArray[np.float64], excluded: NDArray[np.int64]
) -> list[int]:
    """The best ``n`` items that are not excluded, in no particular order; ties go as in :func:`place`.

    >>> sorted(top(2, np.array([1.0, 3.0, 1.0, 1.0]), np.array([5.0, 1.0, 6.0, 6.0]), np.array([], int)))
    [1, 2]
    """
    kept = scores.copy()
    kept[excluded] = -np.inf
    members = np.flatnonzero(kept > -np.inf)
    better, ties = _above(members, kept[members], n)
    chosen, equal = _above(ties, counts[ties], n - len(better))
    return [*better.tolist(), *chosen.tolist(), *equal[: n - len(better) - len(chosen)].tolist()]


def _above(
    members: NDArray[np.int64], keys: NDArray[np.float64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those whose key is above the ``n``-th largest, and those that have it; all, where there are no more."""
    if n >= len(members):
        return members, members[:0]
    border = np.partition(keys, len(keys) - n)[len(keys) - n]
    return members[keys > border], members[keys == border]
