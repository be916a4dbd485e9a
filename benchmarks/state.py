"""User state at size: restoring, memory, cost per event, and a flood of new ids; JSON on stdout.

    python benchmarks/state.py [--users 200000 1000000] [--broker kafka|none] [--events N] [--quick]

The rows are those that the engine leaves behind of users of the simulated shop: a day of events, and two days
later, when no reward is waited for any more. They are cloned under as many ids as asked for.

restore    one partition's changelog on Apache Kafka is read, checked and loaded, as a worker does when it
           opens a partition, in a process of its own. ``ready_s`` is all of it, ``load_s`` the part after
           reading, ``cpu_s`` the process's own time; ``cached`` is the same from the cache on disk. Resident
           memory is the process's, and what it gained by restoring. Without a broker, from bytes.
events     views by users drawn at random, in batches of 1000 that are encoded as for a commit, on 10 thousand
           and on a million users: the engine with all models, and the state alone. CPU time; rounds
           alternate.
flood      200,000 ids that were never seen, against room for 50,000.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer, TopicPartition

from benchmarks.jobs.process import resident_mib
from schemas.codec import rfc3339
from stream.assembly import build_engine, build_models
from stream.core.engine import Engine
from stream.core.records import Record
from stream.core.rows import Header
from stream.core.state import PartitionState
from stream.runtime import topics
from stream.runtime.broker import open_broker
from stream.runtime.kafka import KafkaTransport
from stream.runtime.outbox import Outbox
from stream.runtime.restoring import paused_collection, restore
from stream.runtime.statecache import StateCache
from stream.runtime.statecodec import ROWS, check_row, decode_row, encode_header, encode_row, key_of
from stream.sections import KafkaSettings
from stream.settings import Settings
from stream.simulating import simulate
from stream.testing import EPOCH, Driver, event

DAY = 86_400.0
NOW = EPOCH + 3 * DAY
BATCH = 1000
SETTINGS = Settings(max_items=4096, click_slots=2**14, consent={"when_unknown": "allow"})


@cache
def templates() -> list[bytes]:
    """Rows of a simulated shop's users, encoded, two days after their day."""
    shop = Driver(settings=SETTINGS, batch_size=BATCH)
    lines = simulate(seed=7, n_users=1500, n_items=300, duration_s=DAY, events_per_s=0.2, start=EPOCH)
    shop.pipe(*lines)
    shop.advance(2 * DAY)
    return [ROWS.encode(shop.engine.state.profile(u), shop.engine.state.memory(u)) for u in shop.engine.state]


def rows(n: int) -> Iterator[tuple[str, bytes]]:
    """Rows of n users, in order of their activity."""
    models = [decode_row(row) for row in templates()]
    for number in range(n):
        profile, memory = models[number % len(models)]
        profile.touched = number + 1
        yield f"user-{number:012d}", encode_row(profile, memory)


def header(n: int) -> Header:
    """The header that belongs to n rows."""
    return Header(watermark=NOW, sequence=n + 1)


async def fill(kafka: KafkaSettings, n: int) -> None:
    """Write n rows and their header to the changelog of partition 0."""
    async with topics.open_admin(kafka.bootstrap) as admin:
        await topics.apply(admin, kafka)
    topic = topics.TopicNames(kafka.topic_prefix).user_state
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, acks="all", max_batch_size=1 << 19, compression_type="snappy"
    )
    await producer.start()
    outbox = Outbox(producer, 0)
    for number, (user, value) in enumerate(rows(n)):
        outbox.add(topic, key_of(user), value)
        if number % 5000 == 4999:
            await outbox.send()
    outbox.add(topic, *encode_header(header(n), 0))
    await outbox.send()
    await producer.stop()


