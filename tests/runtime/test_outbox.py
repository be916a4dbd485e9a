"""What sending a batch's records ends with when the producer fails under it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

from stream.runtime.outbox import Outbox
from stream.runtime.transport import Batch, Sent


class FencedProducer(AIOKafkaProducer):
    """Refuses the first batch as fenced, and the others as aiokafka does then."""

    fenced = False

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Awaitable[Sent]:
        """Refuse."""
        if self.fenced:
            raise IllegalOperation("Can't send messages while not in transaction")
        self.fenced = True
        refused: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        refused.set_exception(ProducerFenced())
        return refused


@pytest.fixture
async def producer() -> AsyncIterator[FencedProducer]:
    """A producer that never connects."""
    found = FencedProducer()  # type: ignore[no-untyped-call]  # aiokafka's
    yield found
    await found.stop()  # type: ignore[no-untyped-call]


async def test_fenced_while_sending_is_named_so(producer: FencedProducer) -> None:
    """The batches sent before say why the next could not be sent; nobody hears of an illegal operation."""
    outbox = Outbox(producer, 0)
    outbox.add("one", None, b"1")
    outbox.add("two", None, b"2")
    with pytest.raises(ProducerFenced):
        await outbox.send()


async def test_a_producer_that_failed_before_is_a_kafka_error(producer: FencedProducer) -> None:
    """Without a batch that knows why, it is still an error that the plane rebuilds the partition for."""
    producer.fenced = True
    outbox = Outbox(producer, 0)
    outbox.add("one", None, b"1")
    with pytest.raises(KafkaError, match="not in transaction"):
        await outbox.send()
