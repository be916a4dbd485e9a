"""What RecNextEval's published figures on MovieLens-100K count; JSON on stdout.

    python benchmarks/recommend_published.py

The windows are those of `recommend_windows.py`. RecNextEval 1.1.1 passes scores to its metrics without
turning them into ranks: `Metric.calculate` calls `_prepare_matrix`, and the method that takes the best ten
and ranks them is called `prepare_matrix`. So its NDCG@10 of a choice is 1 / log2(1 + score) whenever the
score is not 0, however many items have one, and its Hit@10 asks whether the score is not 0. Each choice is a
row of its own: micro is the mean over users and windows of a user's mean, macro the mean over windows of the
mean over choices (of Hit@10: of the share of users with a hit).

Here its item-kNN (cosine, ten neighbours an item, items that the user has taken not left out, ten random
items with score 1 for whom it does not know) and its popularity of the last window are scored in that way
(``as_published``), and as NDCG@10 and Hit@10 of their best ten items (``best_ten``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.recommend_windows import PUBLISHED, START, WINDOW_S, Event, K, macro, micro, ratings

Matrix = NDArray[np.float64]
GAINS = 1.0 / np.log2(np.arange(K) + 2.0)


def best(values: Matrix, n: int) -> NDArray[np.int64]:
    """Places of the *n* largest of the values that are not 0, the largest first."""
    order = np.argsort(-values, kind="stable")[:n]
    found: NDArray[np.int64] = order[values[order] > 0.0]
    return found


def popular(counts: Matrix) -> Matrix:
    """Shares of the most popular item's count for the ten most popular, 0 for the others."""
    shares = np.zeros(len(counts))
    listed = best(counts, K)
    shares[listed] = counts[listed] / counts.max()
    return shares


def nearest(taken: Matrix) -> Matrix:
    """Cosines of each item with its ten nearest over the users who chose both."""
    norms = np.sqrt(np.maximum(taken.sum(axis=0), 1.0))
    cosines: Matrix = taken.T @ taken / norms / norms[:, None]
    np.fill_diagonal(cosines, 0.0)
    kept = np.zeros_like(cosines)
    for item, row in enumerate(cosines):
        listed = best(row, K)
        kept[item, listed] = row[listed]
    return kept


def windows(choices: list[Event]) -> Iterator[tuple[dict[int, list[int]], dict[str, Matrix]]]:
    """For each window the choices of its users, and everybody's scores of users by items."""
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    events = np.array(
        [
            (users.setdefault(user, len(users)), items.setdefault(item, len(items)), at)
            for user, item, at in choices
        ]
    )
    rng = np.random.Generator(np.random.Philox(0))
    last = events[events[:, 2] < START]
    taken = np.zeros((len(users), len(items)))
    begins = START
    while begins <= events[-1, 2]:
        who, what = last[:, 0].astype(np.int64), last[:, 1].astype(np.int64)
        taken[who, what] = 1.0
        window = events[(events[:, 2] >= begins) & (events[:, 2] < begins + WINDOW_S)]
        truth: dict[int, list[int]] = {}
        for user, item in window[:, :2].astype(np.int64).tolist():
            truth.setdefault(user, []).append(item)
        neighbours = taken @ nearest(taken)
        n_known = int(np.flatnonzero(taken.any(axis=0)).max()) + 1
        for user in truth:
            if not taken[user].any():
                neighbours[user, rng.integers(0, n_known, K)] = 1.0
        recent = popular(np.bincount(what, minlength=len(items)).astype(np.float64))
        yield (
            {user: items_of[:K] for user, items_of in truth.items()},
            {"ItemKNNIncremental": neighbours, "RecentPopularity": np.tile(recent, (len(users), 1))},
        )
        last, begins = window, begins + WINDOW_S


def run(events: list[Event]) -> dict[str, Any]:
    """Score both in both ways."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for truth, everybody in windows(events):
        for name, scores in everybody.items():
            columns: dict[str, list[float]] = {}
            for user, choices in truth.items():
                chosen = scores[user, choices]
                gains = np.where(chosen > 0.0, 1.0 / np.log2(1.0 + np.where(chosen > 0.0, chosen, 1.0)), 0.0)
                shown = best(scores[user], K)
                ideal = GAINS[: len(choices)].sum()
                columns.setdefault("choices", []).extend(gains.tolist())
                for key, value in {
                    "users": gains.mean(),
                    "scored_hit": (chosen > 0.0).any(),
                    "ndcg": GAINS[: len(shown)][np.isin(shown, choices)].sum() / ideal,
                    "hit": np.isin(shown, choices).any(),
                    "items": (scores[user] > 0.0).sum(),
                }.items():
                    columns.setdefault(key, []).append(float(value))
            for key, values in columns.items():
                found.setdefault(name, {}).setdefault(key, []).append(values)
    return {
        name: {
            "as_published": {
                "ndcg_macro": macro(columns["choices"]),
                "ndcg_micro": micro(columns["users"]),
                "hit_macro": macro(columns["scored_hit"]),
            },
            "best_ten": {
                "ndcg_macro": macro(columns["ndcg"]),
                "ndcg_micro": micro(columns["ndcg"]),
                "hit_macro": macro(columns["hit"]),
            },
            "items_with_a_score": micro(columns["items"]),
            "published": PUBLISHED[name],
        }
        for name, columns in found.items()
    }


def main() -> None:
    """Print the figures."""
    print(json.dumps({"benchmark": "recommend_published", "figures": run(ratings())}, indent=1))


if __name__ == "__main__":
    main()
