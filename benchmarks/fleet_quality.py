"""What it costs in recall that workers learn apart and exchange deltas now and then.

Users are shared out among simulated workers by a hash, each with models of its own. After so many events of
the fleet each publishes what it learned, undoes it, and folds everybody's deltas in the order of the workers,
as batches with overlapping commits do. One worker is the sequential learner.

    python benchmarks/fleet_quality.py [--stream ml-100k|yoochoose] [--workers 1,4,16] [--every 1000,10000]
        [--quick]

Protocol as in `recommend_prequential.py`. JSON on standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from typing import Any
from zlib import crc32

import numpy as np
from recommend_prequential import (  # type: ignore[import-not-found]  # it stands beside this script
    STREAMS,
    WARM_UP,
    Event,
    factor_source,
)

from online_models.cooccurrence import SequentialCooccurrence
from online_models.fold import ModelSet
from online_models.hybrid import MAX_HISTORY, OnlineBlend
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary


class Worker:
    """Models of one worker, with a batch open."""

    def __init__(self, max_rows: int) -> None:
        vocabulary = Vocabulary(max_rows)
        sources = DecayedPopularity(vocabulary), SequentialCooccurrence(vocabulary)
        self.blend = OnlineBlend(vocabulary, *sources, factor_source(vocabulary))
        self.models = ModelSet(self.blend.models, vocabulary)
        self.models.begin()

    def publish(self) -> bytes:
        """Return what the open batch taught, and set it aside."""
        self.delta = self.models.delta()
        self.aside = self.models.set_aside()
        return self.delta

    def follow(self, deltas: list[bytes]) -> None:
        """Fold everybody's deltas and open the next batch."""
        for delta in deltas:
            self.models.fold(delta, aside=self.aside if delta is self.delta else None)
        self.models.begin()


def run(events: list[Event], n_workers: int, every: int, max_rows: int) -> dict[str, Any]:
    """Recall of a fleet whose workers exchange deltas after every so many events of all."""
    fleet = [Worker(max_rows) for _ in range(n_workers)]
    consumed: dict[str, set[str]] = defaultdict(set)
    histories: dict[str, list[str]] = defaultdict(list)
    last_event: dict[str, float] = {}
    memories: dict[str, bytes] = {}
    hits: list[tuple[bool, bool]] = []
    for n, (user, item, at) in enumerate(events):
        if n % every == 0 and n_workers > 1:
            deltas = [worker.publish() for worker in fleet]
            for worker in fleet:
                worker.follow(deltas)
        blend = fleet[crc32(user.encode()) % n_workers].blend
        seen, history, memory = consumed[user], histories[user], memories.get(user, b"")
        repeat = item in seen
        if not repeat:
            slate = blend.propose(history, at, at - last_event.get(user, at), seen, memory)
            if n >= WARM_UP * len(events):
                rank = slate.rank_of(item)
                hits.append((rank is not None and rank < 10, rank is not None and rank < 20))
            blend.learn_one(slate, item)
        memories[user] = blend.observe(item, history, at, 1.0, repeat, memory)
        last_event[user] = at
        if not repeat:
            seen.add(item)
            history.insert(0, item)
            del history[MAX_HISTORY:]
    found = np.array(hits)
    return {
        "workers": n_workers,
        "every": every,
        "r@10": round(float(found[:, 0].mean()), 4),
        "r@20": round(float(found[:, 1].mean()), 4),
    }


def numbers(text: str) -> list[int]:
    """Read numbers between commas."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Run all fleets on the asked streams and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stream", choices=sorted(STREAMS), action="append")
    parser.add_argument("--workers", type=numbers, default=[1, 4, 16])
    parser.add_argument("--every", type=numbers, default=[1000, 10_000])
    parser.add_argument("--max-rows", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="the first 10,000 events, one worker and two")
    asked = parser.parse_args()
    limit = None
    if asked.quick:
        limit, asked.workers, asked.every = 10_000, [1, 2], [1000]
    results = {}
    for name in asked.stream or ["ml-100k"]:
        events = STREAMS[name]()[:limit]
        fleets = [(w, every) for w in asked.workers for every in (asked.every if w > 1 else asked.every[:1])]
        results[name] = [run(events, n_workers, every, asked.max_rows) for n_workers, every in fleets]
    json.dump({"benchmark": "fleet_quality", "streams": results}, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
