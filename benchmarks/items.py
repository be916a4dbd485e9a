"""Cost of an event by the number of items, and of a catalogue of that size; JSON on standard output.

    python benchmarks/items.py [--items 1000 1000000] [--events 250] [--rounds 80] [--quick]

For each number of items the engine has a catalogue of so many and one in a hundred more that nobody has met,
and models that have met them: each was learned once, after others of its category. Then users view items,
a round's events in one batch, all stages and models on, one cart campaign. Of the items they view
``skewed`` draws the n-th with a probability of about 1/n, as shops see it, and ``uniform`` all alike, so that
on a large catalogue nothing an event needs is in a cache.
Rounds alternate between the sizes, and they are short, so that a slow second of the machine falls on both;
``ratio`` is the median over rounds of the last size's processor time to the first's. ``catalogue`` is what it
takes to follow all records, in lots as a worker reads them, the longest lot, resident memory after that and
after learning, and what it takes to copy the models for a snapshot.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.jobs.machine import commit, machine
from benchmarks.jobs.process import resident_mib
from online_models.warming import warm_up
from schemas.catalogue import Item
from stream.assembly import build_engine, build_models
from stream.core.engine import Engine
from stream.core.records import Record
from stream.core.reference import Reference
from stream.runtime.reference import LOT_RECORDS
from stream.runtime.shared import follow
from stream.settings import Settings
from stream.testing import EPOCH, cart_campaign, event
from stream.worker import settle_garbage_collector

BATCH = 1000
OF_A_CATEGORY = 50  # items
NEW_SHARE = 0.01
N_USERS = 2000
HISTORY = 16
DRAWS = ("skewed", "uniform")


@dataclass
class Shop:
    """An engine that has met so many items, and what its events have cost."""

    n_items: int
    engine: Engine
    catalogue: dict[str, float]
    us: dict[str, list[float]] = field(default_factory=lambda: {draw: [] for draw in DRAWS})


def name_of(number: int) -> str:
    """Id of an item."""
    return f"item-{number:08d}"


def record_of(number: int) -> Item:
    """Record of an item; consecutive ones share a category."""
    return Item(item_id=name_of(number), version=1, category=f"kind-{number // OF_A_CATEGORY}", price=9.5)


def shop_of(n_items: int, max_items: int) -> Shop:
    """Read a catalogue, and let the models meet its items."""
    settings = Settings(max_items=max_items, consent={"when_unknown": "allow"})
    models, reference = build_models(settings), Reference(campaigns={"cart": cart_campaign(delay_s=3600)})
    started, longest = time.process_time(), 0.0
    n_listed = n_items + max(1, int(NEW_SHARE * n_items))
    for first in range(0, n_listed, LOT_RECORDS):
        lot = time.process_time()
        for number in range(first, min(first + LOT_RECORDS, n_listed)):
            reference.items[name_of(number)] = record_of(number)
        follow(reference, models)
        longest = max(longest, time.process_time() - lot)
    catalogue = {
        "records": n_listed,
        "follow_s": round(time.process_time() - started, 2),
        "longest_lot_ms": round(1e3 * longest, 1),
        "resident_mib": round(resident_mib()),
    }
    memory = b""
    for first in range(0, n_items, BATCH):
        models.fold.begin()
        for number in range(first, min(first + BATCH, n_items)):
            place = number % OF_A_CATEGORY
            history = [name_of(number - k) for k in range(1, min(place, HISTORY) + 1)]
            values = models.newcomers.values(name_of(number), reference.items) if models.newcomers else []
            memory = models.blend.observe(
                name_of(number), history, EPOCH + number / 1e3, 1.0, False, memory, values
            )
        models.fold.keep()
        if first % 100_000 == 0 and first:
            print(f"{n_items} items: {first} met", file=sys.stderr)
    follow(reference, models)
    catalogue["resident_with_models_mib"] = round(resident_mib())
    started = time.process_time()
    arrays = models.fold.snapshot()
    catalogue["snapshot_s"] = round(time.process_time() - started, 3)
    catalogue["snapshot_mib"] = round(sum(array.nbytes for array in arrays.values()) / 2**20)
    return Shop(n_items, build_engine(settings, models, reference), catalogue)


def views(shop: Shop, draw: str, n_events: int, start: float, lots: np.random.Generator) -> list[Record]:
    """Views of drawn items by drawn users, one a second."""
    shares = lots.random(n_events)
    numbers = shop.n_items**shares if draw == "skewed" else shop.n_items * shares
    users = lots.integers(0, N_USERS, n_events)
    return [
        Record(
            event("Product Viewed", user=f"u{user}", at=start + n, product_id=name_of(int(number))),
            EPOCH + start + n,
            n,
        )
        for n, (number, user) in enumerate(zip(numbers.tolist(), users.tolist(), strict=True))
    ]


def timed(engine: Engine, records: list[Record]) -> float:
    """Processor time, µs an event."""
    started = time.process_time()
    engine.models.fold.begin()
    engine.process(records)
    engine.models.fold.keep()
    return (time.process_time() - started) * 1e6 / len(records)


def measure(sizes: list[int], n_events: int, rounds: int) -> dict[str, Any]:
    """Build a shop of each size, then let events in, in turns."""
    room = 2 ** int(np.ceil(np.log2(1.1 * max(sizes))))
    settle_garbage_collector()
    shops = [shop_of(n, room) for n in sizes]
    lots, start = np.random.Generator(np.random.Philox(5)), 30 * 86_400.0
    for number in range(rounds + 1):
        for draw in DRAWS:
            for shop in shops:
                us = timed(shop.engine, views(shop, draw, n_events, start, lots))
                if number:  # the first round fills users' histories
                    shop.us[draw].append(us)
            start += n_events
    figures: dict[str, Any] = {"max_items": room, "catalogue": {s.n_items: s.catalogue for s in shops}}
    for draw in DRAWS:
        ratios = [b / a for a, b in zip(shops[0].us[draw], shops[-1].us[draw], strict=True)]
        us_by_size = {shop.n_items: round(statistics.median(shop.us[draw]), 1) for shop in shops}
        figures[draw] = {"us_per_event": us_by_size, "ratio": round(statistics.median(ratios), 3)}
    return figures


def main() -> None:
    """Measure what the command line asks for and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 1_000_000])
    parser.add_argument("--events", type=int, default=250, help="of a round")
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--quick", action="store_true", help="20,000 items, 200 events, one round")
    asked = parser.parse_args()
    if asked.quick:
        asked.items, asked.events, asked.rounds = [1000, 20_000], 200, 1
    warm_up()
    figures = measure(asked.items, asked.events, asked.rounds)
    context = {"machine": machine(), "commit": commit(), "events": asked.events, "rounds": asked.rounds}
    print(json.dumps({"benchmark": "items", **context, **figures}, indent=2))


if __name__ == "__main__":
    main()
