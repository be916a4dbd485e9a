"""What it costs in quality that workers learn apart and exchange deltas now and then.

Users are shared out among simulated workers by a hash, each with models of its own. After so many events of
the fleet each publishes what it learned, undoes it, and folds everybody's deltas in the order of the workers,
as batches with overlapping commits do. One worker is the sequential learner.

    python benchmarks/fleet_quality.py [--workers 1,4,16] [--every 1000,10000] [--quick] [--table FILE]

- Recommendations: test-then-train recall@10 as in `recommend_prequential.py`, of the blend and of each source
  alone. `one ranker` is a fleet that cannot be: its sources learn apart and its ranker does not, so it shows
  what the sources' lag costs the blend.
- Clicks: progressive log loss of the ratings of ML-100K, as in `click_prequential.py`.
- Offers: the share of the best offer's conversions that Thompson sampling gets, in the simulation of
  `offers_regret.py` with ten offers.

JSON on standard output; `--table` also writes a table between the marks of a document. The data sets are
found through NUDGE_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from click_prequential import EXAMPLES  # type: ignore[import-not-found]  # it stands beside this script
from offers_regret import (  # type: ignore[import-not-found]
    N_FEATURES,
    N_OFFERS,
    OFFERS,
    ONES,
    STEP_S,
    ZEROS,
)
from recommend_prequential import (  # type: ignore[import-not-found]
    STREAMS,
    WARM_UP,
    Event,
    factor_source,
    source_ranks,
)

from online_models.bandits import ThompsonSampling
from online_models.base import Foldable
from online_models.click_rate import ClickRate
from online_models.cooccurrence import SequentialCooccurrence
from online_models.fold import ModelSet
from online_models.hybrid import MAX_HISTORY, OnlineBlend
from online_models.metrics import ClickMetrics
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary

QUICK_EVENTS = 5000
BAR = 0.005  # of the quality of one worker, at an exchange every 1,000 events
BEGIN, END = "<!-- fleet_quality.py -->", "<!-- end -->"
SOURCES = ("blend", "cooccurrence", "factors")
Measures = dict[str, float]


class Worker:
    """Models of one worker, with a batch open."""

    def __init__(self, models: Iterable[Foldable], vocabulary: Vocabulary) -> None:
        self.models = ModelSet([*models], vocabulary)
        self.models.begin()

    def publish(self) -> bytes:
        """Return what the open batch taught, and undo it."""
        delta = self.models.delta()
        self.models.rollback()
        return delta

    def follow(self, deltas: list[bytes]) -> None:
        """Fold everybody's deltas and open the next batch."""
        for delta in deltas:
            self.models.fold(delta)
        self.models.begin()


def exchange(fleet: list[Worker]) -> None:
    """Let everybody know what everybody learned; one worker goes on, for that changes nothing."""
    deltas = [worker.publish() for worker in fleet]
    for worker in fleet:
        worker.follow(deltas)


def owner(user: str, n_workers: int) -> int:
    """The worker of a user."""
    return crc32(user.encode()) % n_workers


def blends(n_workers: int, max_rows: int, *, one_ranker: bool) -> tuple[list[Worker], list[OnlineBlend]]:
    """Workers with the recommendation models; rankers may share their weights."""
    fleet: list[Worker] = []
    found: list[OnlineBlend] = []
    for _ in range(n_workers):
        vocabulary = Vocabulary(max_rows)
        sources = DecayedPopularity(vocabulary), SequentialCooccurrence(vocabulary)
        blend = OnlineBlend(vocabulary, *sources, factor_source(vocabulary))
        if one_ranker and found:
            first = found[0]
            read = blend._read  # noqa: SLF001  no worker could do this
            blend._read = tuple(first.weights if one is blend.weights else one for one in read)  # noqa: SLF001
            blend.learn_one = first.learn_one  # type: ignore[method-assign]
        found.append(blend)
        fleet.append(Worker(blend.models, vocabulary))
    return fleet, found


