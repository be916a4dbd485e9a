"""The cache on disk and the changelog together are the committed state, whatever happened in between."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from stream.core.rows import Header, ModelMemory, Profile
from stream.core.state import PartitionState
from stream.runtime.broker import KafkaBroker
from stream.runtime.errors import WorkerError
from stream.runtime.kafka import KafkaTransport
from stream.runtime.restoring import Restored, restore
from stream.runtime.statecache import Mark, StateCache
from stream.runtime.statecodec import ROWS, encode_header, encode_row, key_of
from stream.runtime.topics import open_admin
from tests.runtime.oracle import assert_as_without_faults, committed_rows, expected_effects
from tests.runtime.shop_stream import campaigns, shop_stream
from tests.runtime.topic_setup import Setup, create_topics
from tests.runtime.worker_process import SETTINGS, SMALL, WorkerProcess, wait_until

_NUMBERS = itertools.count(1)


@pytest.fixture
def setup(kafka_broker: KafkaBroker) -> Setup:
    """Empty topics under a prefix of their own; each commit holds few records."""
    name = f"cache-{next(_NUMBERS)}"
    return create_topics(kafka_broker.bootstrap, name, partitions=2, batch_records=50)


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_cache_and_changelog_make_the_committed_state(setup: Setup, tmp_path: Path, guarantee: str) -> None:
    """Stopped, killed, its cache damaged: four lives leave the state that one leaves."""
    lines, folder = list(shop_stream(2000, seed=4)), tmp_path / "cache"
    environment = setup.environment | SMALL | {"CACHE_DIR": str(folder), "CACHE_INTERVAL_S": "1"}
    setup.produce_campaigns(campaigns())
    with WorkerProcess(environment | {"KAFKA__GUARANTEE": guarantee}, tmp_path / "worker.log") as worker:
        for end, life in ((500, "stopped"), (1200, "killed"), (1600, "stopped"), (2000, "stopped")):
            setup.produce_events(lines[setup_done(setup) : end])
            worker.start()
            wait_until(f"{end} applied", lambda end=end: setup.applied() == end)  # type: ignore[misc]
            if life == "killed":
                os.kill(worker.pid, signal.SIGKILL)
                worker.wait()
            else:
                assert 0 == worker.terminate()[0]
            if end == 1600:
                path = folder / "state-0.cache"
                damaged = bytearray(path.read_bytes())
                damaged[len(damaged) // 2] ^= 1
                path.write_bytes(damaged)
        opened = worker.events("partition_open")
        refused = worker.events("state_cache_refused")

    cached = {p: [line["cached"] for line in opened if line["partition"] == p] for p in (0, 1)}
    assert [0, True, True, False] == [bool(n) for n in cached[0]]
    assert [0, True, True, True] == [bool(n) for n in cached[1]]
    assert [0] == [line["partition"] for line in refused]
    if guarantee == "exactly_once":
        assert_as_without_faults(setup, SETTINGS)
    else:  # outputs may repeat, state may not
        expected = expected_effects(SETTINGS, campaigns(), setup.read(setup.names.events), 2)
        assert expected.rows == committed_rows(setup.read(setup.names.user_state))


def setup_done(setup: Setup) -> int:
    """How many events were produced already."""
    return len(setup.read(setup.names.events))


def test_a_clean_stop_waits_for_a_cache_that_takes_long(setup: Setup, tmp_path: Path) -> None:
    """A large state on a slow disk: six seconds for the last copy are not too many."""
    folder, lines = tmp_path / "cache", list(shop_stream(300, seed=4))
    environment = setup.environment | SMALL | {"CACHE_DIR": str(folder), "CACHE_INTERVAL_S": "600"}
    setup.produce_events(lines)
    with WorkerProcess(environment, tmp_path / "worker.log", run=_SLOW_DISK) as worker:
        worker.start()
        wait_until("all applied", lambda: setup.applied() == len(lines))
        code, seconds = worker.terminate()
    assert (0, True) == (code, 6.0 < seconds < 13.0)
    assert {"state-0.cache", "state-1.cache"} == {path.name for path in folder.iterdir()}


# Fault injection: the production worker on a disk that takes its time.
_SLOW_DISK = """
import asyncio
import sys
from stream.runtime.saving import StateSaver
from stream.settings import Settings
from stream.worker import run_worker

save = StateSaver._save

async def slow(self, gate):
    await asyncio.sleep(6.0)
    await save(self, gate)

