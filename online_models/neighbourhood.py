"""Neighbourhoods: items chosen by the same users, and items chosen by users who chose the same.

Optional sources of the blend. Vectors are binary, one entry for each pair of user and item, so with n_i the
choices of item i and n_ij the users who chose both, under one half-life::

    cosine(i, j) = n_ij / sqrt(n_i n_j)         euclidean(i, j) = 1 / (1 + sqrt(n_i + n_j - 2 n_ij))

and the same of users by the items they share. An item scores the sum of its similarities with the user's
latest items, or of those of the users who chose it. Pairs that never met score 0 under either measure.

Users are counted by classes of a hash, so memory is bounded; two users in one class count as one.

References
----------
Sarwar, Karypis, Konstan, Riedl: Item-Based Collaborative Filtering Recommendation Algorithms, WWW 2001.
Herlocker, Konstan, Borchers, Riedl: An Algorithmic Framework for Performing Collaborative Filtering,
SIGIR 1999.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

import numpy as np

from online_models.content import attribute_value, learn_attributes
from online_models.cooccurrence import SequentialCooccurrence
from online_models.slate import ReasonCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from online_models.optional_source import Asker
    from online_models.vocabulary import Vocabulary

__all__ = ["ItemNeighbours", "Measure", "Scores", "UserNeighbours", "fade_of", "neighbours_of", "similarity"]

Measure = Literal["cosine", "euclidean"]

RING = 20  # items of a history that pair up
HALF_LIFE_S = 90 * 86_400.0
N_USERS = 8192  # classes of users
MAX_USERS = 100  # similar users that are asked for their items
C, D = 0, 1


class ItemNeighbours:
    """Items chosen by the users who chose the user's latest items.

    Parameters
    ----------
    vocabulary : Vocabulary
        Shared with the other item models.
    measure : {"cosine", "euclidean"}
        Similarity of two items.

    Examples
    --------
    >>> from online_models.fold import ModelSet
    >>> from online_models.optional_source import Asker
    >>> from online_models.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary(100)
    >>> source = ItemNeighbours(vocabulary, "cosine")
    >>> models = ModelSet([source.model], vocabulary)
    >>> models.begin()
    >>> tea = vocabulary.touch("tea", 0.0)
    >>> source.learn(tea, np.zeros(0, np.int32), 0.0, 1.0, Asker("ann"))
    >>> milk = vocabulary.touch("milk", 1.0)
    >>> source.learn(milk, np.array([tea], np.int32), 1.0, 1.0, Asker("ann"))
    >>> rows, scores = source.best(np.array([tea], np.int32), 2.0, Asker("bob"))
    >>> [vocabulary.item_id(row) for row in rows], scores.round(3).tolist()
    (['milk'], [1.0])
    """

    name = "item_neighbours"
    code = ReasonCode.SIMILAR_ITEMS

    def __init__(self, vocabulary: Vocabulary, measure: Measure = "cosine") -> None:
        self.measure = measure
        self.model = SequentialCooccurrence(
            vocabulary, slots=128, pruned=96, ring=RING, beta=0.0, half_life_s=HALF_LIFE_S, name=self.name
        )

    def __repr__(self) -> str:
        return f"ItemNeighbours({self.measure})"

    def learn(self, row: int, history: NDArray[np.int32], at: float, weight: float, asker: Asker) -> None:
        """Count an item with each of a history."""
        del asker
        self.model.learn_row(row, history, len(history), at, weight)

    def best(
        self, history: NDArray[np.int32], at: float, asker: Asker
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Rows of items and their scores, best first."""
        del asker
        model = self.model
        found = Scores(model)
        for row in history[:RING].tolist():
            if row < 0:
                continue
            others, cells = neighbours_of(model, row)
            fade = fade_of(model, row, at)
            both = (cells[:, C] + cells[:, D]).astype(np.float64) * fade
            own = model.heads[row, 1] * fade
            theirs = model.heads[others, 1] * fade_of(model, others, at)
            found.add(others, similarity(self.measure, both, own, theirs))
        return found.best()


