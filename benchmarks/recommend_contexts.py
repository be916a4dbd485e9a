"""What else could select the ranker's weights or describe a candidate, tried side by side, test-then-train.

    python benchmarks/recommend_contexts.py [--stream NAME] [--quick] [--keep FILE] [--table FILE]

One blend learns a stream; rankers of their own order its candidates, each with one thing more than the
blend's: a row of weights that the weekday selects, a quarter of the day (UTC), the kind of the user's last
event, or gap and history's length together; or beside the item's price that of the user's five newest items
(difference of logarithms from their mean, and whether it is known). "a row for all" selects nothing: what a
row more costs by itself. "no beginnings" does without the features of what visits begin with. The candidates
are the same for all, so this shows what a feature is worth, and not what a source is.

Streams are those of `quality.py`: an event's products are taken one by one; the first tenth is not scored,
nor what a user has met in any event before.
Intervals: paired bootstrap by user, 1,000 draws, of the difference from "as it is".
JSON on standard output. `--keep` adds the results to a file and leaves out what that file has already;
`--table` also writes the table between the marks of a document.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from recommend_optional import compare  # type: ignore[import-not-found]

from benchmarks.jobs.public_data import QUICK, RECOMMENDATIONS, Stream
from benchmarks.jobs.results import keep, read_kept, write_between
from online_models.content import attribute_value
from online_models.hybrid import FIRST_SQUARES, MAX_HISTORY, OnlineBlend
from online_models.ranker_features import FIRST_EVENT, N_CONTEXTS
from schemas.codec import Rejected, decode
from schemas.reasons import EventKind
from stream.assembly import build_models
from stream.core.profiles import shows_interest
from stream.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from online_models.slate import Slate
    from schemas.events import Event

MARKS = "<!-- recommend_contexts.py -->", "<!-- end of recommend_contexts.py -->"
AS_IS = "as it is"
BATCH = 1000
WARM_UP = 0.1
KINDS = list(EventKind)
N_NEWEST = 5
FARTHEST = 3.0  # a price twenty times as high is as good as any higher one

ROWS: dict[str, Callable[[float, int, tuple[int, int]], int]] = {
    "a row for all": lambda _at, _kind, _context: 0,
    "weekday": lambda at, _kind, _context: int(at // 86_400.0) % 7,
    "quarter of the day": lambda at, _kind, _context: int(at % 86_400.0 // 21_600.0),
    "kind of the last event": lambda _at, kind, _context: kind,
    "gap with length": lambda _at, _kind, context: 7 * (context[0] - 1) + context[1] - 7,
}
N_ROWS = 42
PRICE, NO_BEGINNINGS = "price", "no beginnings"
VARIANTS = (AS_IS, NO_BEGINNINGS, *ROWS, PRICE)


class Ranker:
    """The blend's ranker in plain numpy, with rows of weights and features beside its own."""

    def __init__(self, blend: OnlineBlend, variant: str) -> None:
        self._row = ROWS.get(variant)
        self._priced = variant == PRICE
        dropped = "beginnings" if variant == NO_BEGINNINGS else "no such feature"
        names = [*blend.feature_names, "price", "price_known"]
        self._columns = [
            column
            for column, name in enumerate(names)
            if not name.startswith(dropped) and (self._priced or not name.startswith("price"))
        ]
        start = np.append(blend.weights[0], [0.0, 0.0])
        shape = N_CONTEXTS + N_ROWS, len(self._columns)
        self._weights, self._squares = np.zeros(shape), np.ones(shape)
        self._weights[0] = start[self._columns]
        self._squares[list(FIRST_EVENT)] = FIRST_SQUARES
        self._eta = blend.eta

    def step(
        self, features: NDArray[np.float64], context: tuple[int, int], at: float, kind: int, place: int
    ) -> int:
        """Rank of the candidate that was taken, then one AdaGrad step on the softmax loss."""
        rows = [0, *context, *([] if self._row is None else [N_CONTEXTS + self._row(at, kind, context)])]
        x = features[self._columns]
        scores = self._weights[rows].sum(axis=0) @ x
        rank = int((scores > scores[place]).sum())
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        shares[place] -= 1.0
        gradient = x @ shares
        self._squares[rows] += gradient**2
        self._weights[rows] -= self._eta * gradient / np.sqrt(self._squares[rows])
        return rank


@dataclass
class User:
    """What is known of one user."""

    history: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    last: float | None = None
    kind: int = 0
    memory: bytes = b""


