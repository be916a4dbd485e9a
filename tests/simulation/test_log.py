"""What the simulated log does that the broker transcript cannot show on Apache Kafka within seconds."""

from __future__ import annotations

import asyncio
import random

from aiokafka import TopicPartition

from tests.simulation.batches import is_sound
from tests.simulation.cluster import Cluster
from tests.simulation.history import committed
from tests.simulation.stage import on_stage


def test_compaction_keeps_the_last_of_each_key_and_all_offsets() -> None:
    """Readers of a compacted log see the last value of each key, tombstones included, at its own offset."""

    async def work(cluster: Cluster) -> None:
        dice = random.Random(3)
        partition = TopicPartition(cluster.names.campaigns, 0)
        log = cluster.broker.log_of(partition)
        assert log is not None
        last: dict[bytes, tuple[int, bytes | None]] = {}
        for _ in range(30):
            records = [
                (b"%d" % dice.randrange(9), b"%d" % dice.randrange(99) if dice.random() < 0.9 else None, ())
                for _ in range(dice.randint(1, 5))
            ]
            for n, (key, value, _) in enumerate(records):
                last[key] = log.end + n, value
            cluster.broker.write(partition, records)
        end = log.end
        log.compact()

        kept = [record for batch in log.batches for record in batch.records()]
        assert sorted((offset, key, value) for key, (offset, value) in last.items()) == [
            (record.offset, record.key, record.value) for record in kept
        ]
        assert end == log.end
        assert all(is_sound(batch.raw) for batch in log.batches)
        assert len(committed(cluster.broker, partition.topic)[0]) > len(kept)

    on_stage(work)


def test_compaction_ends_before_what_is_too_young() -> None:
    """From the first batch that is younger on, nothing goes, and nothing before it goes for its sake."""

    async def work(cluster: Cluster) -> list[list[bytes | None]]:
        partition = TopicPartition(cluster.names.campaigns, 0)
        log = cluster.broker.log_of(partition)
        assert log is not None
        for value in (b"1", b"2", b"3", b"4"):
            cluster.broker.write(partition, [(b"k", value, ())])
            await asyncio.sleep(1.0)
        now, left = cluster.broker.now_ms(), []
        for younger_than_s in (10, 2.5, 1.5, 0):
            log.compact(now - int(1000 * younger_than_s))
            left.append([record.value for batch in log.batches for record in batch.records()])
        return left

    assert [[b"1", b"2", b"3", b"4"], [b"2", b"3", b"4"], [b"3", b"4"], [b"4"]] == on_stage(work)
