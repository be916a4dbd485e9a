"""Microseconds of an event by stage of the engine; JSON on standard output.

    python benchmarks/stages.py [--events 20000] [--rounds 3] [--no-catalogue] [--quick]

The head of Taobao's events through the production engine: one thread, one partition, one cart campaign,
batches of 1000, kernels compiled and the garbage collector set as in the worker. The catalogue holds the
items of twice as many events, so that there are always some that nobody has met. The data set is found
through NUDGE_DATA.
All is processor time. ``whole`` and the rate are of rounds without clocks inside; the stages are of as many
more rounds, timed around every call, so their sum is more. Of each batch the fastest round counts.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import platform
import sys
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from online_models.warming import warm_up
from schemas.catalogue import Item
from schemas.codec import decode, encode, parse_time
from schemas.events import Event
from stream.assembly import build_engine, build_models
from stream.core import engine as flow
from stream.core import profiles
from stream.core.records import Record
from stream.core.reference import Reference
from stream.importing import import_events
from stream.settings import Settings
from stream.testing import cart_campaign
from stream.worker import settle_garbage_collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stream.core.engine import Engine
    from stream.core.learning import Models
    from stream.core.records import Outputs

DATA = Path(os.environ.get("NUDGE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
BATCH = 1000
NOW = parse_time("2026-01-01")
STAGES = (
    ("clean", "cleaner", "judge"),
    ("clean", "cleaner", "advance"),
    ("clean", "cleaner", "remember"),
    ("attribute", "attribution", "close"),
    ("learn", "learner", "learn"),
    ("learn", "learner", "feed"),
    ("recommend", "recommender", "recommend"),
    ("offer", "desk", "offer"),
    ("campaign", "campaigns", "advance"),
)


class Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)

    def timed(self, stage: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, its time added to a stage."""

        def call(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            result = act(*arguments, **named)
            self.spent[stage] += time.process_time() - began
            return result

        return call


def events(n: int) -> list[bytes]:
    """The first events of the data set, as ``nudge import taobao`` writes them."""
    imported = io.BytesIO()
    source = DATA / "taobao" / "UserBehavior_first100k.csv.gz"
    import_events(
        "taobao", source, out=imported, from_s=parse_time("2017-11-24"), to_s=parse_time("2017-12-04")
    )
    imported.seek(0)
    return list(islice(imported, n))


def catalogue(lines: list[bytes]) -> dict[str, Item]:
    """Items of events, with their categories."""
    read = [event for event in map(decode, lines) if isinstance(event, Event)]
    products = [product for event in read for product in event.items]
    return {
        str(product.product_id): Item(item_id=str(product.product_id), version=1, category=product.category)
        for product in products
    }


def build(items: dict[str, Item]) -> tuple[Engine, Models]:
    """Build the production engine with a catalogue and one campaign, the catalogue looked through."""
    settings = Settings(consent={"when_unknown": "allow"})
    models = build_models(settings)
    reference = Reference(items, campaigns={"cart": cart_campaign(delay_s=3600.0)})
    models.newcomers_for([""], 0.0, reference.items)
    return build_engine(settings, models, reference, config=settings.engine_config(replay=True)), models


def batches(lines: list[bytes]) -> Iterator[list[Record]]:
    """Records of a file, as replay makes them."""
    records = (Record(line, NOW, offset) for offset, line in enumerate(lines))
    while batch := list(islice(records, BATCH)):
        yield batch


def encode_all(outputs: Outputs) -> int:
    """Bytes of all that came out."""
    return sum(
        len(encode(output))
        for kind in ("recommendations", "triggers", "decisions")
        for output in getattr(outputs, kind)
    )


def run(lines: list[bytes], items: dict[str, Item]) -> list[float]:
    """Seconds of processor time from bytes to bytes, of each batch."""
    engine, models = build(items)
    seconds = []
    for batch in batches(lines):
        began = time.process_time()
        models.fold.begin()
        outputs = engine.process(batch)
        models.fold.keep()
        encode_all(outputs)
        seconds.append(time.process_time() - began)
    return seconds


def run_timed(lines: list[bytes], items: dict[str, Item]) -> tuple[list[dict[str, float]], dict[str, int]]:
    """Seconds by stage, of each batch, and what came out."""
    engine, models = build(items)
    clock = Clock()
    counts: defaultdict[str, int] = defaultdict(int)
    for stage, part, method in STAGES:
        owner = getattr(engine, part)
        setattr(owner, method, clock.timed(stage, getattr(owner, method)))
    scopes = {"decode": vars(flow), "update": vars(profiles)}
    plain = {name: scope[name] for name, scope in scopes.items()}
    scopes["decode"]["decode"] = clock.timed("decode", plain["decode"])
    scopes["update"]["update"] = clock.timed("profile", plain["update"])
    process, pack = clock.timed("engine", engine.process), clock.timed("encode", encode_all)
    delta = clock.timed("delta", models.fold.delta)
    seconds = []
    try:
        for batch in batches(lines):
            models.fold.begin()
            outputs = process(batch)
            delta()
            models.fold.keep()
            counts["bytes"] += pack(outputs)
            for kind in ("recommendations", "triggers", "decisions"):
                counts[kind] += len(getattr(outputs, kind))
            seconds.append(dict(clock.spent))
            clock.spent.clear()
    finally:
        for name, scope in scopes.items():
            scope[name] = plain[name]
    for spent in seconds:
        outside = spent["engine"] + spent["encode"] + spent["delta"]
        spent["rest of the engine"] = spent["engine"] + outside - sum(spent.values())
    return seconds, dict(counts)


def fastest(rounds: Sequence[Sequence[float]]) -> float:
    """Sum over the batches, each as it was in its fastest round: other processes disturb few of all."""
    return math.fsum(map(min, zip(*rounds, strict=True)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-catalogue", action="store_true", help="nothing is known of the items")
    parser.add_argument("--quick", action="store_true", help="the first 2,000 events, once")
    asked = parser.parse_args()
    if asked.quick:
        asked.events, asked.rounds = 2000, 1
    known = events(2 * asked.events)
    lines, items = known[: asked.events], {} if asked.no_catalogue else catalogue(known)
    warm_up()
    settle_garbage_collector()
    seconds = fastest([run(lines, items) for _ in range(asked.rounds)])
    timed = [run_timed(lines, items) for _ in range(asked.rounds)]
    stages = {
        stage: fastest([[spent.get(stage, 0.0) for spent in batches_of] for batches_of, _ in timed])
        for stage in timed[0][0][-1]
    }
    result = {
        "benchmark": "stages",
        "machine": f"{platform.machine()} {platform.python_version()}",
        "events": len(lines),
        "items": len(items),
        "outputs": timed[0][1],
        "events_per_s": round(len(lines) / seconds),
        "us_per_event": {
            "whole": round(seconds / len(lines) * 1e6, 1),
            **{stage: round(spent / len(lines) * 1e6, 1) for stage, spent in sorted(stages.items())},
        },
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