async def restored(bootstrap: str, topic: str, folder: str) -> dict[str, float]:
    """Restore the partition in this process and measure it; with a folder, from the cache if it is there."""
    before = resident_mib()
    started, cpu = time.perf_counter(), time.process_time()
    transport = KafkaTransport(KafkaSettings(bootstrap=bootstrap))
    copy = StateCache(Path(folder), "benchmark", 0)
    with paused_collection():
        found = await restore(transport, TopicPartition(topic, 0), copy)
        assert found is not None
        read = time.perf_counter()
        state = PartitionState(codec=ROWS)
        await asyncio.to_thread(state.load, found.header, found.rows, 300.0)
    ready, cpu = time.perf_counter(), time.process_time() - cpu
    n, mark, n_from_cache = len(state), found.mark, found.n_cached
    del found
    figures = _figures(n, read - started, ready - started, cpu, before) | {"n_from_cache": n_from_cache}
    if not n_from_cache:
        saved = time.perf_counter()
        longest = await _longest_block(copy.save(state, lambda: mark, asyncio.Lock()))
        figures |= {
            "cache_save_s": round(time.perf_counter() - saved, 2),
            "cache_save_longest_slice_cpu_ms": round(longest * 1e3, 1),
        }
    return figures


async def _longest_block(work: Any) -> float:
    """Run work beside a task that takes each turn of the loop; return the most CPU time between two turns.

    Time of the loop's own thread: on a busy machine the clock shows what others took.
    """
    longest, running = 0.0, True

    async def ticks() -> None:
        nonlocal longest
        while running:
            at = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - at)

    ticking = asyncio.create_task(ticks())
    await asyncio.sleep(0.01)
    await work
    running = False
    await ticking
    return longest


def loaded_from_bytes(n: int) -> dict[str, float]:
    """Check and load n rows that lie in memory."""
    given, before = dict(rows(n)), resident_mib()
    started, cpu = time.perf_counter(), time.process_time()
    for value in given.values():
        check_row(value)
    read = time.perf_counter()
    state = PartitionState(codec=ROWS)
    state.load(header(n), given, 300.0)
    return _figures(
        len(state), read - started, time.perf_counter() - started, time.process_time() - cpu, before
    )


def _figures(n: int, read_s: float, ready_s: float, cpu_s: float, before_mib: float) -> dict[str, float]:
    after = resident_mib()
    return {
        "users": n,
        "ready_s": round(ready_s, 2),
        "load_s": round(ready_s - read_s, 2),
        "rows_per_s": round(n / ready_s),
        "cpu_s": round(cpu_s, 2),
        "rows_per_cpu_s": round(n / cpu_s),
        "resident_mib": round(after),
        "gained_mib": round(after - before_mib),
        "gib_per_million_users": round((after - before_mib) / 1024 / n * 1e6, 3),
    }


def events_cost(small: int, large: int, n_events: int, rounds: int = 3) -> dict[str, Any]:
    """Microseconds per event on few and on many users: the engine, and the state alone."""
    engines = {n: _engine(n) for n in (small, large)}
    draws = np.random.Generator(np.random.Philox(3))
    whole: dict[int, list[float]] = {n: [] for n in engines}
    alone: dict[int, list[float]] = {n: [] for n in engines}
    number = 0
    for _ in range(rounds + 1):
        for n, engine in engines.items():
            users = [f"user-{u:012d}" for u in draws.integers(0, n, n_events).tolist()]
            batch = []
            for user in users:
                number += 1
                line = event(
                    "Product Viewed", user=user, at=3 * DAY + number / 100, product_id=f"p{number % 300}"
                )
                batch.append(Record(line, NOW + number, number))
            whole[n].append(_timed_engine(engine, batch) / n_events)
            alone[n].append(_timed_state(engine.state, users) / n_events)
    figures: dict[str, Any] = {}
    for name, costs in (("engine", whole), ("state", alone)):
        small_us, large_us = (statistics.median(costs[n][1:]) for n in (small, large))
        ratio = statistics.median(b / a for a, b in zip(costs[small][1:], costs[large][1:], strict=True))
        figures[name] = {
            f"us_per_event_{small}": round(small_us, 1),
            f"us_per_event_{large}": round(large_us, 1),
            "ratio": round(ratio, 3),
        }
    return figures


