"""A factor model with users who choose from it, for the tests of its learning and of its retrieval."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_models.factorisation import StreamingIALS
from online_models.fold import ModelSet
from online_models.vocabulary import Vocabulary

SETTINGS: dict[str, Any] = {
    "w0": 0.1,
    "lambda_": 1.0,
    "beta": 0.2,
    "gamma": 0.9,
    "kappa": 100.0,
    "refresh": 4,
    "resolve": 2,
}


class Shop:
    """A model with its vocabulary, and users whose histories and memories it keeps."""

    def __init__(self, max_rows: int = 100, n_factors: int = 4, **settings: Any) -> None:
        self.vocabulary = Vocabulary(max_rows)
        self.model = StreamingIALS(self.vocabulary, n_factors, **(SETTINGS | settings))
        self.models = ModelSet([self.model], self.vocabulary)
        self.items: dict[str, list[str]] = defaultdict(list)
        self.memories: dict[str, bytes] = defaultdict(bytes)
        self.at = 0.0

    def rows(self, user: str) -> NDArray[np.int32]:
        """Rows of a user's items, newest first."""
        return np.array(self.vocabulary.rows(self.items[user]), np.int32)

    def learn(self, user: str, item: str, weight: float = 1.0) -> None:
        """One event."""
        self.at += 1.0
        row = self.vocabulary.touch(item, self.at)
        history = self.rows(user)
        self.memories[user] = self.model.learn_one(row, history, self.at, weight, self.memories[user])
        self.items[user].insert(0, item)

    def q(self, item: str) -> NDArray[np.float32]:
        """An item's vector."""
        k = self.model.n_factors
        at = k * (k + 1) // 2 + k
        vector: NDArray[np.float32] = self.model._table[self.vocabulary.row(item), at : at + k]
        return vector


def stream(n: int, seed: int, n_users: int = 6, n_items: int = 15) -> list[tuple[str, str]]:
    """Users of two tastes choosing items they do not have yet."""
    rng = np.random.default_rng(seed)
    events: list[tuple[str, str]] = []
    seen: set[tuple[int, int]] = set()
    while len(events) < n:
        user, item = int(rng.integers(n_users)), int(rng.integers(n_items))
        if (user, item) in seen or (user % 2 != item % 2 and rng.random() < 0.7):
            continue
        seen.add((user, item))
        events.append((f"u{user}", f"i{item}"))
    return events


def shown(model: StreamingIALS) -> dict[int, list[float]]:
    """Rows that are scored one and all with their vectors: those with a solved one and not just one event."""
    columns, rows, places = model._shown
    n = int(rows[0])
    assert [*range(1, n + 1)] == places[rows[1 : 1 + n]].tolist()
    assert n == np.count_nonzero(places)
    k = model.n_factors
    expected = {
        row: model._table[row, -2 - k : -2].tolist()
        for row in np.flatnonzero((model._table[:, -1] != 0.0) & (model._table[:, -2] != 1.0)).tolist()
    }
    assert expected == dict(zip(rows[1 : 1 + n].tolist(), columns[:, :n].T.tolist(), strict=True))
    return expected
