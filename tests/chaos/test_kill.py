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

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.runtime.broker import KafkaBroker
from stream.runtime.statecodec import HEADER_KEY
from stream.settings import KafkaSettings, Settings
from tests.runtime.oracle import RULES, committed_rows, expected_effects, values_by_partition
from tests.runtime.shop_stream import campaigns, shop_stream
from tests.runtime.topic_setup import Setup
from tests.runtime.worker_process import WorkerProcess, wait_until

N_EVENTS = 10_000
N_PARTITIONS = 4
KILLS = 14
MIN_ABORTED = 5
SEED = int(os.environ.get("NUDGE_CHAOS_SEED", "1"))
SMALL = {"MAX_ITEMS": "1024", "CLICK_SLOTS": "4096", "CAMPAIGNS__HOLDOUT_SHARE": "0.1"}


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

    async def sighting(self, limit_s: float) -> bool:
        """Wait until the end of a transaction's state is on the log, which its commit follows."""
        async with asyncio.timeout(limit_s):
            while True:
                fetched = await self._consumer.getmany(timeout_ms=20)
                if any(record.key == HEADER_KEY for records in fetched.values() for record in records):
                    return True


async def _kill_repeatedly(worker: WorkerProcess, setup: Setup, random_: random.Random) -> int:
    """Kill the worker at seeded moments, two of three right after a transaction's last record was seen."""
    kills = 0
    async with Observer(setup) as observer:
        while kills < KILLS:
            worker.start()
            await observer.sighting(60.0)  # it works again
            ends = time.monotonic() + random_.uniform(0.0, 0.15)
            while time.monotonic() < ends:
                await observer.sighting(60.0)
            if random_.random() < 1 / 3:
                await asyncio.sleep(random_.uniform(0.0, 0.03))
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
            kills += 1
    return kills


def _headers(setup: Setup, *, read_committed: bool) -> int:
    """Transactions that reached the end of their state: each writes one header record, last."""
    records = setup.read(setup.names.user_state, read_committed=read_committed)
    return sum(record.key == HEADER_KEY for record in records)


@pytest.fixture
def setup(kafka_broker: KafkaBroker) -> Setup:
    """Topics of this test with the events and campaigns on them."""
    found = Setup(
        KafkaSettings(
            bootstrap=kafka_broker.bootstrap,
            topic_prefix=f"kill-{SEED}.",
            group=f"kill-{SEED}",
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
        kills = asyncio.run(_kill_repeatedly(worker, setup, random.Random(SEED)))
        print(worker.log)
        at_last_kill = setup.applied()
        worker.start()
        wait_until("all input applied", lambda: worker.code() is None and setup.applied() == total, 120.0)
        code, seconds = worker.terminate()

    aborted = _headers(setup, read_committed=False) - _headers(setup, read_committed=True)
    print(f"seed {SEED}: {kills} kills, {aborted} aborted transactions, {at_last_kill} of {total} at the last kill")
    assert at_last_kill < total, "void: the last kill came after the end of the work"
    assert aborted >= MIN_ABORTED, f"void: only {aborted} kills hit an open transaction"
    assert (0, True) == (code, seconds <= 5.0)
    assert_as_without_faults(setup)


def assert_as_without_faults(setup: Setup) -> None:
    """Compare all model-free effects with the oracle's."""
    names, settings = setup.names, Settings(max_items=1024, click_slots=4096, campaigns={"holdout_share": 0.1})
    expected = expected_effects(settings, campaigns(), setup.read(names.events), N_PARTITIONS)
    decisions = setup.read(names.decisions)
    rule_decisions = [record for record in decisions if orjson.loads(record.value or b"{}")["kind"] in RULES]
    letters: dict[int, list[tuple[bytes | None, bytes | None]]] = {p: [] for p in range(N_PARTITIONS)}
    for record in setup.read(names.dead_letters):
        letters[record.partition].append((record.key, record.value))

    assert sum(map(len, expected.triggers.values())) > 100, "void: the stream triggers next to nothing"
    assert expected.triggers == values_by_partition(setup.read(names.triggers), N_PARTITIONS)
    assert expected.dry_run == values_by_partition(setup.read(names.triggers_dry_run), N_PARTITIONS)
    assert expected.rule_decisions == values_by_partition(rule_decisions, N_PARTITIONS)
    assert expected.dead_letters == letters
    assert expected.rows == committed_rows(setup.read(names.user_state))

    decision_ids = [orjson.loads(record.value or b"{}")["decision_id"] for record in decisions]
    assert len(decision_ids) == len(set(decision_ids))
    recommendation_ids = [orjson.loads(r.value or b"{}")["id"] for r in setup.read(names.recommendations)]
    assert len(recommendation_ids) == len(set(recommendation_ids))
