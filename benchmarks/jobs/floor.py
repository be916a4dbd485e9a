"""The floor: consume, decode, produce the same bytes. No models, no state, no transaction.

What Python and aiokafka need in any case when they are used well: whole batches for the producer, the
acknowledgement of one round awaited while the next is decoded, offsets committed once a round. Started by
``benchmarks/end_to_end.py`` with the environment below; runs until it is killed.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.codec import Rejected, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import ConsumerRecord

ROUND_RECORDS = 4000
ROUND_MS = 50
BATCH_BYTES = 512 << 10  # as the worker's

Acknowledgement = asyncio.Future[object]


async def run(bootstrap: str, group: str, source: str, target: str) -> None:
    """Echo until cancelled."""
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=ROUND_MS,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        compression_type="snappy",
        max_batch_size=BATCH_BYTES,
    )
    in_flight: list[Acknowledgement] = []
    offsets: dict[TopicPartition, int] = {}
    async with consumer, producer:
        while True:
            fetched = await consumer.getmany(timeout_ms=ROUND_MS, max_records=ROUND_RECORDS)
            sent: list[Acknowledgement] = []
            for tp, records in fetched.items():
                sent += await echo(producer, target, tp.partition, records)
            await asyncio.gather(*in_flight)
            if offsets:
                await consumer.commit(offsets)
            in_flight = sent
            offsets = {tp: records[-1].offset + 1 for tp, records in fetched.items()}


async def echo(
    producer: AIOKafkaProducer, target: str, partition: int, records: Sequence[ConsumerRecord[bytes, bytes]]
) -> list[Acknowledgement]:
    """Decode records and send them on in as few batches as they fit in."""
    acknowledgements: list[Acknowledgement] = []
    batch = producer.create_batch()
    for record in records:
        assert record.value is not None
        event = decode(record.value)
        assert not isinstance(event, Rejected), event
        if batch.append(timestamp=None, key=record.key, value=record.value) is None:
            batch.close()
            acknowledgements.append(await producer.send_batch(batch, target, partition=partition))
            batch = producer.create_batch()
            batch.append(timestamp=None, key=record.key, value=record.value)
    batch.close()
    acknowledgements.append(await producer.send_batch(batch, target, partition=partition))
    return acknowledgements


if __name__ == "__main__":
    asyncio.run(
        run(*(os.environ[f"ECHO_{name}"] for name in ("BOOTSTRAP", "GROUP", "SOURCE", "TARGET"))),
    )
