"""How long an event waits for its effect at given loads, and in which step of the worker; JSON on stdout.

    python benchmarks/latency.py [--quick] [--rate N]... [--guarantee exactly_once|at_least_once]

For each guarantee a worker with all stages and models first does a backlog of events, whose throughput says
what half load is; then events come for some seconds at 200, 500 and 1,000 a second, half load last.
``event_to_effect_ms`` is measured as ``benchmarks/end_to_end.py`` does. ``steps_ms`` are quantiles over the
batches of the same span, or over its records (``benchmarks/jobs/measured_worker.py`` says what each is);
``share`` is a step's part of the time of all steps of a batch. ``busy`` is the CPU time of each process by
the time from the first event to the last commit, the broker's by two seconds more. With ``--rate`` there are
these loads only.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.jobs.freshness import freshness
from benchmarks.jobs.given import Input, read_input
from benchmarks.jobs.machine import commit, machine
from benchmarks.jobs.process import Watch, cpu_s
from benchmarks.jobs.running import MEASURED_WORKER, Run
from stream.runtime import topics
from stream.runtime.broker import open_broker
from stream.runtime.consuming import open_reader
from stream.sections import KafkaSettings

GUARANTEES = ("exactly_once", "at_least_once")
OF_A_BATCH = ("turn", "engine", "encode", "begin", "send", "commit", "settle")
BUSY = {"worker": "busy", "broker": "broker_busy", "load": "load_busy", "reader": "reader_busy"}
RATES = (200.0, 500.0, 1000.0)
CALM_S = 1.0
Samples = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Point:
    """One load: when it was on, and what was seen from outside."""

    since: float
    until: float
    seen: dict[str, float]


async def measure_one(
    run: Run, given: Input, n_backlog: int, rates: list[float], seconds: float, broker_pid: int
) -> object:
    """Run one worker through all loads."""
    lines = iter(given.warm_up + given.measured + given.following)
    backlog = list(itertools.islice(lines, n_backlog))
    await run.load(given, backlog, reference=True)
    steps = run.folder / "steps.json"
    points: list[Point] = []
    with run:
        run.start_workers(1, MEASURED_WORKER, STEPS_FILE=str(steps))
        await run.until("ready", run.ready)
        at, first = await run.reach(run.committed, n_backlog // 10)
        _, last = await run.reach(run.committed, n_backlog)
        capacity = (n_backlog - at) / (last - first)
        for rate in rates or [*RATES, capacity / 2]:
            await asyncio.sleep(CALM_S)
            since, broker_cpu = time.time(), cpu_s(broker_pid)
            seen = await freshness(run, list(itertools.islice(lines, int(rate * seconds))), rate)
            until = time.time()
            seen["broker_busy"] = (cpu_s(broker_pid) - broker_cpu) / (until - since)
            points.append(Point(since, until, seen))
        n_partitions = run.kafka.partitions
        run.finish()
    samples: Samples = json.loads(steps.read_text(encoding="utf-8"))
    return {
        "capacity_events_per_s": round(capacity),
        "partitions": n_partitions,
        "loads": [report(point, samples) for point in points],
    }


def report(point: Point, samples: Samples) -> dict[str, object]:
    """What was seen from outside, and the worker's own steps in the same span."""
    within = {
        step: np.array([seconds for at, seconds in rows if point.since <= at <= point.until]) * 1000
        for step, rows in samples.items()
    }
    total = sum(float(within[step].sum()) for step in OF_A_BATCH if step in within)
    steps: dict[str, dict[str, float]] = {}
    for step, values in within.items():
        if not len(values):
            continue
        p50, p99 = np.quantile(values, [0.5, 0.99])
        steps[step] = {"n": len(values), "p50": round(p50, 2), "p99": round(p99, 2)}
        steps[step] |= {"max": round(float(values.max()), 2)}
        if step in OF_A_BATCH:
            steps[step]["share"] = round(float(values.sum()) / total, 3)
    seen = point.seen
    return {
        "rate": round(seen["rate"], 1),
        "event_to_effect_ms": {name: round(seen[name], 1) for name in ("p50", "p99")},
        "events_per_batch": round(seen["events_per_batch"], 1),
        "cpu_us_per_event": round(seen["cpu_us_per_event"]),
        "busy": {name: round(seen[key], 3) for name, key in BUSY.items()},
        "steps_ms": steps,
    }


async def measure(asked: argparse.Namespace) -> dict[str, object]:
    """Measure each guarantee on one broker."""
    rates, guarantees = asked.rate or [], asked.guarantee or list(GUARANTEES)
    given = read_input(asked.input, asked.events)
    found: dict[str, object] = {}
    with open_broker(asked.broker) as broker, tempfile.TemporaryDirectory() as work:
        async with (
            topics.open_admin(broker.bootstrap) as admin,
            open_reader(broker.bootstrap, []) as consumer,
        ):
            watch = Watch(admin, consumer, asked.partitions)
            for guarantee in guarantees:
                kafka = KafkaSettings(
                    bootstrap=broker.bootstrap,
                    group=guarantee,
                    guarantee=guarantee,
                    topic_prefix=f"{guarantee}.",
                    partitions=asked.partitions,
                )
                run = Run(watch, kafka, Path(work) / guarantee)
                found[guarantee] = await measure_one(
                    run, given, asked.backlog, rates, asked.seconds, broker.pid
                )
    return {"input": given.name, **found}


def main() -> None:
    """Measure what the command line asks for and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rate", type=float, action="append", help="events per second; may be repeated")
    parser.add_argument("--guarantee", choices=GUARANTEES, action="append", help="these only")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--backlog", type=int, default=5000, help="events that show the throughput")
    parser.add_argument(
        "--events", type=int, default=25_000, help="of the input; twice as many for the loads"
    )
    parser.add_argument("--input", choices=["taobao", "shop"], help="taobao where NUDGE_DATA has it")
    parser.add_argument("--quick", action="store_true", help="200 events/s for 4 s")
    asked = parser.parse_args()
    if asked.quick:
        asked.rate, asked.seconds, asked.backlog = asked.rate or [200.0], 4.0, 3000
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns while a new topic has no leader yet
    context = {"machine": machine(), "commit": commit(), "broker": asked.broker, "seconds": asked.seconds}
    print(json.dumps({"benchmark": "latency", **context, **asyncio.run(measure(asked))}, indent=2))


if __name__ == "__main__":
    main()
