"""The 30-day-window protocol of RecNextEval on MovieLens-100K; JSON on stdout.

    python benchmarks/recommend_windows.py

All 100,000 ratings count as choices. What lies before t = 875156710 teaches; then seven windows of 30 days
follow. At the start of each window everybody ranks the catalogue once for every user who will be active in
it, without learning meanwhile; then the window is learned. The truth is a user's first ten choices of the
window (``first_10``), or all of them (``all``); ``known_users`` is ``first_10`` over those alone who chose
something before the window. NDCG@10 has min(10, choices) as its ideal, Hit@10 is 1 where at least one of the
ten is right. ``macro`` is the mean of the windows' means, ``micro`` that of all pairs of user and window.

The models are the production's, learned event by event. Published figures are those of RecNextEval's own
notebook (repository HiIAmTzeKean/RecNextEval). `recommend_published.py` shows what they count: no ranks.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from online_models.hybrid import MAX_HISTORY
from stream.assembly import build_models
from stream.evaluate.baselines.catalogue import Catalogue
from stream.evaluate.baselines.item_knn import DensePairs, ItemCosine
from stream.evaluate.baselines.popularity import DecayedCounts
from stream.settings import Settings

DATA = Path(os.environ.get("NUDGE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
START = 875_156_710.0
WINDOW_S = 30 * 86_400.0
K = 10
PUBLISHED = {
    "ItemKNNIncremental": {"ndcg_macro": 0.1665, "ndcg_micro": 0.2057, "hit_macro": 0.367},
    "RecentPopularity": {"ndcg_macro": 0.1578, "ndcg_micro": 0.1507, "hit_macro": 0.577},
    "DecayPopularity": {"ndcg_macro": 0.1251, "ndcg_micro": 0.1135, "hit_macro": 0.527},
}

Event = tuple[str, str, float]


def ratings() -> list[Event]:
    """(user, item, time) of all ratings by time; ties keep the file's order."""
    with gzip.open(DATA / "ml-100k" / "ml-100k.inter.gz", "rt", encoding="utf-8") as file:
        lines = csv.reader(file, delimiter="\t")
        next(lines)
        return sorted(((user, item, float(at)) for user, item, _, at in lines), key=lambda event: event[2])


class Learned:
    """The production's models and the baselines, after the same events."""

    def __init__(self) -> None:
        models = build_models(Settings())
        self.blend, self.fold = models.blend, models.fold
        self.taken: dict[str, dict[str, None]] = defaultdict(dict)
        self.histories: dict[str, list[str]] = defaultdict(list)
        self.last: dict[str, float] = {}
        self.memories: dict[str, bytes] = {}
        self.catalogue, self.knn = Catalogue(), ItemCosine(DensePairs())
        self.users: dict[str, int] = {}
        self.decayed = DecayedCounts(7 * 86_400.0, "decayed_popularity_7d")
        self.recent = DecayedCounts(float("inf"), "recent")

    def learn(self, events: list[Event]) -> None:
        """Learn event by event, each ranked before it is learned, as in service."""
        self.recent = DecayedCounts(float("inf"), "recent")
        self.fold.begin()
        for user, item, at in events:
            history, memory = self.histories[user], self.memories.get(user, b"")
            gap_s = at - self.last[user] if user in self.last else None
            slate = self.blend.propose(history, at, gap_s, self.taken[user], memory)
            self.blend.learn_one(slate, item)
            self.memories[user] = self.blend.observe(
                item, history, at, 1.0, repeat=False, memory=memory, gap_s=gap_s
            )
            self.last[user] = at
            self.taken[user][item] = None
            history.insert(0, item)
            del history[MAX_HISTORY:]
            number, row = self.catalogue.count(item), self.users.setdefault(user, len(self.users))
            for baseline in (self.knn, self.decayed, self.recent):
                baseline.learn(row, number, at, repeat=False)
        self.fold.keep()

    def lists(self, user: str, at: float) -> dict[str, list[str]]:
        """Ten items from everybody."""
        gap_s = at - self.last[user] if user in self.last else None
        taken = self.taken.get(user, {})
        slate = self.blend.propose(
            self.histories.get(user, []), at, gap_s, taken, self.memories.get(user, b"")
        )
        names = list(self.catalogue.numbers)
        row = self.users.get(user, -1)
        recent, near = self.recent.scores(row, at), self.knn.scores(row, at)
        scores = {
            "recent_popularity": recent,
            self.decayed.name: self.decayed.scores(row, at),
            "item_knn": recent if near is None else near,
        }
        found = {"nudge": slate.item_ids(K)}
        for name, values in scores.items():
            order = np.argsort(-values, kind="stable")
            found[name] = [names[at] for at in order if names[at] not in taken][:K]
        return found


def ndcg(shown: list[str], truth: list[str]) -> float:
    """Discounted gain over that of the best list."""
    gains = [1.0 / np.log2(place + 2.0) for place in range(K)]
    gained = sum(gains[place] for place, item in enumerate(shown) if item in truth)
    return float(gained / sum(gains[: min(K, len(truth))]))


def run(events: list[Event]) -> dict[str, Any]:
    """Go through the windows."""
    learned = Learned()
    learned.learn([event for event in events if event[2] < START])
    scores: dict[str, list[dict[tuple[str, str], list[float]]]] = defaultdict(list)
    n_pairs = 0
    begins = START
    while begins <= events[-1][2]:
        window = [event for event in events if begins <= event[2] < begins + WINDOW_S]
        active: dict[str, list[str]] = defaultdict(list)
        for user, item, _ in window:
            active[user].append(item)
        found: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
        for user, items in active.items():
            n_pairs += 1
            for name, shown in learned.lists(user, begins).items():
                for kind in ("first_10", "all", *(["known_users"] if user in learned.users else [])):
                    truth = items if kind == "all" else items[:K]
                    found[name][kind, "ndcg"].append(ndcg(shown, truth))
                    found[name][kind, "hit"].append(float(bool(set(shown) & set(truth))))
        for name, one in found.items():
            scores[name].append(one)
        learned.learn(window)
        begins += WINDOW_S
    return {
        "windows": len(scores["nudge"]),
        "user_windows": n_pairs,
        "known_user_windows": sum(len(one["known_users", "hit"]) for one in scores["nudge"]),
        "figures": {
            name: {
                kind: {
                    f"{metric}_{level}": mean([one[kind, metric] for one in windows if one[kind, metric]])
                    for metric in ("ndcg", "hit")
                    for level, mean in LEVELS.items()
                }
                for kind in ("first_10", "all", "known_users")
            }
            for name, windows in scores.items()
        },
        "published": PUBLISHED,
    }


def macro(windows: list[list[float]]) -> float | None:
    """Mean of the windows' means; None without a window."""
    return round(float(np.mean([np.mean(window) for window in windows])), 4) if windows else None


def micro(windows: list[list[float]]) -> float | None:
    """Mean of all; None without any."""
    return round(float(np.mean(np.concatenate(windows))), 4) if windows else None


LEVELS: dict[str, Callable[[list[list[float]]], float | None]] = {"macro": macro, "micro": micro}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the first 30,000 ratings")
    limit = 30_000 if parser.parse_args().quick else None
    print(json.dumps({"benchmark": "recommend_windows", **run(ratings()[:limit])}, indent=1))


if __name__ == "__main__":
    main()