def recommend(
    events: list[Event], n_workers: int, every: int, max_rows: int, *, one_ranker: bool = False
) -> Measures:
    """Recall@10 of a fleet's blend and of each source alone."""
    fleet, found = blends(n_workers, max_rows, one_ranker=one_ranker)
    consumed: dict[str, set[str]] = defaultdict(set)
    histories: dict[str, list[str]] = defaultdict(list)
    last_event: dict[str, float] = {}
    memories: dict[str, bytes] = {}
    hits: dict[str, list[bool]] = {name: [] for name in SOURCES}
    for n, (user, item, at) in enumerate(events):
        if n % every == 0 and n_workers > 1:
            exchange(fleet)
        blend = found[owner(user, n_workers)]
        seen, history, memory = consumed[user], histories[user], memories.get(user, b"")
        repeat = item in seen
        if not repeat:
            slate = blend.propose(history, at, at - last_event.get(user, at), seen, memory)
            if n >= WARM_UP * len(events):
                place = slate.place_of(item)
                n_half_lives = len(blend.popularity.half_lives_s)
                ranks = {} if place is None else dict(source_ranks(slate, place, n_half_lives, blend.n_each))
                rank = slate.rank_of(item)
                ranks["blend"] = blend.n_each if rank is None else rank
                for name in SOURCES:
                    hits[name].append(ranks.get(name, blend.n_each) < 10)
            blend.learn_one(slate, item)
        memories[user] = blend.observe(item, history, at, 1.0, repeat, memory)
        last_event[user] = at
        if not repeat:
            seen.add(item)
            history.insert(0, item)
            del history[MAX_HISTORY:]
    return {f"{name}.recall_at_10": float(np.mean(hit)) for name, hit in hits.items()}


def clicks(n_events: int | None, n_workers: int, every: int) -> Measures:
    """Progressive log loss of a fleet's click model."""
    models = [ClickRate() for _ in range(n_workers)]
    fleet = [Worker([model], Vocabulary(1)) for model in models]
    metrics = ClickMetrics()
    for n, (user, texts, y) in enumerate(EXAMPLES["ml-100k"]()):
        if n == n_events:
            break
        if n % every == 0 and n_workers > 1:
            exchange(fleet)
        model = models[owner(user, n_workers)]
        metrics.update(y, model.learn_one(model.hasher.encode_texts(texts), y))
    return {"click_rate.log_loss": metrics.get()}


def offers(n_events: int, n_workers: int, every: int, n_seeds: int) -> Measures:
    """Conversions that a fleet's bandit expects of its choices, over those of the best offers."""
    shares = []
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        true = np.c_[rng.normal(-3.2, 0.4, N_OFFERS), rng.normal(0.0, 0.6, (N_OFFERS, N_FEATURES - 1))]
        contexts = np.c_[np.ones(n_events), rng.normal(size=(n_events, N_FEATURES - 1))]
        chances = 1.0 / (1.0 + np.exp(-contexts @ true.T))
        converts = rng.random((n_events, N_OFFERS)) < chances
        models = [ThompsonSampling(N_FEATURES) for _ in range(n_workers)]
        fleet = [Worker([model], Vocabulary(1)) for model in models]
        got = 0.0
        for n, x in enumerate(contexts):
            if n % every == 0 and n_workers > 1:
                exchange(fleet)
            model, at = models[owner(str(n), n_workers)], n * STEP_S
            choice = model.choose(OFFERS, x, ONES, ZEROS, seed=seed, decision_id=f"d{n}", at=at)
            offer = OFFERS.index(choice.offer)
            got += float(chances[n, offer])
            model.learn_one(choice.offer, x, float(converts[n, offer]), at=at)
        shares.append(got / float(chances.max(axis=1).sum()))
    return {"offers.share_of_best": float(np.mean(shares))}