StateSaver._save = slow
sys.exit(run_worker(Settings()))
"""


def test_a_worker_goes_on_where_the_cache_cannot_be_written(setup: Setup, tmp_path: Path) -> None:
    """The directory is a file: the worker says so, counts it, and does its work."""
    (tmp_path / "file").write_bytes(b"")
    environment = setup.environment | SMALL | {"CACHE_DIR": str(tmp_path / "file"), "CACHE_INTERVAL_S": "1"}
    lines = list(shop_stream(300, seed=4))
    setup.produce_campaigns(campaigns())
    setup.produce_events(lines)
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        worker.start()
        wait_until("all applied", lambda: setup.applied() == len(lines))
        assert 0 == worker.terminate()[0]
        assert worker.events("state_cache_not_written")
    assert_as_without_faults(setup, SETTINGS)


async def write(setup: Setup, numbers: range) -> None:
    """Write rows and their header to the changelog of partition 0."""
    topic = setup.names.user_state
    async with AIOKafkaProducer(bootstrap_servers=setup.kafka.bootstrap, acks="all") as producer:
        for n in numbers:
            row = encode_row(Profile(n_events=1, touched=n + 1), ModelMemory())
            await producer.send(topic, row, key=key_of(f"u{n}"), partition=0)
        key, header = encode_header(Header(sequence=numbers.stop), numbers.stop)
        await producer.send_and_wait(topic, header, key=key, partition=0)


async def recreate(setup: Setup) -> None:
    """Delete the changelog and create it anew."""
    async with open_admin(setup.kafka.bootstrap) as admin:
        await admin.delete_topics([setup.names.user_state])
    for _ in range(50):
        await asyncio.sleep(0.2)
        with suppress(KafkaError, WorkerError):  # the deletion takes its time
            await asyncio.to_thread(setup.create)
            return


async def restored(setup: Setup, cache: StateCache | None) -> Restored:
    """Restore partition 0."""
    found = await restore(KafkaTransport(setup.kafka), TopicPartition(setup.names.user_state, 0), cache)
    assert found is not None
    return found


async def saved(setup: Setup, folder: Path) -> tuple[StateCache, PartitionState, Mark]:
    """Restore partition 0 without a cache, and save one."""
    found, state = await restored(setup, None), PartitionState(codec=ROWS)
    state.load(found.header, found.rows, 300.0)
    cache = StateCache(folder, "c/g/t/0", 0)
    assert await cache.save(state, lambda: found.mark, asyncio.Lock())
    return cache, state, found.mark


def test_the_log_goes_over_the_cache(setup: Setup, tmp_path: Path) -> None:
    """Rows that changed since, new ones and tombstones come from the log, the others from the cache."""

    async def scenario() -> tuple[Restored, Restored]:
        await write(setup, range(100))
        cache, _, _ = await saved(setup, tmp_path)
        async with AIOKafkaProducer(bootstrap_servers=setup.kafka.bootstrap, acks="all") as producer:
            await producer.send_and_wait(setup.names.user_state, None, key=key_of("u7"), partition=0)
        await write(setup, range(95, 110))
        return await restored(setup, cache), await restored(setup, None)

    warm, cold = asyncio.run(scenario())
    assert (100, 0) == (warm.n_cached, cold.n_cached)
    assert cold.rows == warm.rows
    assert (109, cold.header, cold.next_offset) == (len(warm.rows), warm.header, warm.next_offset)


def test_a_cache_that_is_ahead_of_the_log_is_refused(setup: Setup, tmp_path: Path) -> None:
    """The broker lost its tail: the log ends before what the cache holds."""

    async def scenario() -> Restored:
        await write(setup, range(100))
        cache, state, mark = await saved(setup, tmp_path)
        ahead = Mark(mark.header, mark.offset, mark.end + 1)
        assert await cache.save(state, lambda: ahead, asyncio.Lock())
        return await restored(setup, cache)

    found = asyncio.run(scenario())
    assert (0, 100) == (found.n_cached, len(found.rows))
    assert not list(tmp_path.iterdir())


def test_a_cache_of_a_topic_that_was_created_anew_is_refused(setup: Setup, tmp_path: Path) -> None:
    """Same name, more records than before, all younger than the cache: no old user comes back."""

    async def scenario() -> Restored:
        await write(setup, range(100))
        cache, _, _ = await saved(setup, tmp_path)
        await recreate(setup)
        await write(setup, range(1000, 1200))
        return await restored(setup, cache)

    found = asyncio.run(scenario())
    assert (0, 200) == (found.n_cached, len(found.rows))
    assert {f"u{n}" for n in range(1000, 1200)} == set(found.rows)
