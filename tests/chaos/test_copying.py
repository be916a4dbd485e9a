"""Kafka's own transaction test, with the worker as the copier: each bad record is copied to the dead letters.

After ``tests/kafkatest/tests/core/transactions_test.py`` of Apache Kafka: copiers are bounced, hard and
cleanly, at 20 % of progress each time, while a reader at ``read_committed`` sees each copy once and in order.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Self

from aiokafka import TopicPartition

from stream.runtime.broker import KafkaBroker
from stream.runtime.consuming import open_reader
from tests.chaos.harness import Fleet, topics_for
from tests.chaos.report import report, size
from tests.runtime.topic_setup import Setup

PROGRESS_S = 60.0
BOUNCES = 3


class ConcurrentReader:
    """Reads the committed dead letters while they are written; ``seen`` has their source offsets in order."""

    def __init__(self, setup: Setup) -> None:
        self.seen: dict[int, list[int]] = {p: [] for p in range(setup.kafka.partitions)}
        self._setup = setup
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def count(self) -> int:
        """Copies seen so far."""
        return sum(map(len, self.seen.values()))

    async def _read(self) -> None:
        topic = self._setup.names.dead_letters
        partitions = [TopicPartition(topic, p) for p in self.seen]
        async with open_reader(self._setup.kafka.bootstrap, partitions) as reader:
            while not self._stop.is_set():
                for tp, records in (await reader.getmany(timeout_ms=100)).items():
                    offsets = [int(dict(record.headers)["__streams.errors.offset"]) for record in records]
                    self.seen[tp.partition] += offsets


def test_a_reader_beside_bounced_copiers_sees_each_copy_once(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str
) -> None:
    """No duplicate, no gap, in order, while two copiers are bounced three rounds, hard and cleanly."""
    n = size(10_000, 100_000)
    setup = topics_for(kafka_broker.bootstrap, name, partitions=3, batch_records=750)
    lines = (b'{"userId":"u%d","copy":%d' % (k % 97, k) for k in range(n))
    with ConcurrentReader(setup) as reader, Fleet(setup, tmp_path, 2, lines=lines, rate=n / 45) as fleet:
        fleet.start()
        progress = []
        for n_bounce in range(BOUNCES):
            share = n // 5
            progress.append(fleet.advance(share, PROGRESS_S))
            assert fleet.committed() < n, "void: bounced after the end of the work"
            for worker in fleet.workers:
                if n_bounce % 2:
                    assert 0 == worker.terminate()[0]
                else:
                    worker.kill()
            fleet.start()
        fleet.wait_committed(n)
        fleet.finish()
        fleet.wait_until("all read", lambda: reader.count() >= n)
        counts = {p: len(offsets) for p, offsets in reader.seen.items()}
    report(name, events=n, bounces=BOUNCES * 2, copies_read=sum(counts.values()), progress_s=progress)
    assert {p: list(range(end)) for p, end in setup.ends(setup.names.events).items()} == reader.seen