def _engine(n: int) -> Engine:
    engine = build_engine(SETTINGS, build_models(SETTINGS), codec=ROWS)
    engine.state.load(header(n), dict(rows(n)), 300.0)
    return engine


def _timed_engine(engine: Engine, batch: list[Record]) -> float:
    started = time.process_time()
    for at in range(0, len(batch), BATCH):
        engine.models.fold.begin()
        engine.process(batch[at : at + BATCH])
        engine.models.fold.keep()
        _commit(engine.state)
    return (time.process_time() - started) * 1e6


def _timed_state(state: PartitionState, users: list[str]) -> float:
    started = time.process_time()
    for at in range(0, len(users), BATCH):
        for user in users[at : at + BATCH]:
            state.touch(user, state.profile(user), state.memory(user))
        _commit(state)
    return (time.process_time() - started) * 1e6


def _commit(state: PartitionState) -> None:
    for _ in state.encode():
        pass
    state.committed()


def flood(n: int = 200_000, room: int = 50_000) -> dict[str, float]:
    """Let n new ids in; every one that does not fit must leave a tombstone."""
    models = [decode_row(row) for row in templates()]
    state, most, tombstones = PartitionState(room, codec=ROWS), 0, 0
    for number in range(n):
        profile, memory = models[number % len(models)]
        state.touch(f"new-{number:012d}", *decode_row(encode_row(profile, memory)))
        most = max(most, len(state))
        if number % BATCH == BATCH - 1:
            tombstones += len(state.forgotten)
            _commit(state)
    return {
        "ids": n,
        "room": room,
        "most_users": most,
        "over_room": round(most / room - 1, 4),
        "users": len(state),
        "tombstones": tombstones,
    }


def child(*arguments: str) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", *arguments]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


def from_kafka(bootstrap: str, n: int, folder: str) -> dict[str, Any]:
    """Restore n users from a changelog, write the cache, and restore them from that."""
    kafka = KafkaSettings(bootstrap=bootstrap, topic_prefix=f"state{n}.", partitions=1)
    asyncio.run(fill(kafka, n))
    topic = topics.TopicNames(kafka.topic_prefix).user_state
    figures = child("restore", bootstrap, topic, folder)
    print(figures, file=sys.stderr)
    figures |= {"cached": child("restore", bootstrap, topic, folder)}
    print(figures, file=sys.stderr)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--broker", choices=["kafka", "none"], default="kafka")
    parser.add_argument("--events", type=int, default=2000, help="events of a round; 0: restore only")
    parser.add_argument(
        "--quick", action="store_true", help="20,000 users, 200 events, a flood of 20,000 ids"
    )
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        kind, *rest = given.child
        figures = asyncio.run(restored(*rest)) if kind == "restore" else loaded_from_bytes(int(rest[0]))
        print(json.dumps(figures))
        return
    few, many, flooding = 10_000, 1_000_000, {}
    if given.quick:
        given.users, given.events = [20_000], 200
        few, many, flooding = 1000, 20_000, {"n": 20_000, "room": 5000}
    sizes = [len(row) for row in templates()]
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "row_bytes": {"mean": round(statistics.mean(sizes)), "median": statistics.median(sizes)},
        "watermark": rfc3339(NOW),
        "restore": [],
    }
    if given.broker == "none":
        result["restore"] = [child("bytes", str(n)) for n in given.users]
    else:
        with open_broker("kafka") as broker, tempfile.TemporaryDirectory() as folder:
            result["restore"] = [from_kafka(broker.bootstrap, n, f"{folder}/{n}") for n in given.users]
    if given.events:
        result["events"] = events_cost(few, many, given.events)
        result["flood"] = flood(**flooding)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
