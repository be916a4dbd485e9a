"""What each optional source of the blend gains, test-then-train, beside the blend without it.

    python benchmarks/recommend_optional.py [--stream ml-100k|yoochoose] [--source NAME]
        [--events N] [--quick] [--keep FILE] [--table FILE]

Protocol as in `recommend_prequential.py`, with the factor model. Intervals: paired bootstrap by user, 1,000
draws, of the difference from the blend without optional sources. The segments of ML-100K are what its file
of users says: gender, occupation and the decade of the age. Sessions of yoochoose say nothing of who they
are, so there is nothing to measure popularity within segments on. Microseconds are of the whole event,
compiling too, and differ with what else the machine does; neighbours of users take milliseconds. The table
in the documents is of all events of ML-100K (`--events 60000`) and of 30,000 of yoochoose.

JSON on standard output. `--keep` adds the results to a file and leaves out what that file has already;
`--table` also writes a table between the marks of a document. The data sets are found through NUDGE_DATA.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from recommend_prequential import (  # type: ignore[import-not-found]
    DATA,
    STREAMS,
    WARM_UP,
    Event,
    factor_source,
)

from benchmarks.jobs.results import keep, read_kept, write_between
from online_models.cooccurrence import SequentialCooccurrence
from online_models.fold import ModelSet
from online_models.hybrid import MAX_HISTORY, OnlineBlend
from online_models.neighbourhood import ItemNeighbours, UserNeighbours
from online_models.optional_source import Asker
from online_models.popularity import DecayedPopularity
from online_models.segment_popularity import SegmentPopularity
from online_models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from online_models.optional_source import OptionalSource

MAX_ROWS = 40_000
BATCH = 1000
N_DRAWS = 1000
MARKS = "<!-- recommend_optional.py -->", "<!-- end of recommend_optional.py -->"
NONE = "none"
SOURCES: dict[str, Callable[[Vocabulary], list[OptionalSource]]] = {
    NONE: lambda _: [],
    "item neighbours, cosine": lambda vocabulary: [ItemNeighbours(vocabulary, "cosine")],
    "item neighbours, euclidean": lambda vocabulary: [ItemNeighbours(vocabulary, "euclidean")],
    "user neighbours, cosine": lambda vocabulary: [UserNeighbours(vocabulary, "cosine")],
    "user neighbours, euclidean": lambda vocabulary: [UserNeighbours(vocabulary, "euclidean")],
    "segment popularity": lambda vocabulary: [SegmentPopularity(vocabulary)],
}


def segments() -> dict[str, tuple[str, ...]]:
    """What the file of ML-100K's users says of each."""
    with (DATA / "ml-100k" / "ml-100k.user").open(encoding="utf-8") as file:
        rows = csv.reader(file, delimiter="\t")
        next(rows)
        return {user: (f"age{age[:-1]}0", gender, work) for user, age, gender, work, _ in rows}


