"""The group's offsets without transactions: one request at a time, for all partitions that wait.

aiokafka sends one such request after the other, so partitions that commit at the same time would queue.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from stream.runtime.transport import GroupConsumer

__all__ = ["OffsetCommits"]


class OffsetCommits:
    """Commits offsets of one member of the group."""

    def __init__(self, consumer: GroupConsumer) -> None:
        self._consumer = consumer
        self._lock = asyncio.Lock()
        self._waiting: dict[TopicPartition, int] = {}

    async def commit(self, source: TopicPartition, offset: int) -> None:
        """Move a partition's offset, and with the same request those of all that wait as well.

        Where the request fails it is this caller's failure alone: the others ask again for themselves.

        Raises
        ------
        KafkaError
            The offset was not moved, as far as we know.
        """
        self._waiting[source] = offset
        try:
            async with self._lock:
                if source not in self._waiting:
                    return  # who had the lock before has moved it
                offsets, self._waiting = self._waiting, {}
                try:
                    await self._consumer.commit(offsets)
                except BaseException:
                    self._waiting = {**offsets, **self._waiting}
                    raise
        finally:
            self._waiting.pop(source, None)
