"""Topics, events and campaigns of a test under a prefix of its own, and what a worker left on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import TopicPartition

from schemas.campaigns import Campaign
from stream.runtime import topics
from stream.runtime.consuming import open_reader, read_to_end, read_topic
from stream.runtime.producing import produce
from stream.runtime.statecodec import HEADER_KEY, decode_header
from stream.runtime.transport import LogRecord
from stream.sections import KafkaSettings

ANSWER_S = 3.0  # a frozen broker must not freeze the test


def create_topics(bootstrap: str, name: str, **kafka: Any) -> Setup:
    """Make all topics of a test; its name is their prefix and the group, the rest are settings."""
    setup = Setup(KafkaSettings(bootstrap=bootstrap, topic_prefix=f"{name}.", group=name, **kafka))
    setup.create()
    return setup


@dataclass(frozen=True, slots=True)
class Setup:
    """A set of topics on a broker."""

    kafka: KafkaSettings

    @property
    def names(self) -> topics.TopicNames:
        """Full topic names."""
        return topics.TopicNames(self.kafka.topic_prefix)

    @property
    def environment(self) -> dict[str, str]:
        """The settings as a worker takes them."""
        values = self.kafka.model_dump().items()
        return {f"KAFKA__{key.upper()}": str(value) for key, value in values if value is not None}

    def create(self) -> None:
        """Create all topics."""

        async def create() -> None:
            async with topics.open_admin(self.kafka.bootstrap) as admin:
                await topics.apply(admin, self.kafka)

        asyncio.run(create())

    def produce_events(self, lines: Iterable[bytes]) -> None:
        """Write events, keyed by user."""
        asyncio.run(produce(self.kafka.bootstrap, self.names.events, lines))

    def produce_campaigns(self, campaigns: Sequence[Campaign]) -> None:
        """Write campaigns, keyed by id."""
        lines = [msgspec.json.encode(campaign) for campaign in campaigns]
        asyncio.run(produce(self.kafka.bootstrap, self.names.campaigns, lines, key="campaign_id"))

    def read(self, topic: str, *, read_committed: bool = True) -> list[LogRecord]:
        """All records of a topic now, by partition and offset."""
        return asyncio.run(read_topic(self.kafka.bootstrap, topic, read_committed=read_committed))

    def scan(self, topic: str) -> Iterator[LogRecord]:
        """The same, committed ones, one by one: a topic of a long run need not fit into memory."""
        with asyncio.Runner() as runner:
            chunks = self._chunks(topic)
            try:
                while chunk := runner.run(_next(chunks)):
                    yield from chunk
            finally:
                runner.run(chunks.aclose())

    async def _chunks(self, topic: str) -> AsyncGenerator[list[LogRecord], None]:
        for partition in range(self.kafka.partitions):
            async with open_reader(self.kafka.bootstrap, [TopicPartition(topic, partition)]) as reader:
                async for chunk in read_to_end(reader):
                    yield chunk

    def ends(self, topic: str) -> dict[int, int]:
        """Where each partition of a topic ends now."""

        async def ends() -> dict[int, int]:
            async with topics.open_admin(self.kafka.bootstrap) as admin:
                count = (await topics.partition_counts(admin))[topic]
            partitions = [TopicPartition(topic, p) for p in range(count)]
            async with open_reader(self.kafka.bootstrap, partitions) as reader:
                return {tp.partition: end for tp, end in (await reader.end_offsets(partitions)).items()}

        return asyncio.run(ends())

    def committed(self) -> int:
        """How many input records the group has committed, over all partitions; cheaper than `applied`."""
        return sum(self.committed_offsets().values())

    def committed_offsets(self) -> dict[int, int]:
        """The group's next offset of each partition.

        Raises
        ------
        TimeoutError
            The broker does not answer.
        """

        async def committed() -> dict[int, int]:
            async with asyncio.timeout(ANSWER_S), topics.open_admin(self.kafka.bootstrap) as admin:
                offsets = await admin.list_consumer_group_offsets(self.kafka.group)
            return {tp.partition: max(found.offset, 0) for tp, found in offsets.items()}

        return asyncio.run(committed())

    def applied(self) -> int:
        """How many input records are in the committed state, over all partitions."""
        newest: dict[int, int] = {}
        for record in self.read(self.names.user_state):
            if record.key == HEADER_KEY and record.value:
                newest[record.partition] = decode_header(record.value)[1]
        return sum(newest.values())


async def _next(chunks: AsyncGenerator[list[LogRecord], None]) -> list[LogRecord] | None:
    return await anext(chunks, None)
