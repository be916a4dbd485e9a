"""Microseconds per call of the recommendation models, and per event of folding; JSON on standard output.

    python benchmarks/models.py [--items 20000] [--factors]

One thread, single calls from Python, kernels compiled before; the best of several rounds.
The stream is synthetic: skewed items, histories of ten and more, one event every second.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable

import numpy as np

from online_models.cooccurrence import SequentialCooccurrence
from online_models.factorisation import StreamingIALS
from online_models.fold import ModelSet
from online_models.hybrid import OnlineBlend
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary

ROUNDS = 5
BATCH = 200
N_EVENTS = 20_000
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


def figures(n_items: int, *, factors: bool) -> dict[str, float]:
    """All figures for one size of the catalogue."""
    vocabulary = Vocabulary(n_items)
    popularity, cooccurrence = DecayedPopularity(vocabulary), SequentialCooccurrence(vocabulary)
    blend = OnlineBlend(
        vocabulary, popularity, cooccurrence, StreamingIALS(vocabulary) if factors else None
    )
    models = ModelSet(blend.models, vocabulary)
    events = made_up_events(n_items, N_EVENTS)
    memory = b""
    deltas: list[bytes] = []
    delta_s = 0.0
    for n, (item, history, at) in enumerate(events):
        if n % BATCH == 0:
            if n:
                began = time.perf_counter()
                deltas.append(models.delta())
                delta_s += time.perf_counter() - began
                models.keep()
            models.begin()
        memory = blend.observe(item, history, at, 1.0, False, memory)
    models.keep()
    some = events[:2000]
    at = events[-1][2]
    models.begin()

    def observe() -> None:
        for item, history, _ in some:
            blend.observe(item, history, at, 1.0, False, memory)

    def touch() -> None:
        for item, _, _ in some:
            vocabulary.touch(item, at)

    def count() -> None:
        for item, _, _ in some:
            popularity.learn_one(item, at)

    slates = []

    def propose() -> None:
        slates[:] = [blend.propose(history, at, 30.0, set(history), memory) for _, history, _ in some]

    def learn() -> None:
        for (item, _, _), slate in zip(some, slates, strict=True):
            blend.learn_one(slate, item)

    def top() -> None:
        for slate in slates:
            slate.top(10)

    def item_ids() -> None:
        for slate in slates:
            slate.item_ids(10)

    def rank() -> None:
        for (item, _, _), slate in zip(some, slates, strict=True):
            slate.rank_of(item)

    result = {
        "touch": best_us(touch, len(some)),
        "popularity_learn": best_us(count, len(some)),
        "observe": best_us(observe, len(some)),
        "propose": best_us(propose, len(some)),
        "candidates": round(float(np.mean([len(slate) for slate in slates])), 1),
        "ranker_learn_hits": 0.0,
        "ranker_learn": best_us(learn, len(some)),
        "slate_top_10": best_us(top, len(some)),
        "slate_item_ids_10": best_us(item_ids, len(some)),
        "slate_rank_of": best_us(rank, len(some)),
        "delta_write_per_event": round(delta_s / N_EVENTS * 1e6, 2),
        "delta_bytes_per_event": round(sum(map(len, deltas)) / len(deltas) / BATCH, 1),
    }
    hits = [slate.item_ids(40)[-1] if len(slate) else "" for slate in slates]

    def learn_hits() -> None:
        for item, slate in zip(hits, slates, strict=True):
            blend.learn_one(slate, item)

    result["ranker_learn_hits"] = best_us(learn_hits, len(some))
    models.rollback()

    def fold() -> None:
        for delta in deltas:
            models.fold(delta)

    result["fold_per_event"] = best_us(fold, len(deltas) * BATCH)
    began = time.perf_counter()
    models.begin()
    models.rollback()
    result["empty_batch"] = round((time.perf_counter() - began) * 1e6, 1)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--factors", action="store_true")
    asked = parser.parse_args()
    result = {
        "benchmark": "models",
        "machine": f"{platform.machine()} {platform.python_version()}",
        "items": asked.items,
        "factors": asked.factors,
        "us_per_call": figures(asked.items, factors=asked.factors),
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
