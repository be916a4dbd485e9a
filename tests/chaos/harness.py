"""What every fault test needs: topics with a stream on them, a fleet of workers, and an account of the log.

The oracle is :mod:`tests.runtime.oracle`; how large a test is and where its figures go, :mod:`report`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from stream.runtime.consuming import open_reader
from stream.runtime.errors import BrokerUnreachableError
from stream.runtime.transport import LogRecord
from tests.chaos.feed import Feed
from tests.chaos.report import SEED
from tests.runtime.shop_stream import campaigns, last_events, shop_stream
from tests.runtime.topic_setup import Setup, create_topics
from tests.runtime.worker_process import READY_S, SMALL, WorkerProcess

POLL_S: Final = 0.05
RATE: Final = 150.0  # events a second: far below what one worker takes, also on a busy machine
MOST_EVENTS: Final = 2_000_000


def topics_for(bootstrap: str, name: str, **kafka: object) -> Setup:
    """Create the topics of a test and write its campaigns."""
    defaults: dict[str, object] = {
        "partitions": 4,
        "batch_records": 40,  # many transactions
        "session_timeout_ms": 2000,  # a killed member is forgotten quickly
        "transaction_timeout_ms": 8000,
    }
    setup = create_topics(bootstrap, f"{name}-{SEED}", **(defaults | kafka))
    setup.produce_campaigns(campaigns())
    return setup


class Fleet:
    """Workers of one group, events that keep coming, and the progress that the group has committed.

    Parameters
    ----------
    rate : float
        Events a second, from the start until all that is left to do is to finish; 0: none.
    lines : iterable of bytes, optional
        The events; of the seeded shop unless given.
    run : str, optional
        Python that a worker's process runs, where it is not the production worker.
    through : str, optional
        The workers' way to the broker, where it is not the test's own.
    """

    def __init__(
        self,
        setup: Setup,
        folder: Path,
        n: int = 1,
        *,
        rate: float = RATE,
        lines: Iterable[bytes] | None = None,
        run: str | None = None,
        through: str | None = None,
        **settings: str,
    ) -> None:
        self.setup = setup
        self._environment: dict[str, str] = setup.environment | SMALL | settings
        if through is not None:
            self._environment["KAFKA__BOOTSTRAP"] = through
        self._folder = folder
        self._run = {} if run is None else {"run": run}
        self.total = 0
        last = last_events(MOST_EVENTS) if lines is None and rate else ()
        self._feed = Feed(setup, shop_stream(MOST_EVENTS, SEED) if lines is None else lines, last, rate)
        self._fed = not rate
        self._committed = 0
        self.workers: list[WorkerProcess] = []
        for _ in range(n):
            self.add()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for worker in self.workers:
            worker.kill()
        with suppress(BrokerUnreachableError):
            self._feed.stop()

    def add(self, **settings: str) -> WorkerProcess:
        """One more worker, not started."""
        log = self._folder / f"worker-{len(self.workers)}.log"
        self.workers.append(WorkerProcess(self._environment | settings, log, **self._run))
        return self.workers[-1]

    def start(self, members: int | None = None) -> Self:
        """Start the events, and all workers that do not run or the first so many."""
        if not self._fed:
            self._feed.start()
            self._fed = True
        for worker in self.workers[:members]:
            if not worker.runs():
                worker.start()
        return self

    def wait_at_work(self) -> None:
        """Wait until each worker that runs owns a partition; before that it ends if the broker goes."""
        members = [worker for worker in self.workers if worker.runs()]
        self.wait_until("all at work", lambda: all(worker.partitions() for worker in members))

    def committed(self) -> int:
        """Input records whose effects are committed; while the broker does not say, the last we know."""
        with suppress(KafkaError, BrokerUnreachableError, OSError, TimeoutError):
            self._committed = self.setup.committed()
        return self._committed

    def wait_committed(self, at_least: int, limit_s: float = READY_S) -> float:
        """Wait for progress, fail when a worker ends by itself, and return how long it took in seconds."""
        return self.wait_until(f"{at_least} committed", lambda: self.committed() >= at_least, limit_s)

    def advance(self, records: int, limit_s: float = READY_S) -> float:
        """Wait until so many more records are committed; return the seconds it took."""
        return round(self.wait_committed(self.committed() + records, limit_s), 2)

    def wait_until(self, what: str, holds: Callable[[], bool], limit_s: float = READY_S) -> float:
        """Poll until something holds while all workers that were started live; return the seconds it took."""
        started = time.monotonic()
        while not holds():
            self.check()
            elapsed = time.monotonic() - started
            assert elapsed < limit_s, f"{what}: not within {limit_s:.0f} s; {self.committed()} committed"
            time.sleep(POLL_S)
        return time.monotonic() - started

    def check(self) -> None:
        """Fail when a worker has ended that nobody asked to."""
        for worker in self.workers:
            assert worker.lives_as_asked(), f"ended with {worker.code()}: {worker.tail()}"

    def finish(self, limit_s: float = READY_S) -> list[float]:
        """End the events, wait until all are committed, end all workers, and return the seconds each took."""
        self.drain(limit_s)
        taken = []
        for worker in self.workers:
            if worker.runs():
                code, seconds = worker.terminate()
                assert (0, True) == (code, seconds <= 5.0), f"{code} after {seconds:.1f} s: {worker.tail()}"
                taken.append(round(seconds, 2))
        return taken

    def drain(self, limit_s: float = READY_S) -> None:
        """End the events and wait until all are committed."""
        self._feed.stop()
        self.total = sum(self.setup.ends(self.setup.names.events).values())
        self.wait_committed(self.total, limit_s)

    def events(self, name: str) -> list[dict[str, object]]:
        """Log lines of one event, of all workers."""
        return [line for worker in self.workers for line in worker.events(name)]

    def fenced(self) -> int:
        """How often a worker found that somebody else had taken its partition."""
        failed = self.events("partition_rebuild") + self.events("partition_lost")
        return sum("ProducerFenced" in str(line["error"]) for line in failed)


def aborted(setup: Setup) -> int:
    """Transactions that had written user state and were not committed.

    A transaction's records lie side by side in its partition, and a marker that readers do not see follows
    them: so each run of neighbouring offsets that only an uncommitted reader sees is one.
    """
    written = _offsets(setup.read(setup.names.user_state, read_committed=False))
    lost = written - _offsets(setup.read(setup.names.user_state))
    return sum((partition, offset - 1) not in lost for partition, offset in lost)


def open_transaction(setup: Setup, limit_s: float = 5.0) -> int:
    """Wait until user state is on the log whose commit must follow; return its partition, -1 if none came."""
    return next_write(setup, setup.names.user_state, limit_s)


def next_write(setup: Setup, topic: str, limit_s: float = 5.0) -> int:
    """Wait until somebody writes a topic; return the partition, -1 if nothing came."""

    async def sighting() -> int:
        partitions = [TopicPartition(topic, p) for p in range(setup.kafka.partitions)]
        opened = open_reader(setup.kafka.bootstrap, partitions, read_committed=False)
        async with opened as reader:
            await reader.seek_to_end(*partitions)
            for tp in partitions:
                await reader.position(tp)
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    while not (fetched := await reader.getmany(timeout_ms=20)):
                        pass
                    return next(iter(fetched)).partition
            return -1

    return asyncio.run(sighting())


def _offsets(records: Iterable[LogRecord]) -> set[tuple[int, int]]:
    return {(record.partition, record.offset) for record in records}
