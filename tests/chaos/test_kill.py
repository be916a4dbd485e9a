"""Exactly once under SIGKILL, on Apache Kafka: a worker is killed in the middle of its work, again and again.

The broker aborts what the dead worker had open, the next worker restores and goes on, and in the end all
committed effects equal, byte for byte, those of a run without faults.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Self

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.runtime.broker import KafkaBroker
from stream.runtime.statecodec import HEADER_KEY
from stream.settings import KafkaSettings, Settings
from tests.runtime.oracle import (
    assert_as_without_faults,
    committed_rows,
    expected_effects,
    values_by_partition,
)
from tests.runtime.shop_stream import campaigns, shop_stream
from tests.runtime.topic_setup import Setup
from tests.runtime.worker_process import READY_S, WorkerProcess, wait_until

N_EVENTS = 10_000
N_PARTITIONS = 4
MIN_KILLS, MAX_KILLS = 10, 30
MIN_ABORTED = 5
SEED = int(os.environ.get("NUDGE_CHAOS_SEED", "1"))
SMALL = {"MAX_ITEMS": "1024", "CLICK_SLOTS": "4096", "CAMPAIGNS__HOLDOUT_SHARE": "0.1"}
SETTINGS = Settings(max_items=1024, click_slots=4096, campaigns={"holdout_share": 0.1})


class Observer:
    """Sees a worker's records before they are committed."""

    def __init__(self, setup: Setup) -> None:
        self._partitions = [TopicPartition(setup.names.user_state, p) for p in range(N_PARTITIONS)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=setup.kafka.bootstrap,
            isolation_level="read_uncommitted",
            enable_auto_commit=False,
            fetch_max_wait_ms=20,
        )

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        await self._consumer.seek_to_end(*self._partitions)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._consumer.stop()

    async def sighting(self, limit_s: float) -> None:
        """Wait until the end of a transaction's state is on the log, which its commit follows."""
        async with asyncio.timeout(limit_s):
            while True:
                fetched = await self._consumer.getmany(timeout_ms=20)
                if any(record.key == HEADER_KEY for records in fetched.values() for record in records):
                    return


async def _kill_at_work(worker: WorkerProcess, observer: Observer, random_: random.Random) -> None:
    """Start the worker and kill it at a seeded moment; two of three times with a transaction in sight."""
    worker.start()
    await observer.sighting(READY_S)  # it works again
    ends = time.monotonic() + random_.uniform(0.0, 0.6)
    while time.monotonic() < ends:
        await observer.sighting(READY_S)
    if random_.random() < 1 / 3:
        await asyncio.sleep(random_.uniform(0.0, 0.03))
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()


def _kill_repeatedly(worker: WorkerProcess, setup: Setup, *, kills: int, aborted: int = 0) -> None:
    """Kill until there were so many kills, and so many of them left an open transaction."""
    random_ = random.Random(SEED)

    async def kill() -> None:
        async with Observer(setup) as observer:
            await _kill_at_work(worker, observer, random_)

    for done in range(1, MAX_KILLS + 1):
        asyncio.run(kill())
        if done >= kills and _torn(setup) >= aborted:
            return


def _torn(setup: Setup) -> int:
    """Transactions that wrote all they had and were not committed."""
    return _headers(setup, read_committed=False) - _headers(setup, read_committed=True)


def _headers(setup: Setup, *, read_committed: bool) -> int:
    """Transactions that reached the end of their state: each writes one header record, last."""
    records = setup.read(setup.names.user_state, read_committed=read_committed)
    return sum(record.key == HEADER_KEY for record in records)


@pytest.fixture
def setup(kafka_broker: KafkaBroker, request: pytest.FixtureRequest) -> Setup:
    """Topics of this test with the events and campaigns on them."""
    name = f"{request.node.name}-{SEED}"
    found = Setup(
        KafkaSettings(
            bootstrap=kafka_broker.bootstrap,
            topic_prefix=f"{name}.",
            group=name,
            partitions=N_PARTITIONS,
            batch_records=20,  # many transactions
            session_timeout_ms=2000,  # a killed member is forgotten quickly
        )
    )
    found.create()
    found.produce_campaigns(campaigns())
    found.produce_events(shop_stream(N_EVENTS, SEED))
    return found


