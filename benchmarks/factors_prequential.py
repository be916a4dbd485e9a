"""Recall of the factor model alone, test-then-train over the full catalogue; JSON on stdout.

    python benchmarks/factors_prequential.py [--stream ml-100k|yoochoose] [--factors K] [--limit N] [--quick]

Protocol: the target must be new to the user, consumed items are excluded, an unknown user is ranked by
popularity and counts, the first 10 % of the events are not scored, ties in time keep the file's order.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import time
from pathlib import Path

import numpy as np

from online_models.factorisation import StreamingIALS
from online_models.metrics import RankingMetrics
from online_models.vocabulary import Vocabulary

DATA = Path(os.environ.get("NUDGE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
RING = 64
BATCH = 500


def ml100k() -> list[tuple[float, str, str]]:
    """Time, user and item of every rating of 4 stars or more, by time."""
    with gzip.open(DATA / "ml-100k" / "ml-100k.inter.gz", "rt", encoding="utf-8") as lines:
        next(lines)
        rows = [line.split("\t") for line in lines]
    return sorted(
        ((float(at), user, item) for user, item, stars, at in rows if float(stars) >= 4.0),
        key=lambda event: event[0],
    )


def yoochoose() -> list[tuple[float, str, str]]:
    """Time, session and item of every click, by time."""
    events = []
    for path in sorted((DATA / "yoochoose-100k").glob("*.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                session, item, at = line.rstrip("\n").split("\t")
                if session != "SessionId":
                    events.append((float(at), session, item))
    return sorted(events, key=lambda event: event[0])


def run(events: list[tuple[float, str, str]], n_factors: int, **settings: float) -> dict[str, float]:
    """Score and learn every event; the metrics."""
    vocabulary = Vocabulary(max_rows=2**16)
    model = StreamingIALS(vocabulary, n_factors, ring=RING, **settings)  # type: ignore[arg-type]
    metrics = RankingMetrics()
    histories: dict[str, list[int]] = {}
    consumed: dict[str, set[int]] = {}
    memories: dict[str, bytes] = {}
    counts: dict[int, int] = {}
    learning = 0.0
    n_learned = 0
    vocabulary.begin()
    model.begin()
    for n, (at, user, item) in enumerate(events):
        history = histories.setdefault(user, [])
        seen = consumed.setdefault(user, set())
        row = vocabulary.row(item)
        if row in seen:
            counts[row] += 1
            continue
        rows = np.array(history, np.int32)
        if 10 * n >= len(events):
            p = model.user_vector(rows, b"")
            excluded = np.array([*seen], np.int32)
            if p is None:
                ranked = sorted(
                    (one for one in counts if one not in seen), key=lambda one: (-counts[one], one)
                )[:20]
            else:
                ranked = model.retrieve(p, excluded, 20).tolist()
            metrics.update(ranked.index(row) if row in ranked else None)
        row = vocabulary.touch(item, at)
        counts[row] = counts.get(row, 0) + 1
        started = time.perf_counter()
        memories[user] = model.learn_one(row, rows, at, 1.0, memories.get(user, b""))
        learning += time.perf_counter() - started
        n_learned += 1
        seen.add(row)
        history.insert(0, row)
        del history[RING - 1 :]
        if n_learned % BATCH == 0:
            vocabulary.keep()
            model.keep()
            vocabulary.begin()
            model.begin()
    return metrics.snapshot() | {"us_per_learn": learning / n_learned * 1e6, "norm": model.norm()}


def main() -> None:
    """Run the stream that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stream", choices=["ml-100k", "yoochoose"], default="ml-100k")
    parser.add_argument("--factors", type=int, default=16)
    parser.add_argument("--limit", type=int, default=None, help="first events of the stream only")
    parser.add_argument("--quick", action="store_true", help="the first 10,000 events")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.limit = 10_000
    stream = {"ml-100k": ml100k, "yoochoose": yoochoose}[arguments.stream]()[: arguments.limit]
    settings = {"w0": 0.01, "lambda_": 0.1, "beta": 0.4} if arguments.stream == "yoochoose" else {}
    numbers = run(stream, arguments.factors, **settings)
    print(
        json.dumps(
            {
                "stream": arguments.stream,
                "n_factors": arguments.factors,
                "events": len(stream),
                **{name: round(number, 4) for name, number in numbers.items()},
                "machine": platform.platform(),
                "python": platform.python_version(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
