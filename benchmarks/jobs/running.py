"""One job on topics of its own: its input laid ready, its processes started, its progress watched."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from aiokafka.errors import KafkaError

from benchmarks.jobs.given import Input
from benchmarks.jobs.process import ROOT, Process, Watch, exposition, free_port, get
from stream.runtime import topics
from stream.runtime.producing import KeyField, produce
from stream.sections import KafkaSettings

POLL_S = 0.01
LIMIT_S = 180.0
WORKER = ("-m", "stream", "worker")
MEASURED_WORKER = ("-m", "benchmarks.jobs.measured_worker")

Progress = Callable[[], Awaitable[int]]


class Run:
    """A job's topics and processes; the processes end with the context.

    Attributes
    ----------
    names : TopicNames
        The job's topics.
    ports : list of int
        Where its processes answer to HTTP.
    """

    def __init__(self, watch: Watch, kafka: KafkaSettings, folder: Path) -> None:
        folder.mkdir()
        self.names = topics.TopicNames(kafka.topic_prefix)
        self.kafka = kafka
        self.watch = watch
        self.folder = folder
        self.ports: list[int] = []
        self._processes: list[Process] = []
        self._stack = ExitStack()
        self._coordinator: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.finish()

    def finish(self) -> None:
        """End the processes now, and let them write what they have to say."""
        self._stack.close()

    async def load(self, given: Input, events: Sequence[bytes], *, reference: bool) -> None:
        """Create the topics and put the events there, and where asked the reference records."""
        await topics.apply(self.watch.admin, self.kafka)
        await self._produce("events", events)
        if reference:
            await self._produce("catalogue", given.catalogue, "item_id")
            await self._produce("offers", given.offers, "offer_id")
            await self._produce("campaigns", given.campaigns, "campaign_id")

    def start(self, arguments: Sequence[str], environment: dict[str, str]) -> Process:
        """Start a Python process of the job."""
        log = self.folder / f"job{len(self._processes)}.log"
        process = self._stack.enter_context(Process([sys.executable, *arguments], environment, log))
        self._processes.append(process)
        return process

    def start_workers(self, n: int, arguments: Sequence[str] = WORKER, **environment: str) -> None:
        """Start workers of one group with the settings' guarantee, consent allowed."""
        environment |= {f"NUDGE_KAFKA__{name.upper()}": str(value) for name, value in self.kafka if value}
        environment |= {"NUDGE_CONSENT__WHEN_UNKNOWN": "allow"}
        for _ in range(n):
            self.ports.append(free_port())
            self.start(arguments, environment | {"NUDGE_METRICS_PORT": str(self.ports[-1])})

    def start_faust(self, module: str, **environment: str) -> None:
        """Start a stock Faust worker; the module finds the topics in its environment."""
        self.ports.append(free_port())
        arguments = ["-m", "faust", "-A", module, "--datadir", str(self.folder / "faust"), "worker"]
        arguments += ["--web-port", str(self.ports[-1]), "--web-bind", "127.0.0.1", "--web-host", "127.0.0.1"]
        self.start(arguments, self._echo_environment() | environment)

    def start_floor(self) -> None:
        """Start the floor."""
        self.start([str(ROOT / "benchmarks" / "jobs" / "floor.py")], self._echo_environment())

    async def ready(self) -> bool:
        """Whether all workers have recovered and have their partitions."""
        pages = [await asyncio.to_thread(get, f"http://127.0.0.1:{port}/readyz") for port in self.ports]
        return None not in pages

    async def committed(self) -> int:
        """Events whose effects the group has committed."""
        if self._coordinator is None:
            self._coordinator = await self.watch.admin.find_coordinator(self.kafka.group)
        return await self.watch.committed(self.kafka.group, self.names.events, self._coordinator)

    def samples(self) -> dict[str, float]:
        """The workers' ``/metrics``, added up."""
        total: defaultdict[str, float] = defaultdict(float)
        for port in self.ports:
            for name, value in exposition(port).items():
                total[name] += value
        return total

    async def reach(self, progress: Progress, n: int) -> tuple[int, float]:
        """Wait until so many events have their visible effect; how many had when it was seen, and when."""
        reached = 0

        async def enough() -> bool:
            nonlocal reached
            try:
                reached = await progress()
            except KafkaError:  # the group has no coordinator yet
                return False
            return reached >= n

        await self.until(f"{n} events done", enough)
        return reached, time.monotonic()

    async def until(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something; a process that ends, or too long a wait, ends the benchmark."""
        deadline = time.monotonic() + LIMIT_S
        while not await holds():
            ended = [process for process in self._processes if not process.running]
            if ended or time.monotonic() > deadline:
                log = (ended or self._processes)[0].log_tail()
                sys.exit(f"{self.kafka.group}: not {what} within {LIMIT_S:.0f} s:\n{log}")
            await asyncio.sleep(POLL_S)

    def cpu_s(self) -> float:
        """CPU time of the job's processes so far, s."""
        return sum(process.cpu_s() for process in self._processes)

    def peak_mib(self) -> float:
        """Most memory that the job's processes held, added up, MiB."""
        return sum(process.peak_mib() for process in self._processes)

    def _echo_environment(self) -> dict[str, str]:
        return {
            "ECHO_BOOTSTRAP": self.kafka.bootstrap,
            "ECHO_GROUP": self.kafka.group,
            "ECHO_PARTITIONS": str(self.kafka.partitions),
            "ECHO_SOURCE": self.names.events,
            "ECHO_TARGET": self.names.decisions,
        }

    async def _produce(self, topic: str, lines: Sequence[bytes], key: KeyField = "user") -> None:
        name = f"{self.kafka.topic_prefix}{topic}.v1"
        report = await produce(self.kafka.bootstrap, name, lines, key=key)
        assert (len(lines), 0) == (report.sent, report.without_key)
