"""The whole job on a broker, beside a stock Faust agent and the floor; JSON on stdout.

    python benchmarks/end_to_end.py [--broker kafka|embedded] [--events N] [--rounds N] [--input taobao|shop]

Five jobs take the same events in each round, one after the other, on one broker, each in a process of its
own on topics of its own:

faust_echo      a stock Faust agent that sends one record for each event, default settings (JSON values)
faust_echo_raw  the same with raw bytes, which spares Faust the decoding and encoding
floor           aiokafka well used: consume, decode, produce the same bytes in batches
exactly_once    the worker with all stages and models: catalogue, offers, two campaigns, consent allowed
at_least_once   the same worker with the other guarantee

The events wait on the topic before a job starts. The clock runs from the moment when the warm-up (a tenth of
the events, in front of the measured ones) is visible until all are: records appended for the two echoes,
offsets committed with everything they cause for the worker. So starting, compiling and restoring are left
out; ``ready_s`` is their time. CPU time is the process's own over the same span. The floor, which is quick
and remembers nothing, gets the measured events as often as makes 100,000.

Then the worker, still running, gets the events that follow at half the throughput it has just shown.
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
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from benchmarks.jobs.given import Input, read_input
from benchmarks.jobs.process import ROOT, Process, Watch, exposition, free_port, get
from stream.runtime import topics
from stream.runtime.broker import open_broker
from stream.runtime.consuming import open_reader, read_topic
from stream.runtime.producing import KeyField, produce
from stream.runtime.transport import LogRecord
from stream.settings import KafkaSettings

JOBS = ("faust_echo", "faust_echo_raw", "floor", "exactly_once", "at_least_once")
MODES = JOBS[3:]
FLOOR_EVENTS = 100_000
POLL_S = 0.01
LIMIT_S = 180.0
LATENCY_S = 10.0
BATCH = "nudge_batch_processing_seconds"

Progress = Callable[[], Awaitable[int]]


@dataclass(slots=True)
class Figures:
    """What one job showed in one round."""

    events_per_s: float
    cpu_us_per_event: float
    ready_s: float
    peak_mib: float = 0.0
    outputs: dict[str, int] = field(default_factory=dict)
    event_to_effect_ms: dict[str, float] = field(default_factory=dict)


class Bench:
    """One job in one round, on topics of its own."""

    def __init__(self, watch: Watch, kafka: KafkaSettings, given: Input, folder: Path) -> None:
        self._watch = watch
        self._kafka = kafka
        self._given = given
        self._folder = folder
        self._names = topics.TopicNames(kafka.topic_prefix)
        self._port = free_port()
        self._coordinator: int | None = None

    async def run(self, job: str) -> Figures:
        """Load the topics, start the job, measure it."""
        passes = math.ceil(FLOOR_EVENTS / len(self._given.measured)) if job == "floor" else 1
        await topics.apply(self._watch.admin, self._kafka)
        await self._produce("events", self._given.warm_up + passes * self._given.measured)
        if job in MODES:
            await self._produce("catalogue", self._given.catalogue, "item_id")
            await self._produce("offers", self._given.offers, "offer_id")
            await self._produce("campaigns", self._given.campaigns, "campaign_id")
        started = time.monotonic()
        progress = self._committed if job in MODES else self._echoed
        with self._start(job) as process:
            if job in MODES:
                await self._until(process, "ready", self._ready)
            ready_s = time.monotonic() - started
            n_warm, n = len(self._given.warm_up), passes * len(self._given.measured)
            at, first = await self._reach(process, progress, n_warm)
            cpu = process.cpu_s()
            if at >= n_warm + n:
                sys.exit(f"{job} had done all {at} events before it was looked at; raise --events")
            _, last = await self._reach(process, progress, n_warm + n)
            cpu_s, n_timed = process.cpu_s() - cpu, n_warm + n - at
            figures = Figures(n_timed / (last - first), cpu_s / n_timed * 1e6, ready_s)
            if job in MODES:
                figures.outputs = self._outputs(n_warm + n)
                figures.event_to_effect_ms = await self._latency(process, figures.events_per_s / 2)
            else:
                await self._check_echo()
            figures.peak_mib = process.peak_mib()
        return figures

    def _start(self, job: str) -> Process:
        kafka, log = self._kafka, self._folder / "job.log"
        if job in MODES:
            settings = kafka.model_dump() | {"guarantee": job}
            environment = {f"NUDGE_KAFKA__{name.upper()}": str(value) for name, value in settings.items()}
            environment |= {"NUDGE_CONSENT__WHEN_UNKNOWN": "allow", "NUDGE_METRICS_PORT": str(self._port)}
            return Process([sys.executable, "-m", "stream", "worker"], environment, log)
        environment = {"ECHO_BOOTSTRAP": kafka.bootstrap, "ECHO_GROUP": kafka.group}
        environment |= {"ECHO_SOURCE": self._names.events, "ECHO_TARGET": self._names.decisions}
        environment |= {"ECHO_SERIALIZER": "raw" if job == "faust_echo_raw" else "json"}
        if job == "floor":
            return Process([sys.executable, str(ROOT / "benchmarks" / "jobs" / "floor.py")], environment, log)
        faust = [sys.executable, "-m", "faust", "-A", "benchmarks.jobs.faust_echo"]
        faust += ["--datadir", str(self._folder / "faust"), "worker", "--web-port", str(self._port)]
        return Process([*faust, "--web-bind", "127.0.0.1", "--web-host", "127.0.0.1"], environment, log)

    async def _produce(self, topic: str, lines: Sequence[bytes], key: KeyField = "user") -> None:
        name = f"{self._kafka.topic_prefix}{topic}.v1"
        report = await produce(self._kafka.bootstrap, name, lines, key=key)
        assert (len(lines), 0) == (report.sent, report.without_key)

    async def _echoed(self) -> int:
        return await self._watch.appended(self._names.decisions)

    async def _committed(self) -> int:
        if self._coordinator is None:
            self._coordinator = await self._watch.admin.find_coordinator(self._kafka.group)
        return await self._watch.committed(self._kafka.group, self._names.events, self._coordinator)

    async def _ready(self) -> bool:
        return await asyncio.to_thread(get, f"http://127.0.0.1:{self._port}/readyz") is not None

    async def _reach(self, process: Process, progress: Progress, n: int) -> tuple[int, float]:
        """Wait until so many events have their visible effect; how many had when it was seen, and when."""
        reached = 0

        async def enough() -> bool:
            nonlocal reached
            try:
                reached = await progress()
            except KafkaError:  # the group has no coordinator yet
                return False
            return reached >= n

        await self._until(process, f"{n} events done", enough)
        return reached, time.monotonic()

    async def _until(self, process: Process, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not await holds():
            if not process.running or time.monotonic() > deadline:
                sys.exit(f"{self._kafka.group}: not {what} within {LIMIT_S:.0f} s:\n{process.log_tail()}")
            await asyncio.sleep(POLL_S)

    def _outputs(self, n: int) -> dict[str, int]:
        """Counts of the worker, which must have accepted what it was given."""
        samples = exposition(self._port)
        accepted = samples["nudge_events_accepted_total"]
        assert samples["nudge_events_consumed_total"] == n
        assert accepted > 0.95 * n, f"only {accepted:.0f} of {n} accepted"
        sent = sum(v for k, v in samples.items() if k.startswith("nudge_triggers_total") and '"sent"' in k)
        chosen = sum(v for k, v in samples.items() if k.startswith("nudge_offer_selections_total"))
        slates = samples['nudge_recommendations_total{outcome="emitted"}']
        assert slates > 0
        return {
            "accepted": int(accepted),
            "recommendations": int(slates),
            "triggers": int(sent),
            "offers": int(chosen),
        }

    async def _check_echo(self) -> None:
        """The first partition of the echo holds what the input's holds, in order."""
        bootstrap = self._kafka.bootstrap
        given = await read_topic(bootstrap, self._names.events, partition=0)
        echoed = await read_topic(bootstrap, self._names.decisions, partition=0)
        assert [_content(record) for record in given] == [_content(record) for record in echoed]

    async def _latency(self, process: Process, rate: float) -> dict[str, float]:
        """Let the following events come at a rate; times from their append to what they cause, ms."""
        lines = self._given.following[: int(rate * LATENCY_S)]
        path, done = self._folder / "following.jsonl", await self._committed()
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        before, started = exposition(self._port), await self._watch.ends(self._names.events)
        starts = await self._watch.ends(self._names.recommendations)
        seen: list[tuple[float, bytes]] = []
        bootstrap = self._kafka.bootstrap
        async with open_reader(bootstrap, []) as consumer:
            consumer.assign(list(starts))
            for tp, offset in starts.items():
                consumer.seek(tp, offset)
            reading = asyncio.create_task(_note(consumer, seen))
            command = [sys.executable, "-m", "stream", "produce", str(path), "--rate", str(rate)]
            environment = {"NUDGE_KAFKA__BOOTSTRAP": bootstrap}
            environment |= {"NUDGE_KAFKA__TOPIC_PREFIX": self._kafka.topic_prefix}
            try:
                with Process(command, environment, self._folder / "produce.log"):
                    await self._reach(process, self._committed, done + len(lines))
                    await asyncio.sleep(1.0)  # what is committed may still be on its way to the reader
            finally:
                reading.cancel()
                await asyncio.wait([reading])
        after = exposition(self._port)

        def grown(name: str) -> float:
            return after[name] - before[name]

        records = await read_topic(bootstrap, self._names.events)
        came = {
            orjson.loads(record.value or b"{}")["messageId"]: record.timestamp
            for record in records
            for tp, offset in started.items()
            if record.partition == tp.partition and record.offset >= offset
        }
        assert len(came) == len(lines)
        slates = [(at, orjson.loads(value)["cause"]["message_id"]) for at, value in seen]
        waits = [at * 1000 - came[cause] for at, cause in slates if cause in came]
        assert len(waits) == len(slates) > 0
        p50, p99 = np.quantile(waits, [0.5, 0.99])
        return {
            "rate": (len(lines) - 1) / (max(came.values()) - min(came.values())) * 1000,
            "n_recommendations": len(waits),
            "p50": float(p50),
            "p99": float(p99),
            "batch_ms": 1000 * grown(f"{BATCH}_sum") / grown(f"{BATCH}_count"),
            "events_per_batch": len(lines) / grown(f"{BATCH}_count"),
            "p50_at_most": _bound(before, after, 0.5),
            "p99_at_most": _bound(before, after, 0.99),
        }


