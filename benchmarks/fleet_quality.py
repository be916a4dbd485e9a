"""What it costs in quality that workers learn apart and exchange deltas now and then.

Users are shared out among simulated workers by a hash, each with models of its own. After so many events
each publishes what it learned, undoes it, and folds everybody's deltas in the order of the workers, as
batches with overlapping commits do. One worker is the sequential learner.

    python benchmarks/fleet_quality.py [--stream ml-100k|yoochoose|clicks|shoppers|offers]
        [--workers 1,4,16] [--every 1000,10000] [--own 1000] [--one-ranker] [--lag-alone] [--seeds N]
        [--quick] [--keep FILE] [--table FILE]

`every 1000` counts the events *of the fleet*, so with 16 workers each publishes after some 60 events of its
own. `--own` adds the harsher form, in which each publishes after so many events *of its own*, and the fleet
has had as many times more as it has workers.

- Recommendations: test-then-train recall@10 as in `recommend_prequential.py`, of the blend and of each source
  alone. `--one-ranker` adds a fleet that cannot be: its sources learn apart and its ranker does not, so it
  shows what the sources' lag costs the blend. `--lag-alone` adds another that cannot be: at each exchange
  every worker takes over what one worker knows that learned all events in sequence, so it lacks nothing but
  the others' events since. What it loses no rule of merging can bring back.
- Clicks: progressive log loss of the ratings of ML-100K, as in `click_prequential.py`; `shoppers` are Online
  Shoppers: few and dense features, whose sum of steps overshoots first.
- Offers: the share of the best offer's conversions that Thompson sampling gets, in the simulation of
  `offers_regret.py` with ten offers. Like the others without the first tenth, in which next to nothing is
  known, and also from the start.

Each fleet is run with several ways to share users out, which are averaged, and offers with several
simulations. Intervals (95 %) are of the change against one worker, by a paired bootstrap of 2,000 draws: of
users, of simulations for offers.

JSON on standard output. `--keep` adds the results to a file and leaves out fleets that it has already, so a
stopped run goes on; `--table` also writes a table between the marks of a document. The data sets are found
through NUDGE_DATA.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from click_prequential import EXAMPLES  # type: ignore[import-not-found]  # it stands beside this script
from numpy.typing import NDArray
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

from benchmarks.jobs.results import keep, read_kept, write_between
from online_models.bandits import ThompsonSampling
from online_models.base import Foldable
from online_models.click_rate import ClickRate
from online_models.cooccurrence import SequentialCooccurrence
from online_models.fold import ModelSet
from online_models.hybrid import MAX_HISTORY, OnlineBlend
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary

QUICK_EVENTS = 5000
OFFER_EVENTS = 20_000
OFFER_SEEDS = 8
MAX_ROWS = 20_000
BAR = 0.005  # of the quality of one worker, at an exchange every 1,000 events
N_DRAWS = 2000
MARKS = "<!-- fleet_quality.py -->", "<!-- end -->"
CLICKS = {"clicks": "ml-100k", "shoppers": "online-shoppers"}
SOURCES = ("blend", "cooccurrence", "factors")
LEAST = 1e-15  # probability
Measures = dict[str, NDArray[np.float64]]  # sums and what they are shares of, by user or seed: (2, n)


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


def catch_up(fleet: list[Worker], sequential: Worker) -> None:
    """Let everybody forget the batch and know what a worker knows that learned it all in sequence."""
    delta = sequential.publish()
    for worker in fleet:
        worker.models.rollback()
    for worker in (*fleet, sequential):
        worker.follow([delta])


def owner(name: str, n_workers: int, seed: int) -> int:
    """The worker of a user, by the hash of one of many ways to share users out."""
    return crc32(f"{seed}/{name}".encode()) % n_workers


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
    events: list[Event],
    n_workers: int,
    every: int,
    max_rows: int,
    seed: int,
    *,
    one_ranker: bool = False,
    lag_alone: bool = False,
) -> Measures:
    """Recall@10 of a fleet's blend and of each source alone, by user."""
    fleet, found = blends(n_workers, max_rows, one_ranker=one_ranker)
    (sequential,), (in_sequence,) = blends(1, max_rows, one_ranker=False)
    consumed: dict[str, set[str]] = defaultdict(set)
    histories: dict[str, list[str]] = defaultdict(list)
    last_event: dict[str, float] = {}
    memories: dict[str, bytes] = {}
    memories_in_sequence: dict[str, bytes] = {}
    hits: dict[str, list[bool]] = {name: [] for name in SOURCES}
    users: list[str] = []
    for n, (user, item, at) in enumerate(events):
        if n % every == 0 and lag_alone:
            catch_up(fleet, sequential)
            memories = dict(memories_in_sequence)
        elif n % every == 0 and n_workers > 1:
            exchange(fleet)
        blend = found[owner(user, n_workers, seed)]
        seen, history, memory = consumed[user], histories[user], memories.get(user, b"")
        repeat = item in seen
        gap_s = at - last_event[user] if user in last_event else None
        if not repeat:
            slate = blend.propose(history, at, gap_s, seen, memory)
            if n >= WARM_UP * len(events):
                place = slate.place_of(item)
                n_half_lives = len(blend.popularity.half_lives_s)
                ranks = {} if place is None else dict(source_ranks(slate, place, n_half_lives, blend.n_each))
                rank = slate.rank_of(item)
                ranks["blend"] = blend.n_each if rank is None else rank
                for name in SOURCES:
                    hits[name].append(ranks.get(name, blend.n_each) < 10)
                users.append(user)
            blend.learn_one(slate, item)
        memories[user] = blend.observe(item, history, at, 1.0, repeat, memory, gap_s=gap_s)
        if lag_alone:
            memory = memories_in_sequence.get(user, b"")
            if not repeat:
                in_sequence.learn_one(in_sequence.propose(history, at, gap_s, seen, memory), item)
            memories_in_sequence[user] = in_sequence.observe(
                item, history, at, 1.0, repeat, memory, gap_s=gap_s
            )
        last_event[user] = at
        if not repeat:
            seen.add(item)
            history.insert(0, item)
            del history[MAX_HISTORY:]
    return {f"{name}.recall_at_10": by_group(users, np.array(hit, float)) for name, hit in hits.items()}


