"""How an open batch and everybody's deltas meet: two ways to keep an aborted batch without a trace.

One worker of four owns 3 of 12 partitions; a commit takes 20 ms. For each batch of its own it folds three of
others. Two designs, measured with the production models in one run:

serial   one open batch at a time: learn in place, commit, keep (an abort rolls back)
overlap  learn, take the delta, roll back at once; commits overlap; a committed delta is folded like another's

Also printed: what learning, publishing, undoing and folding cost per event, and the size of a delta.
The events are Zipf-distributed views. JSON on stdout.

    python benchmarks/model_commits.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import time
from collections.abc import Callable

import numpy as np

from stream.assembly import build_models
from stream.core.learning import Models
from stream.settings import Settings

COMMIT_S = 0.020
PARTITIONS, WORKERS = 12, 4
N_USERS, N_ITEMS = 600, 5000
SECONDS, QUICK_SECONDS = 4.0, 0.5
BATCHES, QUICK_BATCHES = (50, 200, 1000), (50,)


class Stream:
    """Views of one partition: each user keeps a ring of items and the factor model's memory."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.Generator(np.random.Philox(seed))
        self._rings: dict[int, list[str]] = {}
        self._memories: dict[int, bytes] = {}
        self._at = 0.0

    def learn(self, models: Models, n: int) -> None:
        """Learn the next n views in place."""
        users = self._rng.integers(0, N_USERS, n).tolist()
        items = np.minimum(self._rng.zipf(1.2, n), N_ITEMS).tolist()
        for user, item in zip(users, items, strict=True):
            ring, item_id = self._rings.setdefault(user, []), f"i{item}"
            self._at += 0.05
            repeat = item_id in ring
            memory = self._memories.get(user, b"")
            self._memories[user] = models.blend.observe(item_id, ring, self._at, 1.0, repeat, memory)
            if not repeat:
                self._rings[user] = [item_id, *ring][:64]


def timed(action: Callable[[], object], n_events: int) -> float:
    """Microseconds per event of one call."""
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) / n_events * 1e6


def costs(batch: int) -> dict[str, float]:
    """Microseconds per event of each step; the median of 20 batches after 20 warm ones."""
    models, stream = build_models(Settings(max_items=8192, click_slots=2**12)), Stream(1)
    rows: list[dict[str, float]] = []
    for n in range(40):
        row: dict[str, float] = {}
        models.fold.begin()
        row["learn"] = timed(lambda: stream.learn(models, batch), batch)
        deltas: list[bytes] = []
        row["delta"] = timed(lambda: deltas.append(models.fold.delta()), batch)  # noqa: B023  called at once
        row["rollback"] = timed(models.fold.rollback, batch)
        row["fold"] = timed(lambda: models.fold.fold(deltas[0]), batch)  # noqa: B023  called at once
        row["delta_bytes"] = len(deltas[0]) / batch
        if n >= 20:
            rows.append(row)
    return {name: round(float(np.median([row[name] for row in rows])), 2) for name in rows[0]}


def foreign_deltas(batch: int, n: int) -> list[bytes]:
    """Make deltas of other workers, all from the same empty start."""
    models, stream = build_models(Settings(max_items=8192, click_slots=2**12)), Stream(2)
    deltas = []
    for _ in range(n):
        models.fold.begin()
        stream.learn(models, batch)
        deltas.append(models.fold.delta())
        models.fold.keep()
    return deltas


async def throughput(batch: int, seconds: float, *, overlap: bool, foreign: list[bytes]) -> float:
    """Own events per second of one worker with 3 partitions, for some seconds."""
    models = build_models(Settings(max_items=8192, click_slots=2**12))
    streams = [Stream(10 + p) for p in range(PARTITIONS // WORKERS)]
    lock = asyncio.Lock()
    done, waiting = 0, list(foreign)
    ends = time.perf_counter() + seconds

    def fold_others() -> None:
        for _ in range(WORKERS - 1):
            models.fold.fold(waiting.pop() if waiting else foreign[0])

    async def partition(stream: Stream) -> None:
        nonlocal done
        while time.perf_counter() < ends:
            async with lock:
                fold_others()
                models.fold.begin()
                stream.learn(models, batch)
                delta = models.fold.delta()
                if overlap:
                    models.fold.rollback()
                else:
                    await asyncio.sleep(COMMIT_S)
                    models.fold.keep()
            if overlap:
                await asyncio.sleep(COMMIT_S)
                models.fold.fold(delta)
            done += batch

    await asyncio.gather(*map(partition, streams))
    return done / SECONDS


def main() -> None:
    """Run both designs at three batch sizes and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="batches of 50 only, half a second of each design"
    )
    quick = parser.parse_args().quick
    seconds = QUICK_SECONDS if quick else SECONDS
    costs(200)  # compiles
    results = []
    for batch in QUICK_BATCHES if quick else BATCHES:
        foreign = foreign_deltas(batch, 60)
        serial = asyncio.run(throughput(batch, seconds, overlap=False, foreign=foreign))
        overlap = asyncio.run(throughput(batch, seconds, overlap=True, foreign=foreign))
        per_event = costs(batch)
        # A fleet that does nothing but fold everybody's deltas on each core.
        ceiling = round(1e6 / per_event["fold"])
        results.append(
            {
                "batch": batch,
                "us_per_event": per_event,
                "serial_events_per_s": round(serial),
                "overlap_events_per_s": round(overlap),
                "overlap_to_serial": round(overlap / serial, 2),
                "fold_only_ceiling_events_per_s": ceiling,
            }
        )
    report = {"benchmark": "model_commits", "machine": platform.machine(), "results": results}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
