"""The whole job on a broker, beside stock Faust agents and the floor; JSON on stdout.

    python benchmarks/end_to_end.py [--quick] [--broker kafka|embedded] [--events N] [--rounds N]

The jobs take the same events in each round, one after the other, on one broker, each in processes of its own
on topics of its own:

faust_echo       a stock Faust agent that sends one record for each event, default settings (JSON values)
faust_echo_raw   the same with raw bytes, which spares Faust the decoding and encoding
faust_river      a stock Faust agent with a table of users and River's models, a comparable job done plainly
floor            aiokafka well used: consume, decode, produce the same bytes in batches
exactly_once     the worker with all stages and models: catalogue, offers, two campaigns, consent allowed
at_least_once    the same worker with the other guarantee
exactly_once_2   two workers of one group; each has half of the partitions and folds the other's lessons
at_least_once_2  the same with the other guarantee

The events wait on the topic before a job starts. The clock runs from the moment when the warm-up (a tenth of
the events, in front of the measured ones) is visible until all are: records appended for the echoes, the
table's changelog for River's agent, which writes it last, offsets committed with everything they cause for
the worker. So starting, compiling and restoring are left out; ``ready_s`` is their time. CPU time is that of
the job's processes over the same span, the broker's apart. The floor, which is quick and remembers nothing,
gets the measured events as often as makes 100,000.

Then the workers, still running, get the events that follow at half the throughput they have just shown.
``event_to_effect_ms`` is from the broker's append time of an event to the moment a ``read_committed``
consumer has its recommendation; ``at_most`` are the bounds of the worker's own histogram, all events.

Each figure is the median of the rounds, each ratio is taken within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import math
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from aiokafka.admin import NewTopic

from benchmarks.jobs.freshness import freshness
from benchmarks.jobs.given import Input, read_input
from benchmarks.jobs.machine import commit, machine
from benchmarks.jobs.process import Watch, cpu_s, exposition
from benchmarks.jobs.running import Run
from stream.runtime import topics
from stream.runtime.broker import EmbeddedBroker, KafkaBroker
from stream.runtime.consuming import open_reader, read_topic
from stream.runtime.transport import LogRecord
from stream.sections import KafkaSettings

WORKERS = {"exactly_once": 1, "at_least_once": 1, "exactly_once_2": 2, "at_least_once_2": 2}
JOBS = ("faust_echo", "faust_echo_raw", "faust_river", "floor", *WORKERS)
FLOOR_EVENTS = 100_000
LATENCY_S = 10.0
# Kafka's default wait for the first members of a group: two workers then start with their share each.
REBALANCE_DELAY = {"group.initial.rebalance.delay.ms": "3000"}


@dataclass(slots=True)
class Figures:
    """What one job showed in one round."""

    events_per_s: float
    cpu_us_per_event: float
    broker_cpu_us_per_event: float
    ready_s: float
    peak_mib: float = 0.0
    outputs: dict[str, int] = field(default_factory=dict)
    event_to_effect_ms: dict[str, float] = field(default_factory=dict)


async def measure_job(job: str, run: Run, given: Input, broker_pid: int, latency_s: float) -> Figures:
    """Load the topics, start the job, measure it."""
    passes = math.ceil(FLOOR_EVENTS / len(given.measured)) if job == "floor" else 1
    n_warm, n = len(given.warm_up), passes * len(given.measured)
    await run.load(given, given.warm_up + passes * given.measured, reference=job in WORKERS)
    effects = run.names.decisions
    if job == "faust_river":
        effects = f"{run.kafka.group}-users-changelog"
        topic = NewTopic(name=effects, num_partitions=run.kafka.partitions, replication_factor=1)
        await run.watch.admin.create_topics([topic])

    async def appended() -> int:
        return await run.watch.appended(effects)

    progress = run.committed if job in WORKERS else appended
    started = time.monotonic()
    with run:
        start(job, run)
        if job in WORKERS:
            await run.until("ready", run.ready)
        ready_s = time.monotonic() - started
        at, first = await run.reach(progress, n_warm)
        job_cpu_s, broker_cpu_s = run.cpu_s(), cpu_s(broker_pid)
        if at >= n_warm + n:
            sys.exit(f"{job} had done all {at} events before it was looked at; raise --events")
        _, last = await run.reach(progress, n_warm + n)
        job_cpu_s, broker_cpu_s = run.cpu_s() - job_cpu_s, cpu_s(broker_pid) - broker_cpu_s
        n_timed = n_warm + n - at
        figures = Figures(
            n_timed / (last - first), job_cpu_s / n_timed * 1e6, broker_cpu_s / n_timed * 1e6, ready_s
        )
        if job in WORKERS:
            figures.outputs = outputs(run, n_warm + n)
            rate = figures.events_per_s / 2
            figures.event_to_effect_ms = await freshness(run, given.following[: int(rate * latency_s)], rate)
        elif job == "faust_river":
            figures.outputs = {"answers": await run.watch.appended(run.names.decisions)}
            assert figures.outputs["answers"] > 0
        else:
            await check_echo(run)
        figures.peak_mib = run.peak_mib()
    return figures


def start(job: str, run: Run) -> None:
    """Start a job's processes."""
    if job in WORKERS:
        run.start_workers(WORKERS[job])
    elif job == "floor":
        run.start_floor()
    elif job == "faust_river":
        run.start_faust("benchmarks.jobs.faust_river")
    else:
        serializer = "raw" if job == "faust_echo_raw" else "json"
        run.start_faust("benchmarks.jobs.faust_echo", ECHO_SERIALIZER=serializer)