def _content(record: LogRecord) -> object:
    return orjson.loads(record.value or b"null")


async def _note(consumer: AIOKafkaConsumer, seen: list[tuple[float, bytes]]) -> None:
    """Note when each record became visible."""
    while True:
        fetched = await consumer.getmany(timeout_ms=100)
        now = time.time()
        seen += [(now, record.value or b"{}") for records in fetched.values() for record in records]


def _bound(before: dict[str, float], after: dict[str, float], share: float) -> float:
    """Upper bound of the histogram's bucket that holds a quantile of what came between, ms."""
    head = 'nudge_event_to_effect_seconds_bucket{le="'
    grown = {
        float(name[len(head) : -2]): n - before.get(name, 0.0)
        for name, n in after.items()
        if name.startswith(head)
    }
    wanted = share * grown[float("inf")]
    return 1000 * min(bound for bound, n in grown.items() if n >= wanted)


async def measure(kind: str, given: Input, n_partitions: int, n_rounds: int) -> list[dict[str, Figures]]:
    """Run all jobs in turn, round by round."""
    rounds: list[dict[str, Figures]] = []
    with (
        open_broker("kafka" if kind == "kafka" else "embedded") as broker,
        tempfile.TemporaryDirectory() as work,
    ):
        async with (
            topics.open_admin(broker.bootstrap) as admin,
            open_reader(broker.bootstrap, []) as consumer,
        ):
            watch = Watch(admin, consumer, n_partitions)
            # A broker that has just started is slow; the first job must not pay for it.
            for n, job in [(0, "floor"), *itertools.product(range(1, n_rounds + 1), JOBS)]:
                name, folder = f"{job}-{n}", Path(work) / f"{job}-{n}"
                folder.mkdir()
                kafka = KafkaSettings(
                    bootstrap=broker.bootstrap, group=name, topic_prefix=f"{name}.", partitions=n_partitions
                )
                figures = await Bench(watch, kafka, given, folder).run(job)
                print(f"{name}: {figures}", file=sys.stderr)
                if n > len(rounds):
                    rounds.append({})
                if n:
                    rounds[-1][job] = figures
    return rounds


