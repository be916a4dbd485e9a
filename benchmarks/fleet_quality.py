"""What it costs in quality that workers learn apart and exchange deltas now and then.

Users are shared out among simulated workers (`benchmarks/jobs/fleet.py`). One worker is the sequential
learner.

    python benchmarks/fleet_quality.py [--stream ml-100k|yoochoose|clicks|shoppers|offers]
        [--workers 1,4,16] [--every 1000,10000] [--own 1000] [--one-ranker] [--lag-alone] [--seeds N]
        [--quick] [--keep FILE] [--table FILE]

`every 1000` counts the events *of the fleet*, so with 16 workers each publishes after some 60 events of its
own. `--own` adds the harsher form, in which each publishes after so many events *of its own*, and the fleet
has had as many times more as it has workers.

- Recommendations: test-then-train recall@10 as in `recommend_prequential.py`, of the blend and of each source
  alone. `--one-ranker` adds a fleet that cannot be: its sources learn apart and its ranker does not, so it
  shows what the sources' lag costs the blend.
- Clicks: progressive log loss of the ratings of ML-100K, as in `click_prequential.py`; `shoppers` are Online
  Shoppers: few and dense features, whose sum of steps overshoots first.
- Offers: the share of the best offer's conversions that Thompson sampling gets, in the simulation of
  `offers_regret.py` with ten offers. Like the others without the first tenth, in which next to nothing is
  known, and also from the start.

`--lag-alone` adds another fleet that cannot be: at each exchange every worker takes over what one worker
knows that learned all events in sequence, so it lacks nothing but the others' events since. What it loses no
rule of merging can bring back.

Each fleet is run with several ways to share users out, which are averaged, and offers with several
simulations. Intervals (95 %) are of the change against one worker, by a paired bootstrap of 2,000 draws: of
users, of simulations for offers.

JSON on standard output. `--keep` adds the results to a file and leaves out fleets that it has already, so a
stopped run goes on; `--table` also writes each stream's table between its marks in a document. The data sets
are found through NUDGE_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recommend_prequential import STREAMS  # type: ignore[import-not-found]  # it stands beside this script

from benchmarks.jobs.fleet import Measures, clicks, offers, recommend
from benchmarks.jobs.results import keep, read_kept, write_between

QUICK_EVENTS = 5000
OFFER_EVENTS = 20_000
OFFER_SEEDS = 8
BAR = 0.005  # of the quality of one worker, at an exchange every 1,000 events
N_DRAWS = 2000
BEGIN, END = "<!-- fleet_quality.py {} -->", "<!-- end -->"
CLICKS = {"clicks": "ml-100k", "shoppers": "online-shoppers"}


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
        n_workers, every, lag_alone = self.workers, self.span, self.lag_alone
        if stream in CLICKS:
            return clicks(CLICKS[stream], n_events, n_workers, every, seed, lag_alone=lag_alone)
        if stream == "offers":
            return offers(n_events or OFFER_EVENTS, n_workers, every, seed, lag_alone=lag_alone)
        events = STREAMS[stream]()[:n_events]
        return recommend(events, n_workers, every, seed, one_ranker=self.one_ranker, lag_alone=lag_alone)

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
            if lag_alone:
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


def table(stream: str, found: list[dict[str, Any]]) -> str:
    """Measures of a stream's fleets, and how they differ from one worker's."""
    names = list(found[0]["measures"])
    lines = [
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
    return "\n".join(lines) + "\n"


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
        for stream, found in results.items():
            write_between(asked.table, table(stream, found), (BEGIN.format(stream), END))


if __name__ == "__main__":
    main()
