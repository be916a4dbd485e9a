"""A client of a broker whose answers are written down as one line each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord


class Client:
    """The few verbs the steps are written in, on topics and ids that start with ``prefix``."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix

    def name(self, short: str) -> str:
        """Full name of a topic, group or transactional id."""
        return f"{self.prefix}.{short}"

    def partition(self, topic: str, number: int = 0) -> TopicPartition:
        """Partition of one of our topics."""
        return TopicPartition(self.name(topic), number)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """Admin client for one step."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await client.start()
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def producer(self, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
        """Idempotent producer, transactional when an id is given; a fenced one may fail to say goodbye."""
        if "transactional_id" in options:
            options["transactional_id"] = self.name(options["transactional_id"])
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True, **options)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()
            # A fenced producer leaves its error also on a future that nobody awaits; asyncio would report it.
            manager = producer._txn_manager
            if manager.is_fatal_error():
                manager.wait_for_transaction_end().exception()

    @asynccontextmanager
    async def consumer(self, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
        """Consumer that commits only by hand and reads from the start."""
        settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_max_wait_ms": 50}
        consumer = AIOKafkaConsumer(
            *(self.name(topic) for topic in topics), bootstrap_servers=self.bootstrap, **(settings | options)
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()

    async def create(self, topic: str, partitions: int = 1, **configs: str) -> str:
        """Create a topic; underscores in the names of settings stand for dots."""
        spec = NewTopic(
            self.name(topic),
            partitions,
            1,
            topic_configs={k.replace("_", "."): v for k, v in configs.items()},
        )
        async with self.admin() as admin:
            answer: Any = await admin.create_topics([spec])
        code = answer.topic_errors[0][1]
        return "ok" if code == 0 else f"error {code}"

    async def settle(self, transactional_id: str) -> None:
        """Wait until the id's last transaction is complete.

        Kafka acknowledges a commit before its markers are written: for a moment readers still see the state
        before it, offsets too. A new producer of the same id is let in only when the markers are there.
        """
        async with self.producer(transactional_id=transactional_id):
            pass

    async def end(self, topic: str, isolation: str = "read_uncommitted") -> int:
        """End offset of partition 0 as a reader of this isolation sees it."""
        async with self.consumer(isolation_level=isolation) as consumer:
            ends = await consumer.end_offsets([self.partition(topic)])
        found: int = ends[self.partition(topic)]
        return found

    async def committed(self, group: str, partition: TopicPartition) -> int | None:
        """Committed offset of a group without members."""
        async with self.consumer(group_id=self.name(group)) as consumer:
            consumer.assign([partition])
            found: int | None = await consumer.committed(partition)
        return found

    async def read(
        self, topic: str, number: int = 0, isolation: str = "read_committed"
    ) -> list[ConsumerRecord[bytes, bytes]]:
        """All records of a partition up to the end that this isolation sees now."""
        partition = self.partition(topic, number)
        found: list[ConsumerRecord[bytes, bytes]] = []
        async with self.consumer(isolation_level=isolation) as consumer:
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found.extend(records)
        return found

    async def values(self, topic: str, isolation: str = "read_committed") -> str:
        """Values of partition 0, in order."""
        return " ".join((record.value or b"-").decode() for record in await self.read(topic, 0, isolation))


def membership(consumer: AIOKafkaConsumer) -> tuple[int, str]:
    """Generation and id of a member; aiokafka tells them to nobody."""
    coordinator: Any = consumer._coordinator
    return coordinator.generation, coordinator.member_id


def failed(error: BaseException) -> str:
    """Name of an error, as a transcript shows it."""
    return type(error).__name__


async def outcome(call: Awaitable[object]) -> str:
    """Return 'ok', or the name of the error of the client library."""
    try:
        await call
    except KafkaError as error:
        return failed(error)
    return "ok"