def test_killed_workers_leave_what_one_that_never_died_leaves(setup: Setup, tmp_path: Path) -> None:
    """Triggers, suppressions, dead letters and user state equal the fault-free run's; each id comes once."""
    with WorkerProcess(setup.environment | SMALL, tmp_path / "worker.log") as worker:
        total = len(setup.read(setup.names.events))
        _kill_repeatedly(worker, setup, kills=MIN_KILLS, aborted=MIN_ABORTED + 1)
        at_last_kill = setup.applied()
        worker.start()
        wait_until("all applied", lambda: worker.code() is None and setup.applied() == total)
        code, seconds = worker.terminate()

    aborted = _torn(setup)
    assert at_last_kill < total, "void: the last kill came after the end of the work"
    assert aborted >= MIN_ABORTED, f"void: only {aborted} kills hit an open transaction"
    assert (0, True) == (code, seconds <= 5.0)
    assert_as_without_faults(setup, SETTINGS)


def test_killed_without_transactions_counts_nothing_twice(setup: Setup, tmp_path: Path) -> None:
    """at_least_once: outputs may come again, with the same id; state and model log hold an event once."""
    environment = setup.environment | SMALL | {"KAFKA__GUARANTEE": "at_least_once"}
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        total = len(setup.read(setup.names.events))
        _kill_repeatedly(worker, setup, kills=6)
        assert setup.applied() < total, "void: the last kill came after the end of the work"
        worker.start()
        wait_until("all applied", lambda: worker.code() is None and setup.applied() == total)
        assert 0 == worker.terminate()[0]

    expected = expected_effects(SETTINGS, campaigns(), setup.read(setup.names.events), N_PARTITIONS)
    assert expected.rows == committed_rows(setup.read(setup.names.user_state))
    written = values_by_partition(setup.read(setup.names.triggers), N_PARTITIONS)
    assert expected.triggers == {p: list(dict.fromkeys(values)) for p, values in written.items()}
    assert_model_log_covers_once(setup)


def assert_model_log_covers_once(setup: Setup) -> None:
    """With repeats dropped as the fold drops them, the deltas name each input offset once at most."""
    covered = dict.fromkeys(range(N_PARTITIONS), 0)
    for record in setup.read(setup.names.model_deltas):
        headers = dict(record.headers)
        if not headers["nudge.part"].startswith(b"0/"):
            continue
        first, following = int(headers["nudge.first_offset"]), int(headers["nudge.next_offset"])
        if first < covered[record.partition]:
            assert following <= covered[record.partition], "a repeat teaches something beside what it repeats"
            continue
        covered[record.partition] = following


def test_a_killed_workers_partitions_move(setup: Setup, tmp_path: Path) -> None:
    """Of two workers one is killed: the other takes its partitions over, and nothing is lost."""
    with (
        WorkerProcess(setup.environment | SMALL, tmp_path / "first.log") as first,
        WorkerProcess(setup.environment | SMALL, tmp_path / "second.log") as second,
    ):
        total = len(setup.read(setup.names.events))
        first.start()
        second.start()
        wait_until("both at work", lambda: min(_partitions(first), _partitions(second)) > 0)
        wait_until("some input applied", lambda: setup.applied() > 400)
        first.kill()
        assert setup.applied() < total, "void: killed after the end of the work"
        wait_until("all applied", lambda: second.code() is None and setup.applied() == total)
        assert N_PARTITIONS == _partitions(second)
        assert 0 == second.terminate()[0]
    assert_as_without_faults(setup, SETTINGS)


def _partitions(worker: WorkerProcess) -> int:
    return worker.get("/metrics")[1].count("\nnudge_state_users{")