def report(rounds: list[dict[str, Figures]]) -> dict[str, object]:
    """Ratios and medians."""

    def ratio(mode: str, to: str) -> float:
        return statistics.median(one[mode].events_per_s / one[to].events_per_s for one in rounds)

    jobs: dict[str, dict[str, object]] = {}
    for job in JOBS:
        every = [one[job] for one in rounds]
        jobs[job] = {
            "events_per_s": round(statistics.median(one.events_per_s for one in every)),
            "events_per_s_of_rounds": [round(one.events_per_s) for one in every],
            "cpu_us_per_event": round(statistics.median(one.cpu_us_per_event for one in every), 1),
            "peak_mib": round(max(one.peak_mib for one in every)),
        }
        if job in MODES:
            waits = [one.event_to_effect_ms for one in every]
            jobs[job] |= {
                "ready_s": round(statistics.median(one.ready_s for one in every), 2),
                "outputs": every[-1].outputs,
                "event_to_effect_ms": {
                    name: round(statistics.median(one[name] for one in waits), 1) for name in waits[0]
                },
            }
    return {
        "ratio_to_stock_faust_echo": {mode: round(ratio(mode, "faust_echo"), 2) for mode in MODES},
        "ratio_to_raw_faust_echo": {mode: round(ratio(mode, "faust_echo_raw"), 2) for mode in MODES},
        "share_of_floor": {mode: round(ratio(mode, "floor"), 3) for mode in MODES},
        "jobs": jobs,
    }


def machine() -> dict[str, object]:
    """Where this runs, and what else ran there."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return {
        "platform": platform.platform(),
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """Commit of the measured tree, with ``-dirty`` where it has changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Measure what the command line asks for and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--events", type=int, default=20_000, help="measured events, warm-up apart")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--input", choices=["taobao", "shop"], help="taobao where NUDGE_DATA has it")
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns while a new topic has no leader yet
    context: dict[str, object] = {"machine": machine(), "commit": commit()}
    given = read_input(asked.input, asked.events)
    rounds = asyncio.run(measure(asked.broker, given, asked.partitions, asked.rounds))
    context |= {"broker": asked.broker, "input": given.name, "partitions": asked.partitions}
    context |= {"n_events": asked.events, "n_warm_up": len(given.warm_up), "rounds": asked.rounds}
    print(json.dumps({"benchmark": "end_to_end", **context, **report(rounds)}, indent=2))


if __name__ == "__main__":
    main()