def clicks(examples: str, n_events: int | None, n_workers: int, every: int, seed: int) -> Measures:
    """Progressive log loss of a fleet's click model, by user."""
    models = [ClickRate() for _ in range(n_workers)]
    fleet = [Worker([model], Vocabulary(1)) for model in models]
    users: list[str] = []
    losses: list[float] = []
    for n, (user, texts, y) in enumerate(EXAMPLES[examples]()):
        if n == n_events:
            break
        if n % every == 0 and n_workers > 1:
            exchange(fleet)
        model = models[owner(user, n_workers, seed)]
        p = min(max(model.learn_one(model.hasher.encode_texts(texts), y), LEAST), 1.0 - LEAST)
        users.append(user)
        losses.append(-math.log(p if y else 1.0 - p))
    return {"click_rate.log_loss": by_group(users, np.array(losses))}


def offers(n_events: int, n_workers: int, every: int, seed: int) -> Measures:
    """Conversions that a fleet's bandit expects of its choices, beside those of the best offers."""
    rng = np.random.default_rng(seed)
    true = np.c_[rng.normal(-3.2, 0.4, N_OFFERS), rng.normal(0.0, 0.6, (N_OFFERS, N_FEATURES - 1))]
    contexts = np.c_[np.ones(n_events), rng.normal(size=(n_events, N_FEATURES - 1))]
    chances = 1.0 / (1.0 + np.exp(-contexts @ true.T))
    converts = rng.random((n_events, N_OFFERS)) < chances
    models = [ThompsonSampling(N_FEATURES) for _ in range(n_workers)]
    fleet = [Worker([model], Vocabulary(1)) for model in models]
    got = np.empty(n_events)
    for n, x in enumerate(contexts):
        if n % every == 0 and n_workers > 1:
            exchange(fleet)
        model, at = models[owner(str(n), n_workers, seed)], n * STEP_S
        choice = model.choose(OFFERS, x, ONES, ZEROS, seed=seed, decision_id=f"d{n}", at=at)
        offer = OFFERS.index(choice.offer)
        got[n] = chances[n, offer]
        model.learn_one(choice.offer, x, float(converts[n, offer]), at=at)
    best = chances.max(axis=1)
    scored = slice(int(WARM_UP * n_events), None)
    return {
        "offers.share_of_best": np.array([[got[scored].sum()], [best[scored].sum()]]),
        "offers.share_of_best_from_the_start": np.array([[got.sum()], [best.sum()]]),
    }


