"""Record batches for one partition number of several topics, built here and handed to the producer whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka.errors import IllegalOperation, KafkaError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from stream.runtime.transport import Batch, Producer, Sent

__all__ = ["Outbox"]


class Outbox:
    """What one batch of the input causes.

    A future per batch instead of one per record: ``send`` for each record costs several times as much.
    """

    def __init__(self, producer: Producer, partition: int) -> None:
        self._producer = producer
        self._partition = partition
        self._batches: dict[str, list[Batch]] = {}
        self._in_last: dict[str, int] = {}  # records in the last batch of each topic

    def add(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """Append a record; order within a topic is kept."""
        batches, fields = self._batches.setdefault(topic, []), list(headers)
        if batches and batches[-1].append(timestamp=None, key=key, value=value, headers=fields):
            self._in_last[topic] += 1
            return
        batches.append(self._producer.create_batch())
        batches[-1].append(timestamp=None, key=key, value=value, headers=fields)
        self._in_last[topic] = 1

    async def send(self) -> dict[str, int]:
        """Send all, wait until the broker has every batch; return the offset after the last record by topic.

        A commit succeeds although a record inside was refused: commit nothing before this returns.

        Raises
        ------
        KafkaError
            The first of the batches that were refused, or that the producer failed before all were sent.
        """
        batches, self._batches = self._batches, {}
        sent: list[tuple[str, Awaitable[Sent]]] = []
        failed: IllegalOperation | None = None
        try:
            for topic, several in batches.items():
                for batch in several:
                    batch.close()
                    future = await self._producer.send_batch(batch, topic, partition=self._partition)
                    sent.append((topic, future))
        except (
            IllegalOperation
        ) as error:  # no KafkaError: the transaction broke meanwhile, and a future knows why
            failed = error
        finally:
            results = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
        ends: dict[str, int] = {}
        for (topic, _), result in zip(sent, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            ends[topic] = result.offset + self._in_last[topic]
        if failed is not None:
            raise KafkaError(str(failed)) from failed
        return ends
