"""Read partitions from their beginning to where they end now."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.runtime import leniency
from stream.runtime.connecting import address_of, connection
from stream.runtime.errors import BrokerUnreachableError, TopicMismatchError
from stream.runtime.topics import open_admin, partition_counts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from stream.runtime.transport import LogRecord, Reader
    from stream.sections import KafkaSettings

__all__ = ["open_reader", "read_to_end", "read_topic", "scan_topic"]

STALL_S: Final = 30.0  # no record and no progress for so long: the broker has a problem we cannot wait out
POLL_MS: Final = 200
FETCH_BYTES: Final = 4 << 20  # restoring is bound by round trips with less

leniency.install()


@asynccontextmanager
async def open_reader(
    cluster: KafkaSettings | str,
    partitions: Sequence[TopicPartition],
    *,
    read_committed: bool = True,
    **options: Any,
) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer without a group at the beginning of the partitions."""
    consumer = AIOKafkaConsumer(
        **connection(cluster),
        group_id=None,
        enable_auto_commit=False,
        # From a position that we gave it, a reader must not jump over what was trimmed.
        auto_offset_reset="none" if partitions else "earliest",
        isolation_level="read_committed" if read_committed else "read_uncommitted",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=POLL_MS,
        **options,
    )
    try:
        await consumer.start()
        if partitions:
            consumer.assign(list(partitions))
            await consumer.seek_to_beginning(*partitions)
        yield consumer
    except OSError as error:
        raise BrokerUnreachableError(
            f"no Kafka at {address_of(cluster)} (NUDGE_KAFKA__BOOTSTRAP): {error}"
        ) from error
    finally:
        await consumer.stop()


async def read_to_end(consumer: Reader) -> AsyncIterator[list[LogRecord]]:
    """Yield the records of all assigned partitions up to where they end at the call, chunk by chunk.

    Raises
    ------
    TimeoutError
        Nothing moves for 30 s although the end is not reached.
    """
    ends: dict[TopicPartition, int] = await consumer.end_offsets(list(consumer.assignment()))
    clock = asyncio.get_running_loop().time
    moved, before = clock(), -1
    while True:
        positions = [await consumer.position(tp) for tp in ends]
        if all(position >= end for position, end in zip(positions, ends.values(), strict=True)):
            return
        if sum(positions) != before:
            moved, before = clock(), sum(positions)
        elif clock() - moved > STALL_S:
            raise TimeoutError(
                f"reading {sorted(ends)} stands still at {positions} before {list(ends.values())}"
            )
        for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
            yield records


async def scan_topic(
    cluster: KafkaSettings | str, topic: str, *, read_committed: bool = True, partition: int | None = None
) -> AsyncIterator[list[LogRecord]]:
    """Yield the records that a topic, or one partition of it, holds now: chunks, each of one partition.

    Those of a partition come in order of offset.

    Raises
    ------
    BrokerUnreachableError, TopicMismatchError
        Nobody answers, or there is no such topic.
    """
    try:
        async with open_admin(cluster) as admin:
            counts = await partition_counts(admin)
        if topic not in counts:
            raise TopicMismatchError(f"topic {topic} does not exist; run `nudge topics apply`")
        numbers = range(counts[topic]) if partition is None else [partition]
        partitions = [TopicPartition(topic, number) for number in numbers]
        async with open_reader(cluster, partitions, read_committed=read_committed) as consumer:
            async for chunk in read_to_end(consumer):
                yield chunk
    except KafkaError as error:
        raise BrokerUnreachableError(
            f"topic {topic} at {address_of(cluster)} could not be read: {error}"
        ) from error


async def read_topic(
    cluster: KafkaSettings | str,
    topic: str,
    *,
    read_committed: bool = True,
    partition: int | None = None,
    key: bytes | None = None,
) -> list[LogRecord]:
    """Return all records a topic, or one partition of it, holds now, in order of partition and offset.

    With ``key`` only the records under that key; the others are read and let go.
    """
    chunks = scan_topic(cluster, topic, read_committed=read_committed, partition=partition)
    found = [record async for chunk in chunks for record in chunk if key is None or record.key == key]
    return sorted(found, key=lambda record: (record.partition, record.offset))