def outputs(run: Run, n: int) -> dict[str, int]:
    """Counts of the workers, which must have accepted what they were given, and shared the work."""
    samples = run.samples()
    accepted = samples["nudge_events_accepted_total"]
    assert samples["nudge_events_consumed_total"] == n
    assert accepted > 0.95 * n, f"only {accepted:.0f} of {n} accepted"
    sent = sum(v for k, v in samples.items() if k.startswith("nudge_triggers_total") and '"sent"' in k)
    chosen = sum(v for k, v in samples.items() if k.startswith("nudge_offer_selections_total"))
    slates = samples['nudge_recommendations_total{outcome="emitted"}']
    assert slates > 0
    consumed = [int(exposition(port)["nudge_events_consumed_total"]) for port in run.ports]
    assert min(consumed) > 0, f"a worker of {len(consumed)} had nothing to do: {consumed}"
    return {
        "accepted": int(accepted),
        "recommendations": int(slates),
        "triggers": int(sent),
        "offers": int(chosen),
        "least_of_a_worker": min(consumed),
    }


async def check_echo(run: Run) -> None:
    """The first partition of the echo holds what the input's holds, in order."""
    given = await read_topic(run.kafka.bootstrap, run.names.events, partition=0)
    echoed = await read_topic(run.kafka.bootstrap, run.names.decisions, partition=0)
    assert [_content(record) for record in given] == [_content(record) for record in echoed]


def _content(record: LogRecord) -> object:
    return orjson.loads(record.value or b"null")


async def measure(asked: argparse.Namespace, given: Input) -> list[dict[str, Figures]]:
    """Run all jobs in turn, round by round."""
    rounds: list[dict[str, Figures]] = [{} for _ in range(asked.rounds)]
    broker = EmbeddedBroker() if asked.broker == "embedded" else KafkaBroker(overrides=REBALANCE_DELAY)
    with broker, tempfile.TemporaryDirectory() as work:
        async with (
            topics.open_admin(broker.bootstrap) as admin,
            open_reader(broker.bootstrap, []) as consumer,
        ):
            watch = Watch(admin, consumer, asked.partitions)
            # A broker that has just started is slow; the first job must not pay for it.
            for n, job in [(0, "floor"), *itertools.product(range(1, asked.rounds + 1), JOBS)]:
                name = f"{job}-{n}"
                kafka = KafkaSettings(
                    bootstrap=broker.bootstrap,
                    group=name,
                    topic_prefix=f"{name}.",
                    partitions=asked.partitions,
                    guarantee="at_least_once" if job.startswith("at_least_once") else "exactly_once",
                )
                run = Run(watch, kafka, Path(work) / name)
                figures = await measure_job(job, run, given, broker.pid, asked.latency_s)
                print(f"{name}: {figures}", file=sys.stderr)
                if n:
                    rounds[n - 1][job] = figures
    return rounds


def report(rounds: list[dict[str, Figures]]) -> dict[str, object]:
    """Ratios and medians."""

    def ratios(to: str, digits: int) -> dict[str, float]:
        return {
            job: round(
                statistics.median(one[job].events_per_s / one[to].events_per_s for one in rounds), digits
            )
            for job in WORKERS
        }

    jobs: dict[str, dict[str, object]] = {}
    for job in JOBS:
        every = [one[job] for one in rounds]
        jobs[job] = {
            "events_per_s": round(statistics.median(one.events_per_s for one in every)),
            "events_per_s_of_rounds": [round(one.events_per_s) for one in every],
            "cpu_us_per_event": round(statistics.median(one.cpu_us_per_event for one in every), 1),
            "broker_cpu_us_per_event": round(
                statistics.median(one.broker_cpu_us_per_event for one in every), 1
            ),
            "peak_mib": round(max(one.peak_mib for one in every)),
        }
        if every[-1].outputs:
            jobs[job]["outputs"] = every[-1].outputs
        if job in WORKERS:
            waits = [one.event_to_effect_ms for one in every]
            jobs[job] |= {
                "ready_s": round(statistics.median(one.ready_s for one in every), 2),
                "event_to_effect_ms": {
                    name: round(statistics.median(one[name] for one in waits), 2) for name in waits[0]
                },
            }
    return {
        "ratio_to_stock_faust_echo": ratios("faust_echo", 2),
        "ratio_to_raw_faust_echo": ratios("faust_echo_raw", 2),
        "ratio_to_stock_faust_river": ratios("faust_river", 2),
        "share_of_floor": ratios("floor", 3),
        "jobs": jobs,
    }


def main() -> None:
    """Measure what the command line asks for and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--events", type=int, default=20_000, help="measured events, warm-up apart")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1, help="3 for figures that are quoted")
    parser.add_argument("--latency-s", type=float, default=LATENCY_S, help="length of the half load, s")
    parser.add_argument("--input", choices=["taobao", "shop"], help="taobao where NUDGE_DATA has it")
    parser.add_argument("--quick", action="store_true", help="4,000 events, one round, half load for 4 s")
    asked = parser.parse_args()
    if asked.quick:
        asked.events, asked.rounds, asked.latency_s = 4000, 1, 4.0
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns while a new topic has no leader yet
    context: dict[str, object] = {"machine": machine(), "commit": commit()}
    given = read_input(asked.input, asked.events)
    rounds = asyncio.run(measure(asked, given))
    context |= {"broker": asked.broker, "input": given.name, "partitions": asked.partitions}
    context |= {"n_events": asked.events, "n_warm_up": len(given.warm_up), "rounds": asked.rounds}
    print(json.dumps({"benchmark": "end_to_end", **context, **report(rounds)}, indent=2))


if __name__ == "__main__":
    main()
