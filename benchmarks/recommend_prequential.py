"""Test-then-train recall of the recommendation models on real streams.

Protocol: events in global time order, ties keep the file order; the target must be unseen by the user, a
repeat is neither scored nor learned but counts for popularity; the full catalogue without the user's
consumed items is ranked; an unknown item is a miss, an unknown user is ranked by popularity; the first 10 %
are warm-up and not scored. Intervals: paired bootstrap by user, 500 draws.

    python benchmarks/recommend_prequential.py [--stream ml-100k|yoochoose] [--factors]

JSON on standard output. The data sets are found through NUDGE_DATA.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from online_models.cooccurrence import SequentialCooccurrence
from online_models.fold import ModelSet
from online_models.hybrid import MAX_HISTORY, OnlineBlend
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from online_models.base import FactorSource
    from online_models.hybrid import Slate

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("NUDGE_DATA", ROOT.parent / "shared" / "data"))
WARM_UP = 0.1
BATCH = 1000
SESSION_START_S = 86_400.0

Event = tuple[str, str, float]


def ml_100k() -> list[Event]:
    """Ratings of 4 and more as (user, item, time); 55,375 events."""
    with gzip.open(DATA / "ml-100k" / "ml-100k.inter.gz", "rt") as file:
        lines = csv.reader(file, delimiter="\t")
        next(lines)
        events = [(user, item, float(at)) for user, item, rating, at in lines if float(rating) >= 4.0]
    return sorted(events, key=lambda event: event[2])


def yoochoose() -> list[Event]:
    """Clicks of both files as (session, item, time); 83,846 events."""
    events = []
    for part in ("train_full", "test"):
        with gzip.open(DATA / "yoochoose-100k" / f"yoochoose-clicks-100k_{part}.txt.gz", "rt") as file:
            lines = csv.reader(file, delimiter="\t")
            next(lines)
            events += [(session, item, float(at)) for session, item, at in lines]
    return sorted(events, key=lambda event: event[2])


STREAMS = {"ml-100k": ml_100k, "yoochoose": yoochoose}


def source_ranks(slate: Slate, place: int, n_half_lives: int, n_each: int) -> Iterator[tuple[str, int]]:
    """Rank of a candidate in each list alone; co-occurrence continues with the 7-day popularity."""
    ranks = slate.features[:, : 3 + n_half_lives]
    yield "transition", int((ranks[:, 1] > ranks[place, 1]).sum()) if ranks[place, 1] > 0 else n_each
    for h in range(n_half_lives):
        column = ranks[:, 3 + h]
        yield f"popularity_{h}", int((column > column[place]).sum()) if column[place] > 0 else n_each
    sequence, popular = ranks[:, 0], ranks[:, 3 + min(2, n_half_lives - 1)]
    if sequence[place] > 0:
        yield "cooccurrence", int((sequence > sequence[place]).sum())
    elif popular[place] > 0:
        ahead = (sequence > 0) | (popular > popular[place])
        yield "cooccurrence", int(ahead.sum())
    else:
        yield "cooccurrence", n_each
    if ranks[:, 2].any():
        yield "factors", int((ranks[:, 2] > ranks[place, 2]).sum()) if ranks[place, 2] > 0 else n_each


def run(events: list[Event], *, factors: bool, max_rows: int) -> dict[str, Any]:
    """Play a stream through the blend; recalls of the blend and of each source alone."""
    vocabulary = Vocabulary(max_rows)
    popularity, cooccurrence = DecayedPopularity(vocabulary), SequentialCooccurrence(vocabulary)
    blend = OnlineBlend(vocabulary, popularity, cooccurrence, factor_source(vocabulary) if factors else None)
    models = ModelSet(blend.models, vocabulary)
    n_half_lives = len(popularity.half_lives_s)
    consumed: dict[str, set[str]] = defaultdict(set)
    histories: dict[str, list[str]] = defaultdict(list)
    last_event: dict[str, float] = {}
    memories: dict[str, bytes] = {}
    names = ["blend", "cooccurrence", "transition", *(f"popularity_{h}" for h in range(n_half_lives))]
    names += ["factors"] if factors else []
    ranks: dict[str, list[int]] = {name: [] for name in names}
    users: list[str] = []
    starts: list[bool] = []
    n_candidates = 0
    delta_bytes = 0
    warm_up = int(WARM_UP * len(events))
    began = time.perf_counter()
    models.begin()
    for n, (user, item, at) in enumerate(events):
        if n % BATCH == 0:
            delta_bytes += len(models.delta())
            models.keep()
            models.begin()
        seen, history = consumed[user], histories[user]
        repeat = item in seen
        gap_s = at - last_event[user] if user in last_event else None
        memory = memories.get(user, b"")
        if not repeat:
            slate = blend.propose(history, at, gap_s, seen, memory)
            n_candidates += len(slate)
            if n >= warm_up:
                place = slate.place_of(item)
                found = {} if place is None else dict(source_ranks(slate, place, n_half_lives, blend.n_each))
                rank = slate.rank_of(item)
                found["blend"] = blend.n_each if rank is None else rank
                for name in names:
                    ranks[name].append(found.get(name, blend.n_each))
                users.append(user)
                starts.append(gap_s is None or gap_s >= SESSION_START_S)
            blend.learn_one(slate, item)
        memories[user] = blend.observe(item, history, at, 1.0, repeat, memory, gap_s=gap_s)
        last_event[user] = at
        if not repeat:
            seen.add(item)
            history.insert(0, item)
            del history[MAX_HISTORY:]
    models.keep()
    elapsed = time.perf_counter() - began
    return {
        "events": len(events),
        "scored": len(users),
        "candidates_per_event": round(n_candidates / max(1, len(users)), 1),
        "delta_bytes_per_event": round(delta_bytes / len(events), 1),
        "us_per_event": round(elapsed / len(events) * 1e6, 1),
        **report({name: np.array(values) for name, values in ranks.items()}, np.array(starts), users),
        "weights": dict(zip(blend.feature_names, blend.weights[0].round(3).tolist(), strict=True)),
    }


def report(ranks: dict[str, np.ndarray], starts: np.ndarray, users: list[str]) -> dict[str, Any]:
    """Recalls overall and at session starts, and the blend's lead over the best single source."""
    recall = {
        name: {
            "r@10": round(float((values < 10).mean()), 4),
            "r@20": round(float((values < 20).mean()), 4),
            "mrr": round(float(np.where(values < 50, 1.0 / (1.0 + values), 0.0).mean()), 4),
            "session_start_r@10": round(float((values[starts] < 10).mean()), 4),
            "rest_r@10": round(float((values[~starts] < 10).mean()), 4),
        }
        for name, values in ranks.items()
    }
    single = max((name for name in ranks if name != "blend"), key=lambda name: recall[name]["r@10"])
    difference = (ranks["blend"] < 10).astype(float) - (ranks[single] < 10)
    codes = np.unique(users, return_inverse=True)[1]
    sums, counts = np.bincount(codes, difference), np.bincount(codes)
    generator = np.random.Generator(np.random.Philox(7))
    draws = generator.integers(0, len(counts), (500, len(counts)))
    leads = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    return {
        "recall": recall,
        "best_single": single,
        "lead": round(float(difference.mean()), 4),
        "lead_95": [round(float(bound), 4) for bound in np.quantile(leads, (0.025, 0.975))],
    }


def factor_source(vocabulary: Vocabulary) -> FactorSource:
    """The streaming factor model under its default settings."""
    from online_models.factorisation import StreamingIALS

    return StreamingIALS(vocabulary)


def main() -> None:
    """Run the asked streams and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stream", choices=sorted(STREAMS), action="append")
    parser.add_argument("--factors", action="store_true", help="add the factor model as a source")
    parser.add_argument("--max-rows", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true", help="the first 10,000 events of each stream")
    asked = parser.parse_args()
    limit = 10_000 if asked.quick else None
    results = {
        name: run(STREAMS[name]()[:limit], factors=asked.factors, max_rows=asked.max_rows)
        for name in asked.stream or sorted(STREAMS)
    }
    json.dump(
        {"benchmark": "recommend_prequential", "factors": asked.factors, "streams": results},
        sys.stdout,
        indent=1,
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
