"""A shop that does everything at once, drawn from a seed: tables that overflow, odd numbers, late events.

Two engines share the models of one worker, as two partitions do. Batches end anywhere and are sometimes
undone and folded after, as when a commit was slow. Another worker folds the same deltas, and a third one now
and then begins anew with its snapshot.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from schemas.catalogue import Item, Offer
from stream.assembly import build_engine, build_models
from stream.core.engine import Engine
from stream.core.learning import Models
from stream.core.records import Record
from stream.core.reference import Reference
from stream.runtime.statecodec import ROWS
from stream.settings import Settings
from stream.testing import EPOCH, event

ODD_PRICES = (1e308, -1.0, 0, 1e-300, "9", None, 2**60)
ODD_NAMES = ("x" * 3000, "", "é", "\0", "a|b")
SLOTS = ("for_you", "item_page", "bought_together", "buy_again", "trending", "recently_viewed")
KINDS = {
    "Product Viewed": 45,
    "Product Added": 10,
    "Order Completed": 10,
    "Product List Viewed": 15,
    "Product Clicked": 10,
    "Recommendations Requested": 7,
    "Product Reviewed": 3,
}
N_ASKED = 60
DAY = 86_400.0


class BrokenPromiseError(AssertionError):
    """What must hold of models does not."""


def drawn_settings(draw: random.Random) -> Settings:
    """Small tables, and any of the optional parts."""
    neighbours = ("off", "cosine", "euclidean")
    fields: dict[str, Any] = {
        "max_items": draw.choice([256, 300, 1024]),
        "click_slots": draw.choice([2**10, 2**12]),
        "recommend": {
            "item_neighbours": draw.choice(neighbours),
            "user_neighbours": draw.choice(neighbours),
            "segment_popularity": draw.random() < 0.5,
            "factors": draw.random() < 0.8,
            "content": draw.random() < 0.8,
            "candidates": draw.choice([10, 50, 200]),
            "n_items": draw.choice([1, 10, 50]),
            "min_interval_s": 0.0,
            "novelty": draw.choice([0.0, 0.3]),
            "diversity": draw.choice([0.0, 0.5]),
        },
        "clicks": {"model": draw.choice(["gaussian", "ftrl"]), "negative_share": draw.choice([1.0, 0.3])},
        "challenger": {
            "clicks": draw.choice(["off", "gaussian", "ftrl"]),
            "recommend": draw.random() < 0.5,
            "warm_up": 10,
        },
        "conversions": {"window_s": draw.choice([0.0, 3600.0])},
        "offers": {"few": draw.choice([2, 100])},
    }
    return Settings(consent={"when_unknown": "allow"}, **fields)


def drawn_item(draw: random.Random, number: int, version: int) -> Item:
    """A catalogue record with anything that the schema lets through."""
    attributes: dict[str, str | float | bool] = {}
    for n in range(draw.randrange(4)):
        attributes[f"k{n}"] = draw.choice(("v", 1.0, True, 1e308))
    return Item(
        item_id=f"p{number}",
        version=version,
        name=draw.choice(["a b", "ü", None]),
        category=draw.choice(["x", "y", "", None, "z" * 200]),
        brand=draw.choice([None, "b"]),
        price=draw.choice([None, 1.0, 1e308, -2.0]),
        currency="EUR",
        stock=draw.choice([None, 0, 5]),
        hidden=draw.random() < 0.1,
        attributes=attributes,
    )


def drawn_events(draw: random.Random, n: int) -> Iterator[tuple[float, bytes]]:
    """When the broker got an event, and the event: late, at one moment, or days after the one before."""
    at, n_items, n_users = 0.0, draw.choice([20, 400, 3000]), draw.choice([3, 60, 800])

    def skewed(most: int) -> int:
        return min(int(draw.expovariate(4 / most)), most)

    for k in range(n):
        at += draw.choice([0, 1, 30, 400, 7200, 3 * DAY if draw.random() < 0.02 else 5])
        said: dict[str, Any] = {
            "user": f"u{skewed(n_users)}",
            "at": at - draw.choice([0, 0, 0, 50, 4000]),
            "message_id": f"m{k}",
        }
        yield EPOCH + at, _event(draw, said, f"p{skewed(n_items)}", n_items)


def _event(draw: random.Random, said: dict[str, Any], item_id: str, n_items: int) -> bytes:
    about: dict[str, Any] = {"product_id": item_id}
    if draw.random() < 0.05:
        about["price"] = draw.choice(ODD_PRICES)
    if draw.random() < 0.03:
        about["quantity"] = draw.choice([0, -5, 10**15])
    if draw.random() < 0.03:
        about["category"] = draw.choice(ODD_NAMES)
    [kind] = draw.choices([*KINDS], [*KINDS.values()])
    if kind == "Order Completed":
        lines = [{"product_id": f"p{draw.randrange(n_items)}"} for _ in range(draw.choice([1, 3, 60]))]
        about = {"total": draw.choice([1.0, 1e9, 1e308]), "currency": "EUR", "products": lines}
    elif kind == "Product List Viewed":
        shown = [
            {"product_id": f"p{draw.randrange(n_items)}", "position": draw.choice([n, 10**9, -3])}
            for n in range(draw.choice([1, 10, 80]))
        ]
        about = {"products": shown}
    elif kind == "Recommendations Requested":
        about["slot"] = draw.choice(SLOTS)
    elif kind == "Product Reviewed":
        about = {"product_id": item_id, "rating": draw.choice([1, 5, "nan", "x", 1e308])}
    return event(kind, **said, **about)


def drawn_reference(draw: random.Random) -> Reference:
    """A catalogue from nothing to more than the models remember, and as many offers as choices differ in."""
    reference = Reference()
    for n in range(draw.choice([0, 30, 500])):
        reference.items[f"p{n}"] = drawn_item(draw, n, 1)
    for n in range(draw.choice([0, 3, 8, 150])):
        reference.offers[f"o{n}"] = Offer(
            offer_id=f"o{n}",
            version=1,
            cost=1.0,
            value=draw.choice([0.0, 10.0, 1e300]),
            currency="EUR",
            category=draw.choice([None, "g"]),
        )
    return reference


def shop_day(seed: int, n_events: int) -> Counter[tuple[str, ...]]:
    """Run one drawn shop; return what its engines counted.

    Raises
    ------
    BrokenPromiseError
        An undone batch left something; a restored worker has other bits, or other answers, than one that
        learned or folded all; a model holds what is not finite.
    """
    draw = random.Random(seed)
    settings, reference = drawn_settings(draw), drawn_reference(draw)
    models, folder, restored = (build_models(settings) for _ in range(3))
    engines = [engine_of(settings, models, reference) for _ in range(2)]
    events, counts, place = list(drawn_events(draw, n_events)), Counter[tuple[str, ...]](), 0
    while place < n_events:
        batch = events[place : place + draw.choice([1, 7, 40, 200])]
        place += len(batch)
        told, delta = taught(draw, draw.choice(engines), models, batch)
        counts.update(told)
        for other in (folder, restored):
            other.fold.fold(delta)
        if draw.random() < 0.1:
            restored = copied(settings, folder)
            for number in draw.sample(range(600), 20):
                reference.items[f"p{number}"] = drawn_item(draw, number, place)
    require(folder.fold.digest() == restored.fold.digest(), "a restored worker has other bits")
    for name, array in models.fold.snapshot().items():
        require(array.dtype.kind != "f" or bool(np.isfinite(array).all()), f"{name} is not finite")
    for one, other in ((folder, restored), (models, copied(settings, models))):
        said, expected = (answers(settings, reference, each, events[-N_ASKED:]) for each in (one, other))
        require(said == expected, "a restored worker answers otherwise")
    return counts


def taught(
    draw: random.Random, engine: Engine, models: Models, batch: list[tuple[float, bytes]]
) -> tuple[Counter[tuple[str, ...]], bytes]:
    """Process a batch, which is kept, or undone and folded; return both counts and delta."""
    own, looks = models.fold, draw.random() < 0.2
    before = own.digest() if looks else ""
    own.begin()
    counts = engine.process([Record(value, ingest, n) for n, (ingest, value) in enumerate(batch)]).counts
    if draw.random() < 0.1:
        counts += engine.tick(draw.choice([1.0, DAY])).counts
    written = own.write()
    delta = b"" if written.empty else written.to_bytes()
    _ = list(engine.state.encode())
    engine.state.committed()
    if looks or draw.random() < 0.3:
        own.rollback()
        require(not looks or own.digest() == before, "an undone batch left something")
        own.fold(delta)
    else:
        own.keep()
    return counts, delta


def require(holds: bool, otherwise: str) -> None:
    """Raise where a promise is broken."""
    if not holds:
        raise BrokenPromiseError(otherwise)


def engine_of(settings: Settings, models: Models, reference: Reference) -> Engine:
    """An engine of one of two partitions."""
    config = settings.engine_config(partitions=2)
    return build_engine(settings, models, reference, config=config, codec=ROWS)


def copied(settings: Settings, models: Models) -> Models:
    """Models that begin with a snapshot of others."""
    fresh = build_models(settings)
    fresh.fold.restore({name: array.copy() for name, array in models.fold.snapshot().items()})
    return fresh


def answers(
    settings: Settings, reference: Reference, models: Models, events: list[tuple[float, bytes]]
) -> list[bytes]:
    """What a new partition says to events, undone after: caches of models show in it, and in no digest."""
    engine = engine_of(settings, models, reference)
    models.fold.begin()
    outputs = engine.process([Record(value, ingest, n) for n, (ingest, value) in enumerate(events)])
    models.fold.rollback()
    return [msgspec.json.encode(one) for one in (*outputs.recommendations, *outputs.decisions)]
