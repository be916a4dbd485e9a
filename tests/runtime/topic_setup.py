"""Topics, events and campaigns of a test under a prefix of its own, and what a worker left on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from schemas.catalogue import Campaign
from stream.runtime import topics
from stream.runtime.consuming import read_topic
from stream.runtime.producing import produce
from stream.runtime.statecodec import HEADER_KEY, decode_header
from stream.runtime.transport import LogRecord
from stream.settings import KafkaSettings


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

    def applied(self) -> int:
        """How many input records are in the committed state, over all partitions."""
        newest: dict[int, int] = {}
        for record in self.read(self.names.user_state):
            if record.key == HEADER_KEY and record.value:
                newest[record.partition] = decode_header(record.value)[1]
        return sum(newest.values())
