"""Faults and their schedule, drawn from the seed, with quiet between them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)

from tests.simulation.cluster import Cluster, Worker
from tests.simulation.loop import WORLD, Machine
from tests.simulation.network import Loss, Trap

# Where a worker may be caught, the transactional requests before all.
_CAUGHT_AT: Final = (
    *(ProduceRequest,) * 3,
    *(EndTxnRequest,) * 4,
    *(TxnOffsetCommitRequest,) * 2,
    AddPartitionsToTxnRequest,
    AddOffsetsToTxnRequest,
    InitProducerIdRequest,
    FetchRequest,
    OffsetRequest,
    OffsetFetchRequest,
    JoinGroupRequest,
    SyncGroupRequest,
)

MIN_FAULTS, MAX_FAULTS = 12, 24
LONGEST_FREEZE_S: Final = 9.0
# Stands for an hour, which nobody is frozen for either: what counts once its header is there has it by then.
COMPACTION_LAG_S: Final = 2 * LONGEST_FREEZE_S

# Codes a request may hear: retriable ones, coordinators that moved, and final refusals.
_REFUSALS: Final[tuple[tuple[type[Request], tuple[int, ...]], ...]] = (  # type: ignore[type-arg]
    (ProduceRequest, (6, 7, 19, 56)),
    (ProduceRequest, (10, 87)),
    (EndTxnRequest, (14, 15, 16, 51)),
    (TxnOffsetCommitRequest, (14, 15, 16)),
    (AddPartitionsToTxnRequest, (14, 16, 51)),
    (AddOffsetsToTxnRequest, (14, 16, 51)),
    (InitProducerIdRequest, (14, 16, 51)),
    (HeartbeatRequest, (15, 16, 22, 25, 27)),
    (JoinGroupRequest, (14, 15, 16, 25)),
    (SyncGroupRequest, (16, 25, 27)),
    (FindCoordinatorRequest, (15,)),
    (OffsetFetchRequest, (14, 16)),
)
_LOSSES: Final = (EndTxnRequest, EndTxnRequest, ProduceRequest, TxnOffsetCommitRequest, InitProducerIdRequest)


class Schedule:
    """Draws the faults of a run, and lets them happen."""

    def __init__(self, cluster: Cluster, random_: random.Random) -> None:
        self._cluster = cluster
        self._random = random_
        self._kinds: tuple[Callable[[], str], ...] = (
            self._crash,
            self._freeze,
            self._stop,
            self._cut,
            *(self._catch,) * 7,
            self._pause,
            self._slow,
            self._reset,
            *(self._lose,) * 2,
            self._lose_and_cut,
            *(self._refuse,) * 3,
            self._slow_markers,
            self._compact,
            self._start_all,
        )

    def draw(self, first_s: float, last_s: float) -> list[float]:
        """Draw when faults come: in bursts, with quiet phases between them."""
        random_ = self._random
        n_faults = random_.randint(MIN_FAULTS, MAX_FAULTS)
        times = [random_.uniform(first_s, last_s) for _ in range(n_faults)]
        quiet = [random_.uniform(first_s, last_s) for _ in range(2)]
        return sorted(
            time + 3.0 if any(start < time < start + 3.0 for start in quiet) else time for time in times
        )

    def strike(self) -> str:
        """Let one fault happen now; say which."""
        return self._random.choice(self._kinds)()

    def heal(self) -> None:
        """End everything that is still wrong, and start who is down."""
        cluster = self._cluster
        network = cluster.network
        network.losses.clear()
        network.traps.clear()
        cluster.broker.refusals.clear()
        cluster.broker.transactions.marker_delay_s = 0.003
        network.delay_s, network.paused = 0.0, False
        network.cut.clear()
        network.release()
        for worker in cluster.workers:
            if worker.machine is not None and worker.machine.frozen:
                cluster.loop.thaw(worker.machine)
            cluster.start(worker)

    def _later(self, low_s: float, high_s: float, end: Callable[[], None]) -> None:
        self._cluster.loop.call_later(self._random.uniform(low_s, high_s), end, context=WORLD)

    def _up(self) -> Worker | None:
        up = [worker for worker in self._cluster.workers if worker.up]
        return self._random.choice(up) if up else None

    def _catch(self) -> str:
        """Crash, freeze or cut off whoever sends the next request of a kind."""
        request = self._random.choice(_CAUGHT_AT)
        acts = (("crash", self._crash_one), ("freeze", self._freeze_one), ("cut", self._cut_one))
        name, act = self._random.choice(acts)

        def spring(machine: Machine) -> None:
            worker = self._cluster.place_of(machine)
            if worker is not None:
                self._cluster.note(f"caught {machine.name} at {request.__name__}")
                act(worker)

        self._cluster.network.traps.append(Trap(request.API_KEY, spring))
        return f"{name} at the next {request.__name__}"

    def _crash(self) -> str:
        worker = self._up()
        if worker is None:
            return self._start_all()
        self._crash_one(worker)
        return f"crash {worker.name}"

    def _crash_one(self, worker: Worker) -> None:
        self._cluster.crash(worker, unsent=self._random.random() < 0.5)
        self._later(0.1, 5.0, lambda: self._cluster.start(worker))

    def _stop(self) -> str:
        worker = self._up()
        if worker is None:
            return self._start_all()
        self._cluster.stop(worker)
        self._later(1.0, 8.0, lambda: self._cluster.start(worker))
        return f"stop {worker.name}"

    def _freeze(self) -> str:
        """Freeze a worker, sometimes past its session and its transaction."""
        worker = self._up()
        if worker is None or worker.machine is None or worker.machine.frozen:
            return self._crash()
        self._freeze_one(worker)
        return f"freeze {worker.name}"

    def _freeze_one(self, worker: Worker) -> None:
        machine = worker.machine
        assert machine is not None
        self._cluster.loop.freeze(machine)

        def thaw() -> None:
            if not machine.dead:
                self._cluster.note(f"thaw {machine.name}")
                self._cluster.loop.thaw(machine)

        self._later(0.2, LONGEST_FREEZE_S, thaw)

    def _cut(self) -> str:
        worker = self._up()
        if worker is None or worker.machine is None:
            return self._start_all()
        self._cut_one(worker)
        return f"cut {worker.name}"

    def _cut_one(self, worker: Worker) -> None:
        machine, network = worker.machine, self._cluster.network
        assert machine is not None
        network.cut.add(machine)

        def mend() -> None:
            network.cut.discard(machine)
            if self._random.random() < 0.5:
                network.reset(machine)
            network.release()

        self._later(0.2, 8.0, mend)

    def _pause(self) -> str:
        network = self._cluster.network
        network.paused = True

        def go_on() -> None:
            network.paused = False
            network.release()

        self._later(0.2, 4.0, go_on)
        return "pause"

    def _slow(self) -> str:
        network = self._cluster.network
        network.delay_s = self._random.uniform(0.02, 0.3)

        def fast() -> None:
            network.delay_s = 0.0

        self._later(0.5, 4.0, fast)
        return f"slow {network.delay_s:.3f}"

    def _reset(self) -> str:
        worker = self._up() if self._random.random() < 0.5 else None
        self._cluster.network.reset(None if worker is None else worker.machine)
        return f"reset {worker.name if worker else 'all'}"

    def _lose(self) -> str:
        """Break a connection on one request, which the broker has heard or has not."""
        request, applied = self._random.choice(_LOSSES), self._random.random() < 0.5
        count = self._random.choice((1, 1, 3))
        self._cluster.network.losses.append(Loss(request.API_KEY, applied, None, count))
        return f"lose {request.__name__} applied={applied} x{count}"

    def _lose_and_cut(self) -> str:
        """Lose the answer of a commit for longer than a worker waits for it."""
        worker, applied = self._up(), self._random.random() < 0.5
        if worker is None or worker.machine is None:
            return self._start_all()
        machine, network = worker.machine, self._cluster.network
        network.losses.append(Loss(EndTxnRequest.API_KEY, applied, machine, 60))

        def mend() -> None:
            network.losses = [loss for loss in network.losses if loss.machine is not machine]

        self._later(3.0, 7.0, mend)
        return f"lose commits of {machine.name} applied={applied}"

    def _refuse(self) -> str:
        request, codes = self._random.choice(_REFUSALS)
        code, count = self._random.choice(codes), self._random.choice((1, 1, 2, 4))
        self._cluster.broker.refusals.setdefault(request.API_KEY, []).extend([code] * count)
        return f"refuse {request.__name__} {code} x{count}"

    def _slow_markers(self) -> str:
        """Let commits be acknowledged long before readers see them."""
        transactions = self._cluster.broker.transactions
        transactions.marker_delay_s = self._random.uniform(0.05, 0.6)

        def fast() -> None:
            transactions.marker_delay_s = 0.003

        self._later(1.0, 4.0, fast)
        return "slow markers"

    def _compact(self) -> str:
        """Let the brokers' cleaner go over all logs, but for what their configuration protects."""
        broker = self._cluster.broker
        for logs in broker.topics.values():
            config = logs[0].config
            lag_s = COMPACTION_LAG_S if "min.compaction.lag.ms" in config else 0.0
            if "compact" in config.get("cleanup.policy", ""):
                for log in logs:
                    log.compact(broker.now_ms() - int(1000 * lag_s))
        return "compact"

    def _start_all(self) -> str:
        for worker in self._cluster.workers:
            self._cluster.start(worker)
        return "start all"
