"""Record batches for one partition number of several topics, built here and handed to the producer whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import AIOKafkaProducer
    from aiokafka.producer.message_accumulator import BatchBuilder

__all__ = ["Outbox"]


class Outbox:
    """What one batch of the input causes.

    A future per batch instead of one per record: ``send`` for each record costs several times as much.
    """

    def __init__(self, producer: AIOKafkaProducer, partition: int) -> None:
        self._producer = producer
        self._partition = partition
        self._builders: dict[str, list[BatchBuilder]] = {}

    def add(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """Append a record; order within a topic is kept."""
        builders = self._builders.setdefault(topic, [])
        fits = builders and builders[-1].append(timestamp=None, key=key, value=value, headers=list(headers))
        if not fits:
            builders.append(self._producer.create_batch())
            builders[-1].append(timestamp=None, key=key, value=value, headers=list(headers))

    async def send(self) -> dict[str, int]:
        """Send all, wait until the broker has every batch, and return the first offset in each topic.

        A commit succeeds although a record inside was refused: commit nothing before this returns.

        Raises
        ------
        KafkaError
            The first of the batches that were refused.
        """
        builders, self._builders = self._builders, {}
        sent: list[tuple[str, asyncio.Future[object]]] = []
        try:
            for topic, batches in builders.items():
                for batch in batches:
                    batch.close()
                    future = await self._producer.send_batch(batch, topic, partition=self._partition)
                    sent.append((topic, future))
        finally:
            results = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
        first: dict[str, int] = {}
        for (topic, _), result in zip(sent, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            first.setdefault(topic, result.offset)  # type: ignore[attr-defined]  # aiokafka's RecordMetadata
        return first
