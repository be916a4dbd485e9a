"""Microseconds per call of the recommendation models, and per event of folding; JSON on standard output.

    python benchmarks/models.py [--items 20000] [--factors] [--quick]

One thread, single calls from Python, kernels compiled before; the best of several rounds.
River, Vowpal Wabbit and implicit run on the same events where they are installed (`jobs/peers.py`).
The stream is synthetic: skewed items, histories of ten and more, one event every second.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.jobs import peers
from online_models.cooccurrence import SequentialCooccurrence
from online_models.factorisation import StreamingIALS
from online_models.fold import ModelSet
from online_models.hybrid import OnlineBlend
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from online_models.slate import Slate

ROUNDS = 5
BATCH = 200
N_EVENTS = 20_000
DAY_S = 86_400.0
BEGINNING = 8  # a history that is shorter, a quarter of them, is that of somebody whose visit begins
Event = tuple[str, list[str], float]


def made_up_events(n_items: int, n_events: int) -> list[Event]:
    """(item, history newest first, time), seeded."""
    rng = np.random.Generator(np.random.Philox(3))
    items = (n_items * rng.random(n_events + 40) ** 3).astype(int)
    names = [f"sku-{n:06d}" for n in range(n_items)]
    drawn = [names[item] for item in items.tolist()]
    lengths = rng.integers(0, 31, n_events).tolist()
    return [
        (drawn[n + 40], [name for name in drawn[n : n + length] if name != drawn[n + 40]], 1.7e9 + n)
        for n, length in enumerate(lengths)
    ]


def best_us(act: Callable[[], None], n: int) -> float:
    """Best time of the rounds, in microseconds for each of ``n``."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - began)
    return round(best / n * 1e6, 2)


class Bench:
    """A blend that has learned a stream, its deltas, and a sample of events to ask about."""

    def __init__(self, n_items: int, *, factors: bool) -> None:
        vocabulary = Vocabulary(n_items)
        self.blend = OnlineBlend(
            vocabulary,
            DecayedPopularity(vocabulary),
            SequentialCooccurrence(vocabulary),
            StreamingIALS(vocabulary) if factors else None,
        )
        self.models = ModelSet(self.blend.models, vocabulary)
        events = made_up_events(n_items, N_EVENTS)
        self.memory = b""
        self.deltas: list[bytes] = []
        self.delta_s = 0.0
        for start in range(0, N_EVENTS, BATCH):
            self.models.begin()
            for item, history, at in events[start : start + BATCH]:
                gap_s = DAY_S if len(history) < BEGINNING else 30.0
                self.memory = self.blend.observe(item, history, at, 1.0, False, self.memory, gap_s=gap_s)
            began = time.perf_counter()
            self.deltas.append(self.models.delta())
            self.delta_s += time.perf_counter() - began
            self.models.keep()
        self.now = events[-1][2]
        self.sample = events[:2000]
        self.slates: list[Slate] = []

    def touch(self) -> None:
        """Use an item of the vocabulary."""
        for item, _, _ in self.sample:
            self.blend.vocabulary.touch(item, self.now)

    def count(self) -> None:
        """Count an event, the use included."""
        for item, _, _ in self.sample:
            self.blend.popularity.learn_one(item, self.now)

    def observe(self) -> None:
        """Teach all sources an event."""
        for item, history, _ in self.sample:
            self.blend.observe(item, history, self.now, 1.0, False, self.memory)

    def propose(self) -> None:
        """Candidates, features and scores."""
        self.slates = [
            self.blend.propose(history, self.now, 30.0, set(history), self.memory)
            for _, history, _ in self.sample
        ]

    def learn(self) -> None:
        """A ranker step whose target is always among the candidates."""
        for slate, item in zip(self.slates, self.targets, strict=True):
            self.blend.learn_one(slate, item)

    def top(self) -> None:
        """Ten items with reasons."""
        for slate in self.slates:
            slate.top(10)

    def rank(self) -> None:
        """Rank of one item."""
        for slate, item in zip(self.slates, self.targets, strict=True):
            slate.rank_of(item)

    def fold(self) -> None:
        """All deltas of the stream."""
        for delta in self.deltas:
            self.models.fold(delta)

    def figures(self) -> dict[str, float]:
        """All figures."""
        n = len(self.sample)
        self.models.begin()
        self.propose()
        self.targets = [slate.item_ids(40)[-1] for slate in self.slates]
        result = {
            "touch": best_us(self.touch, n),
            "popularity_learn": best_us(self.count, n),
            "observe": best_us(self.observe, n),
            "propose": best_us(self.propose, n),
            "candidates": round(float(np.mean([len(slate) for slate in self.slates])), 1),
            "ranker_learn": best_us(self.learn, n),
            "slate_top_10": best_us(self.top, n),
            "slate_rank_of": best_us(self.rank, n),
            "delta_write_per_event": round(self.delta_s / N_EVENTS * 1e6, 2),
            "delta_bytes_per_event": round(sum(map(len, self.deltas)) / N_EVENTS, 1),
        }
        self.models.rollback()
        result["fold_per_event"] = best_us(self.fold, N_EVENTS)
        return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--factors", action="store_true")
    parser.add_argument("--quick", action="store_true", help="1,000 items")
    asked = parser.parse_args()
    if asked.quick:
        asked.items = 1000
    result = {
        "benchmark": "models",
        "machine": f"{platform.machine()} {platform.python_version()}",
        "items": asked.items,
        "factors": asked.factors,
        "us_per_call": Bench(asked.items, factors=asked.factors).figures(),
        "peers_us_per_call": peers.measured(made_up_events(asked.items, N_EVENTS), asked.items),
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