def fleets(workers: list[int], every: list[int]) -> list[tuple[int, int]]:
    """One worker, and every other number of them with every span between exchanges."""
    return [(1, every[0]), *((n, span) for n in workers if n > 1 for span in every)]


def beside_one(results: list[dict[str, Any]]) -> None:
    """Add by how much each fleet is worse than one worker, as a share of that one's measure."""
    one = results[0]["measures"]
    for result in results:
        result["worse_by"] = {
            name: round((one[name] - value) / one[name] * (-1.0 if name.endswith("log_loss") else 1.0), 5)
            for name, value in result["measures"].items()
        }


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Measures of all fleets, and how much worse they are than one worker."""
    columns = [(stream, name) for stream, fleet in results.items() for name in fleet[0]["measures"]]
    lines = [
        "| workers | exchange every | " + " | ".join(f"{name}, {stream}" for stream, name in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    rows: dict[tuple[Any, ...], dict[tuple[str, str], str]] = defaultdict(dict)
    for stream, fleet in results.items():
        for one in fleet:
            who = f"{one['workers']}{', one ranker' if one['one_ranker'] else ''}"
            for name, value in one["measures"].items():
                worse = one["worse_by"][name]
                text = f"{value:.4f}" + (f" ({-worse:+.2%})" if one["workers"] > 1 else "")
                rows[who, one["every"] if one["workers"] > 1 else ""][stream, name] = text
    for (who, span), cells in rows.items():
        lines.append(f"| {who} | {span} | " + " | ".join(cells.get(column, "") for column in columns) + " |")
    return "\n".join(lines) + "\n"


def write_between(path: Path, text: str) -> None:
    """Put a text between the marks of a document."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


def numbers(text: str) -> list[int]:
    """Read numbers between commas."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Run all fleets and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stream", choices=[*sorted(STREAMS), "clicks", "offers"], action="append")
    parser.add_argument("--workers", type=numbers, default=[1, 4, 16])
    parser.add_argument("--every", type=numbers, default=[1000, 10_000])
    parser.add_argument("--max-rows", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="5,000 events, one and four workers")
    parser.add_argument("--table", type=Path, help="document to write the table into")
    asked = parser.parse_args()
    limit = QUICK_EVENTS if asked.quick else None
    if asked.quick:
        asked.workers, asked.every = [1, 4], [1000]
    results: dict[str, list[dict[str, Any]]] = {}
    for name in asked.stream or ["ml-100k", "clicks", "offers"]:
        events = STREAMS[name]()[:limit] if name in STREAMS else []
        found = results[name] = []
        for n_workers, every in fleets(asked.workers, asked.every):
            for one_ranker in (False, True) if name in STREAMS and n_workers > 1 else (False,):
                if name == "clicks":
                    measures = clicks(limit, n_workers, every)
                elif name == "offers":
                    measures = offers(limit or 20_000, n_workers, every, 1 if asked.quick else 2)
                else:
                    measures = recommend(events, n_workers, every, asked.max_rows, one_ranker=one_ranker)
                measures = {key: round(value, 5) for key, value in measures.items()}
                found.append(
                    {"workers": n_workers, "every": every, "one_ranker": one_ranker, "measures": measures}
                )
                print(name, found[-1], file=sys.stderr, flush=True)
        beside_one(found)
    within = {
        f"{name}.{measure}": max(
            one["worse_by"][measure] for one in found if one["every"] <= 1000 and not one["one_ranker"]
        )
        <= BAR
        for name, found in results.items()
        for measure in found[0]["measures"]
    }
    told = {
        "benchmark": "fleet_quality",
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "within_half_a_percent_at_1000": within,
        "streams": results,
    }
    json.dump(told, sys.stdout, indent=1)
    sys.stdout.write("\n")
    if asked.table is not None:
        write_between(asked.table, table(results))


if __name__ == "__main__":
    main()
