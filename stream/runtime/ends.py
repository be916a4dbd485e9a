"""Where the input ends, as its brokers say when they are asked, and how long they have said nothing.

Fetches tell it too, but not that they are not answered: the client then keeps the last end it saw, and a
worker that nobody answers looks like one that has nothing to do.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from aiokafka.errors import KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiokafka import TopicPartition

    from stream.runtime.transport import GroupConsumer

__all__ = ["InputEnds"]

ASK_S: Final = 5.0

logger = structlog.get_logger(__name__)


class InputEnds:
    """Asks the leaders of partitions for their ends, every few seconds.

    Parameters
    ----------
    consumer : GroupConsumer
        Asks, and knows what fetches saw.
    partitions : callable
        Which partitions to ask for; never none, so that a worker without a partition hears as well.
    """

    def __init__(self, consumer: GroupConsumer, partitions: Callable[[], Sequence[TopicPartition]]) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._clock = asyncio.get_running_loop().time
        self._answered_at = self._clock()
        self._told: dict[TopicPartition, int] = {}

    def silent_s(self) -> float:
        """Time since all that were asked have answered."""
        return max(self._clock() - self._answered_at, 0.0)

    def excuse(self, late_s: float) -> None:
        """Leave time out in which the whole process stood still."""
        self._answered_at += late_s

    def of(self, partition: TopicPartition) -> int | None:
        """Where the committed part of a partition ends, as far as anybody told; ``None`` if nobody did."""
        known = partition in self._consumer.assignment()
        fetched = self._consumer.last_stable_offset(partition) if known else None
        # A fetch must have come first: its positions are what the end is compared with.
        return fetched if fetched is None else max(fetched, self._told.get(partition, 0))

    async def follow(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(ASK_S)
            try:
                self._told = await self._consumer.end_offsets(self._partitions())
            except (KafkaError, OSError) as error:
                logger.warning("ends_unknown", error=repr(error), silent_s=round(self.silent_s(), 1))
                continue
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                continue  # the client cancels what waits for a connection that it closes
            self._answered_at = self._clock()