def by_group(names: list[str], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums and numbers of the values of each name, sorted by name; shape ``(2, n_names)``."""
    codes = np.unique(names, return_inverse=True)[1]
    return np.array([np.bincount(codes, values), np.bincount(codes)])


@dataclass(frozen=True)
class Fleet:
    """How many workers exchange how often.

    Attributes
    ----------
    every : int
        Events of the fleet between two exchanges; of each worker with ``own``.
    one_ranker : bool
        Whether one ranker learns everything at once.
    lag_alone : bool
        Whether every exchange leaves the workers with what one worker knows.
    """

    workers: int
    every: int
    own: bool = False
    one_ranker: bool = False
    lag_alone: bool = False

    @property
    def kind(self) -> str:
        """What sets a fleet apart that cannot be; nothing for others."""
        return ", one ranker" * self.one_ranker + ", lag alone" * self.lag_alone

    @property
    def span(self) -> int:
        """Events of the fleet between two exchanges."""
        return self.every * self.workers if self.own else self.every

    def play(self, stream: str, seed: int, n_events: int | None) -> Measures:
        """Run a stream, or the first events of it."""
        if stream in CLICKS:
            return clicks(CLICKS[stream], n_events, self.workers, self.span, seed)
        if stream == "offers":
            return offers(n_events or OFFER_EVENTS, self.workers, self.span, seed)
        events = STREAMS[stream]()[:n_events]
        return recommend(
            events,
            self.workers,
            self.span,
            MAX_ROWS,
            seed,
            one_ranker=self.one_ranker,
            lag_alone=self.lag_alone,
        )

    def measure(self, stream: str, n_seeds: int, n_events: int | None) -> Measures:
        """All seeds: a simulation each for offers; other ways to share the same users out are averaged."""
        drawn = stream == "offers"
        seeds = range(n_seeds if drawn or self.workers > 1 else 1)
        runs = [self.play(stream, seed, n_events) for seed in seeds]
        join = np.hstack if drawn else (lambda parts: np.mean(parts, axis=0))
        return {name: join([run[name] for run in runs]) for name in runs[0]}


def fleets(
    workers: list[int], every: list[int], *, own: list[int], one_ranker: bool, lag_alone: bool, stream: str
) -> list[Fleet]:
    """One worker, and every other number of them with every span between exchanges."""
    found = [Fleet(1, 1)]
    for n in workers:
        if n == 1:
            continue
        for span in every:
            found.append(Fleet(n, span))
            if one_ranker and stream in STREAMS:
                found.append(Fleet(n, span, one_ranker=True))
            if lag_alone and stream in STREAMS:
                found.append(Fleet(n, span, lag_alone=True))
        found += [Fleet(n, span, own=True) for span in own]
    return found


def beside_one(name: str, sums: NDArray[np.float64], one: NDArray[np.float64]) -> dict[str, Any]:
    """A measure, and by which share of one worker's it is worse, with an interval."""
    sign = -1.0 if name.endswith("log_loss") else 1.0

    def worse_by(total: NDArray[np.float64], of_one: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(sign * (1.0 - (total[0] / total[1]) / (of_one[0] / of_one[1])))

    n_groups = sums.shape[1]
    draws = np.random.Generator(np.random.Philox(7)).integers(0, n_groups, (N_DRAWS, n_groups))
    bounds = np.quantile(worse_by(sums[:, draws].sum(axis=2), one[:, draws].sum(axis=2)), (0.025, 0.975))
    totals, of_one = sums.sum(axis=1), one.sum(axis=1)
    return {
        "value": round(float(totals[0] / totals[1]), 5),
        "worse_by": round(float(worse_by(totals, of_one)), 5),
        "worse_by_95": [round(float(bound), 5) for bound in bounds],
    }


def verdict(measure: dict[str, Any]) -> str:
    """Where a fleet stands to the bar: the interval decides, or leaves it open."""
    low, high = measure["worse_by_95"]
    if high <= BAR:
        return "within"
    return "beyond" if low > BAR else "within noise of it"


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """A table for each stream: measures of all fleets, and how they differ from one worker's."""
    lines: list[str] = []
    for stream, found in results.items():
        names = list(found[0]["measures"])
        lines += [
            f"**{stream}**",
            "",
            "| workers | exchange every | " + " | ".join(names) + " |",
            "|---|---|" + "---|" * len(names),
        ]
        for one in found:
            fleet = Fleet(**{field.name: one[field.name] for field in fields(Fleet)})
            when = f"{fleet.every}{' of its own' * fleet.own}" if fleet.workers > 1 else ""
            cells = [f"{fleet.workers}{fleet.kind}", when]
            for name in names:
                measure = one["measures"][name]
                low, high = measure["worse_by_95"]
                change = f" ({-measure['worse_by']:+.2%}; {-high:+.2%}, {-low:+.2%})"
                cells.append(f"{measure['value']:.4f}" + (change if when else ""))
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def numbers(text: str) -> list[int]:
    """Read numbers between commas."""
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    """Run all fleets and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stream", choices=[*sorted(STREAMS), *CLICKS, "offers"], action="append")
    parser.add_argument("--workers", type=numbers, default=[1, 4, 16])
    parser.add_argument("--every", type=numbers, default=[1000, 10_000], help="events of the fleet")
    parser.add_argument("--own", type=numbers, default=[], help="events of each worker")
    parser.add_argument(
        "--seeds", type=int, default=1, help="ways to share users out; of offers 8 times more"
    )
    parser.add_argument("--one-ranker", action="store_true")
    parser.add_argument("--lag-alone", action="store_true")
    parser.add_argument("--quick", action="store_true", help="5,000 events, one and four workers")
    parser.add_argument("--keep", type=Path, help="file of results")
    parser.add_argument("--table", type=Path, help="document to write the table into")
    asked = parser.parse_args()
    limit = QUICK_EVENTS if asked.quick else None
    if asked.quick:
        asked.workers, asked.every = [1, 4], [1000]
    results: dict[str, list[dict[str, Any]]] = read_kept(asked.keep)
    for stream in asked.stream or ["ml-100k", *CLICKS, "offers"]:
        found = results.setdefault(stream, [])
        n_seeds = asked.seeds * (OFFER_SEEDS if stream == "offers" and not asked.quick else 1)
        alone: Measures = {}
        for fleet in fleets(
            asked.workers,
            asked.every,
            own=asked.own,
            one_ranker=asked.one_ranker,
            lag_alone=asked.lag_alone,
            stream=stream,
        ):
            if any(asdict(fleet).items() <= one.items() for one in found):
                continue
            alone = alone or Fleet(1, 1).measure(stream, n_seeds, limit)
            measures = alone if fleet.workers == 1 else fleet.measure(stream, n_seeds, limit)
            beside = {name: beside_one(name, sums, alone[name]) for name, sums in measures.items()}
            found.append({**asdict(fleet), "seeds": n_seeds, "measures": beside})
            print(stream, found[-1], file=sys.stderr, flush=True)
            keep(asked.keep, results)
        found.sort(
            key=lambda one: (one["workers"], one["own"], one["every"], one["one_ranker"], one["lag_alone"])
        )
    verdicts = {
        f"{stream}.{measure}, {one['workers']} workers": verdict(value)
        for stream, found in results.items()
        for one in found
        if one["workers"] > 1
        and one["every"] == 1000
        and not (one["own"] or one["one_ranker"] or one["lag_alone"])
        for measure, value in one["measures"].items()
    }
    told = {
        "benchmark": "fleet_quality",
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "half_a_percent_at_1000": verdicts,
        "streams": results,
    }
    json.dump(told, sys.stdout, indent=1)
    sys.stdout.write("\n")
    if asked.table is not None:
        write_between(asked.table, table(results), MARKS)


if __name__ == "__main__":
    main()