class UserNeighbours:
    """Items chosen by the users who chose what the user chose lately.

    Parameters
    ----------
    vocabulary : Vocabulary
        Shared with the other item models; classes of users have rows of it, too.
    measure : {"cosine", "euclidean"}
        Similarity of two users.

    Examples
    --------
    >>> from online_models.fold import ModelSet
    >>> from online_models.optional_source import Asker
    >>> from online_models.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary(100)
    >>> source = UserNeighbours(vocabulary, "euclidean")
    >>> models = ModelSet([source.model], vocabulary)
    >>> models.begin()
    >>> for item in ("tea", "milk"):
    ...     source.learn(vocabulary.touch(item, 0.0), np.zeros(0, np.int32), 0.0, 1.0, Asker("ann"))
    >>> rows, scores = source.best(np.array([vocabulary.row("tea")], np.int32), 0.0, Asker("bob"))
    >>> [vocabulary.item_id(row) for row in rows], scores.round(3).tolist()
    (['tea', 'milk'], [0.5, 0.5])
    """

    name = "user_neighbours"
    code = ReasonCode.SIMILAR_USERS

    def __init__(self, vocabulary: Vocabulary, measure: Measure = "cosine") -> None:
        self.measure = measure
        self.model = SequentialCooccurrence(
            vocabulary, slots=96, pruned=64, ring=1, beta=0.0, half_life_s=HALF_LIFE_S, name=self.name
        )

    def __repr__(self) -> str:
        return f"UserNeighbours({self.measure})"

    def learn(self, row: int, history: NDArray[np.int32], at: float, weight: float, asker: Asker) -> None:
        """Note that the asker's class of users chose an item."""
        del history
        learn_attributes(self.model, row, [_class_of(asker.user)], at, weight)

    def best(
        self, history: NDArray[np.int32], at: float, asker: Asker
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Rows of items and their scores, best first."""
        model = self.model
        own = model.vocabulary.row(_class_of(asker.user))
        shared: dict[int, float] = {}
        n_items = 0
        for row in history[:RING].tolist():
            if row < 0:
                continue
            n_items += 1
            users, cells = neighbours_of(model, row)
            for user, chose in zip(users.tolist(), (cells[:, C] > 0.0).tolist(), strict=True):
                if chose and user != own:
                    shared[user] = shared.get(user, 0.0) + 1.0
        order = model.vocabulary.order
        nearest = sorted(shared, key=lambda user: (-shared[user], int(order[user])))[:MAX_USERS]
        found = Scores(model)
        for user in nearest:
            items, cells = neighbours_of(model, user)
            theirs = max(float((cells[:, D] > 0.0).sum()), shared[user])
            likeness = similarity(self.measure, np.array([shared[user]]), float(n_items), np.array([theirs]))
            fade = fade_of(model, user, at)
            found.add(items, likeness[0] * np.minimum(cells[:, D].astype(np.float64) * fade, 1.0))
        return found.best()


def similarity(
    measure: Measure, both: NDArray[np.float64], own: float, theirs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Similarity of binary vectors from the sizes of their intersection and of each.

    >>> similarity("cosine", np.array([1.0, 2.0]), 4.0, np.array([1.0, 4.0])).tolist()
    [0.5, 0.5]
    >>> similarity("euclidean", np.array([2.0, 1.0]), 2.0, np.array([2.0, 3.0])).round(3).tolist()
    [1.0, 0.366]
    """
    # Rows are bounded and fade one by one, so an intersection can come out larger than a part.
    both = np.minimum(both, np.minimum(own, theirs))
    if measure == "cosine":
        cosine: NDArray[np.float64] = both / np.sqrt(np.maximum(own * theirs, 1e-12))
        return cosine
    near: NDArray[np.float64] = 1.0 / (1.0 + np.sqrt(np.maximum(own + theirs - 2.0 * both, 0.0)))
    return np.where(both > 0.0, near, 0.0)


def neighbours_of(model: SequentialCooccurrence, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Neighbours of a row that are still there, and their cells."""
    length = int(model.heads[row, 0])
    others, cells = model.refs[row, :length], model.cells[row, :length]
    live = cells[:, 3] == model.vocabulary.generation[others]
    return others[live], cells[live]


def fade_of(model: SequentialCooccurrence, rows: int | NDArray[np.int32], at: float) -> NDArray[np.float64]:
    """What a weight that rows hold is worth at a time."""
    fade: NDArray[np.float64] = np.exp2(
        np.minimum(64.0 * model.heads[rows, 2] - at * model.settings[0], 900.0)
    )
    return fade


class Scores:
    """Sums of scores by row."""

    def __init__(self, model: SequentialCooccurrence) -> None:
        self._order = model.vocabulary.order
        self._rows: list[NDArray[np.int32]] = []
        self._scores: list[NDArray[np.float64]] = []

    def add(self, rows: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        """Add to the scores of some rows."""
        self._rows.append(rows)
        self._scores.append(scores)

    def best(self) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Rows with a positive sum, best first; ties go to the lower hash of the id."""
        if not self._rows:
            return np.zeros(0, np.int32), np.zeros(0)
        rows, place = np.unique(np.concatenate(self._rows), return_inverse=True)
        sums = np.bincount(place, np.concatenate(self._scores), len(rows)).astype(np.float64)
        rows, sums = rows[sums > 0.0], sums[sums > 0.0]
        order = np.lexsort((self._order[rows], -sums))
        return rows[order], sums[order]


def _class_of(user: str) -> str:
    digest = blake2b(user.encode(), digest_size=4).digest()
    return attribute_value("user", str(int.from_bytes(digest, "little") % N_USERS))