def run(events: list[Event], source: str, members: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Ranks of the targets, whose they are, and microseconds an event."""
    vocabulary = Vocabulary(MAX_ROWS)
    blend = OnlineBlend(
        vocabulary,
        DecayedPopularity(vocabulary),
        SequentialCooccurrence(vocabulary),
        factor_source(vocabulary),
        optional=SOURCES[source](vocabulary),
    )
    models = ModelSet(blend.models, vocabulary)
    consumed: dict[str, set[str]] = defaultdict(set)
    histories: dict[str, list[str]] = defaultdict(list)
    last_event: dict[str, float] = {}
    memories: dict[str, bytes] = {}
    ranks: list[int] = []
    users: list[str] = []
    began = time.perf_counter()
    models.begin()
    for n, (user, item, at) in enumerate(events):
        if n % BATCH == 0:
            models.keep()
            models.begin()
        seen, history, asker = consumed[user], histories[user], Asker(user, members.get(user, ()))
        repeat = item in seen
        gap_s = at - last_event[user] if user in last_event else None
        memory = memories.get(user, b"")
        if not repeat:
            slate = blend.propose(history, at, gap_s, seen, memory, asker=asker)
            if n >= WARM_UP * len(events):
                rank = slate.rank_of(item)
                ranks.append(blend.n_each if rank is None else rank)
                users.append(user)
            blend.learn_one(slate, item)
        memories[user] = blend.observe(item, history, at, 1.0, repeat, memory, asker=asker, gap_s=gap_s)
        last_event[user] = at
        if not repeat:
            seen.add(item)
            history.insert(0, item)
            del history[MAX_HISTORY:]
    models.keep()
    elapsed = time.perf_counter() - began
    return {"ranks": np.array(ranks), "users": users, "us_per_event": round(elapsed / len(events) * 1e6, 1)}


def gains(ranks: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """What each target earns by its rank, 0 for the first."""
    return {
        "R@10": (ranks < 10).astype(np.float64),
        "R@20": (ranks < 20).astype(np.float64),
        "NDCG@10": np.where(ranks < 10, 1.0 / np.log2(ranks + 2.0), 0.0),
    }


def compare(found: dict[str, Any], without: dict[str, Any]) -> dict[str, Any]:
    """Each measure, and its difference from the blend without the source with a 95 % interval."""
    codes = np.unique(found["users"], return_inverse=True)[1]
    counts = np.bincount(codes)
    draws = np.random.Generator(np.random.Philox(7)).integers(0, len(counts), (N_DRAWS, len(counts)))
    told: dict[str, Any] = {"us_per_event": found["us_per_event"]}
    base = gains(without["ranks"])
    for name, values in gains(found["ranks"]).items():
        sums = np.bincount(codes, values - base[name])
        drawn = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
        told[name] = {
            "value": round(float(values.mean()), 4),
            "more": round(float((values - base[name]).mean()), 4),
            "more_95": [round(float(bound), 4) for bound in np.quantile(drawn, (0.025, 0.975))],
        }
    return told


def table(streams: dict[str, dict[str, Any]]) -> str:
    """Recall and gain of each source."""
    lines = [
        "| optional source | "
        + " | ".join(f"R@10, {name} | gain, 95 % | R@20 | NDCG@10" for name in streams)
        + " |",
        "|---|" + "---|---|---|---|" * len(streams),
    ]
    for source in SOURCES:
        cells = []
        for found in streams.values():
            one = found.get(source)
            if one is None:
                cells.append(" | | | ")
                continue
            low, high = one["R@10"]["more_95"]
            gain = "" if source == NONE else f"{one['R@10']['more']:+.4f} [{low:+.4f}, {high:+.4f}]"
            first, *others = (f"{one[name]['value']:.4f}" for name in ("R@10", "R@20", "NDCG@10"))
            cells.append(" | ".join([first, gain, *others]))
        lines.append(f"| {source} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the asked sources on the asked streams and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stream", choices=sorted(STREAMS), action="append")
    parser.add_argument("--source", choices=list(SOURCES), action="append")
    parser.add_argument("--events", type=int, default=10_000, help="of each stream, the first ones")
    parser.add_argument("--quick", action="store_true", help="the first 5,000 events of each stream")
    parser.add_argument("--keep", type=Path, help="file of results")
    parser.add_argument("--table", type=Path, help="document to write the table into")
    asked = parser.parse_args()
    streams: dict[str, dict[str, Any]] = read_kept(asked.keep)
    for name in asked.stream or sorted(STREAMS):
        events = STREAMS[name]()[: 5000 if asked.quick else asked.events]
        members = segments() if name == "ml-100k" else {}
        results = streams.setdefault(f"{name}, {len(events):,} events", {})
        wanted = [source for source in asked.source or SOURCES if source not in results]
        without = run(events, NONE, members) if wanted else {}
        for source in wanted:
            if source == "segment popularity" and not members:
                continue
            found = without if source == NONE else run(events, source, members)
            results[source] = compare(found, without)
            print(name, source, results[source], file=sys.stderr, flush=True)
            keep(asked.keep, streams)
    json.dump({"benchmark": "recommend_optional", "streams": streams}, sys.stdout, indent=1)
    sys.stdout.write("\n")
    if asked.table is not None:
        write_between(asked.table, table(streams), MARKS)


if __name__ == "__main__":
    main()
