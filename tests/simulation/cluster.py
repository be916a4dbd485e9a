"""A simulated cluster: broker, network, and workers that can crash, freeze, stop and come again."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition

from schemas.campaigns import Campaign
from stream.runtime.errors import BrokerUnreachableError, TooManyRebuildsError
from stream.runtime.kafka import KafkaTransport
from stream.runtime.metrics import Metrics
from stream.runtime.plane import DataPlane
from stream.runtime.producing import key_of
from stream.runtime.topics import TOPICS, TopicNames
from stream.settings import Settings
from tests.simulation.broker import HOST, PORT, Broker
from tests.simulation.loop import WORLD, Machine, SimulatedLoop
from tests.simulation.network import Network

STOP_S: Final = 5.0  # as the worker's composition root
RESTART_S: Final = 1.0  # what a supervisor waits before it starts a worker again
# A worker may end with these while there are faults; its supervisor starts another one.
TRIMMED: Final = "was trimmed behind a snapshot before this worker had read it"
EXCUSED: Final = (BrokerUnreachableError, TooManyRebuildsError)


def settings_of(
    partitions: int,
    *,
    exactly_once: bool = True,
    static: str | None = None,
    snapshot_bytes: int = 64 << 20,
    patience_ms: int = 0,
) -> Settings:
    """Small models and short timeouts."""
    return Settings(
        max_items=1024,
        click_slots=4096,
        campaigns={"holdout_share": 0.1},
        kafka={
            "bootstrap": f"{HOST}:{PORT}",
            "group": "sim",
            "instance_id": static,
            "topic_prefix": "sim.",
            "partitions": partitions,
            "guarantee": "exactly_once" if exactly_once else "at_least_once",
            "batch_records": 20,
            "batch_ms": 250,
            "commit_patience_ms": patience_ms,
            "session_timeout_ms": 3000,
            "transaction_timeout_ms": 4000,
            "snapshot_bytes": snapshot_bytes,
        },
    )


@dataclass(slots=True)
class Worker:
    """One place where a worker runs, life after life."""

    name: str
    settings: Settings
    life: int = 0
    machine: Machine | None = None
    plane: DataPlane | None = None
    stopping: asyncio.Event | None = None
    task: asyncio.Task[BaseException | None] | None = None

    @property
    def up(self) -> bool:
        """Whether there is a process, frozen or not."""
        return self.machine is not None


@dataclass(slots=True)
class Cluster:
    """What a simulation runs on.

    Attributes
    ----------
    events : list of str
        What happened, with times: the part of the history that no log holds.
    crashed : list
        Errors that no fault excuses.
    healed : bool
        Whether whoever stops has to come again.
    """

    loop: SimulatedLoop
    settings: Settings
    seed: int
    events: list[str] = field(default_factory=list)
    crashed: list[BaseException] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    healed: bool = False
    broker: Broker = field(init=False)
    network: Network = field(init=False)

    def __post_init__(self) -> None:
        self.broker = Broker(self.seed, lambda group, what: self.note(f"group {group}: {what}"))
        self.network = Network(self.broker, self.loop, random.Random(f"network {self.seed}"))
        self.loop.service = self.network
        kafka = self.settings.kafka
        for spec in TOPICS:
            partitions = kafka.partitions if spec.partitioned else 1
            self.broker.create(kafka.topic_prefix + spec.name, partitions, spec.config)

    @property
    def names(self) -> TopicNames:
        """Full topic names."""
        return TopicNames(self.settings.kafka.topic_prefix)

    def note(self, what: str) -> None:
        """Write down what happened now."""
        self.events.append(f"{self.loop.time():.6f} {what}")

    def produce_campaigns(self, campaigns: Sequence[Campaign]) -> None:
        """Write campaigns."""
        records = [(c.campaign_id.encode(), msgspec.json.encode(c), ()) for c in campaigns]
        self.broker.write(TopicPartition(self.names.campaigns, 0), records)

    def produce_events(self, lines: Iterable[bytes]) -> None:
        """Write events to the partitions of their users, one batch each."""
        by_partition: dict[int, list[tuple[bytes | None, bytes, tuple[()]]]] = {}
        for line in lines:
            key = key_of(line)
            partition = zlib.crc32(key or line) % self.settings.kafka.partitions
            by_partition.setdefault(partition, []).append((key, line, ()))
        for partition, records in sorted(by_partition.items()):
            self.broker.write(TopicPartition(self.names.events, partition), records)

    def add(self, name: str, settings: Settings | None = None) -> Worker:
        """Make a place for a worker, with nobody in it."""
        worker = Worker(name, settings or self.settings)
        self.workers.append(worker)
        return worker

    def start(self, worker: Worker) -> None:
        """Start a worker's next life."""
        if worker.up:
            return
        worker.life += 1
        worker.machine = Machine(f"{worker.name}.{worker.life}")
        worker.stopping = asyncio.Event()
        worker.task = worker.machine.start(self._live(worker), worker.machine.name)
        worker.task.add_done_callback(lambda task: self._ended(worker, task), context=WORLD)
        self.note(f"start {worker.machine.name}")

    def place_of(self, machine: Machine) -> Worker | None:
        """Find the worker whose present life a machine is."""
        return next((worker for worker in self.workers if worker.machine is machine), None)

    def crash(self, worker: Worker, *, unsent: bool = False) -> None:
        """Kill a worker between two of its steps; what it has sent arrives unless it is ``unsent``."""
        machine = worker.machine
        if machine is None:
            return
        self.note(f"crash {machine.name}")
        self.loop.kill(machine)
        self.network.cut.discard(machine)
        if unsent:
            self.network.reset(machine)
        worker.machine = worker.plane = worker.task = None

    def stop(self, worker: Worker) -> None:
        """Ask a worker to stop."""
        if worker.stopping is not None and worker.machine is not None:
            self.note(f"stop {worker.machine.name}")
            worker.stopping.set()

    async def _live(self, worker: Worker) -> BaseException | None:
        """What the composition root does, without signals and probes."""
        transport = KafkaTransport(worker.settings.kafka)
        plane = DataPlane(worker.settings, Metrics("simulated"), None, transport)
        worker.plane = plane
        assert worker.stopping is not None
        stopping = asyncio.create_task(worker.stopping.wait())
        try:
            await plane.start()
            waiting: set[asyncio.Future[Any]] = {plane.finished, stopping}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return plane.finished.exception() if plane.finished.done() else None
        finally:
            stopping.cancel()
            try:
                async with asyncio.timeout(STOP_S):
                    await plane.stop()
            except TimeoutError:
                self.note(f"{worker.name} did not stop in time")

    def _ended(self, worker: Worker, task: asyncio.Task[BaseException | None]) -> None:
        if worker.task is not task or worker.machine is None:
            return
        machine, worker.machine, worker.plane, worker.task = worker.machine, None, None, None
        error = task.exception() if not task.cancelled() else None
        error = error if error is not None else task.result()
        self.note(f"end {machine.name}: {type(error).__name__}")
        # The process is gone, and with it whatever its tasks still wanted to do.
        self.loop.kill(machine)
        self.network.reset(machine)
        if error is None and not self.healed:
            return
        if error is not None and not (isinstance(error, EXCUSED) or TRIMMED in str(error)):
            self.crashed.append(error)
        self.loop.call_later(RESTART_S, self.start, worker, context=WORLD)