class Prices:
    """The logarithm of what each item cost last."""

    def __init__(self) -> None:
        self.known: dict[str, float] = {}

    def beside(self, slate: Slate, history: list[str]) -> NDArray[np.float64]:
        """Difference of each candidate from the newest items' mean, and whether it is known."""
        found = np.zeros((2, len(slate)))
        own = [self.known[item] for item in history[:N_NEWEST] if item in self.known]
        if own:
            for item in slate.item_ids(len(slate)):
                place, price = slate.place_of(item), self.known.get(item)
                if place is not None and price is not None:
                    found[:, place] = np.clip(price - np.mean(own), -FARTHEST, FARTHEST), 1.0
        return found


def play(stream: Stream, events: list[Event]) -> dict[str, dict[str, Any]]:
    """Ranks of the targets by variant, and whose they are."""
    models = build_models(Settings())
    blend, prices = models.blend, Prices()
    rankers = {variant: Ranker(blend, variant) for variant in VARIANTS}
    users: defaultdict[str, User] = defaultdict(User)
    ranks: dict[str, list[int]] = {variant: [] for variant in VARIANTS}
    scored: list[str] = []
    models.fold.begin()
    for n, event in enumerate(events):
        if n % BATCH == 0:
            models.fold.keep()
            models.fold.begin()
        user, at = users[event.user], event.time
        gap_s = None if user.last is None else at - user.last
        for product in event.items if shows_interest(event) else ():
            item = str(product.product_id)
            repeat = item in user.taken
            if not repeat:
                slate = blend.propose(user.history, at, gap_s, user.taken, user.memory)
                place, counts = slate.place_of(item), event.name == stream.positive
                found = dict.fromkeys(VARIANTS, blend.n_each)
                if place is not None:
                    more = prices.beside(slate, user.history)
                    features = np.concatenate([slate.features.T.astype(np.float64), more])
                    for variant, ranker in rankers.items():
                        found[variant] = ranker.step(features, slate.context, at, user.kind, place)
                if counts and n >= WARM_UP * len(events):
                    scored.append(event.user)
                    for variant, rank in found.items():
                        ranks[variant].append(rank)
            category = product.category or event.properties.category
            values = [attribute_value("category", category)] if category else []
            user.memory = blend.observe(item, user.history, at, 1.0, repeat, user.memory, values, gap_s=gap_s)
            user.taken.add(item)
            user.history = [item, *(other for other in user.history if other != item)][:MAX_HISTORY]
            if product.price:
                prices.known[item] = math.log(max(float(product.price), 0.01))
        user.last, user.kind = at, 1 + KINDS.index(event.kind)
    models.fold.keep()
    return {
        variant: {"ranks": np.array(found), "users": scored, "us_per_event": 0.0}
        for variant, found in ranks.items()
    }


def read(stream: Stream, *, quick: bool) -> list[Event]:
    """The events of a stream by time."""
    lines = list(stream.lines())[: QUICK // 10 if quick else stream.limit]
    events = [event for line in lines if not isinstance(event := decode(line), Rejected)]
    return sorted(events, key=lambda event: event.time)


def table(streams: dict[str, dict[str, Any]]) -> str:
    """Recall as it is, and the gain of each variant."""
    lines = [
        "| R@10 | " + " | ".join(streams) + " |",
        "|---|" + "---|" * len(streams),
        f"| {AS_IS} | "
        + " | ".join(f"{found[AS_IS]['R@10']['value']:.4f}" for found in streams.values())
        + " |",
    ]
    for variant in VARIANTS[1:]:
        cells = []
        for found in streams.values():
            one = found[variant]["R@10"]
            low, high = one["more_95"]
            cells.append(f"{one['more']:+.4f} [{low:+.4f}, {high:+.4f}]")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the asked streams and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stream", choices=list(RECOMMENDATIONS), action="append")
    parser.add_argument("--quick", action="store_true", help="the first events of each stream")
    parser.add_argument("--keep", type=Path, help="file of results")
    parser.add_argument("--table", type=Path, help="document to write the table into")
    asked = parser.parse_args()
    streams: dict[str, dict[str, Any]] = read_kept(asked.keep)
    for name in asked.stream or RECOMMENDATIONS:
        if name in streams:
            continue
        stream = RECOMMENDATIONS[name]
        found = play(stream, read(stream, quick=asked.quick))
        streams[name] = {variant: compare(one, found[AS_IS]) for variant, one in found.items()}
        keep(asked.keep, streams)
    json.dump({"benchmark": "recommend_contexts", "streams": streams}, sys.stdout, indent=1)
    sys.stdout.write("\n")
    if asked.table is not None:
        write_between(asked.table, table(streams), MARKS)


if __name__ == "__main__":
    main()
