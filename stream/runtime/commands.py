"""Operators' commands: read for the partitions that are ours, and handed to each with its next batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from stream.runtime.consuming import POLL_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.runtime.transport import LogRecord, Reader, Transport

__all__ = ["CommandLog"]

MAX_WAITING: Final = 1000  # commands of one partition in memory; the rest stays on the topic meanwhile

logger = structlog.get_logger(__name__)


class CommandLog:
    """Reads the commands topic for the partitions of one worker.

    Where a partition goes on is part of its state, and moves with the transaction that holds what the
    commands did: after any crash a command is obeyed again, or was obeyed, never half.
    """

    def __init__(self, transport: Transport, topic: str, n_partitions: int) -> None:
        self._transport = transport
        self._partitions = [TopicPartition(topic, p) for p in range(n_partitions)]
        self._waiting: dict[int, list[LogRecord]] = {}  # by partition that is followed
        self._next: dict[int, int] = {}  # offset of the next record to take over
        self._ready = asyncio.Event()
        self._reader: Reader

    async def run(self) -> None:
        """Read for whoever follows, until cancelled."""
        async with self._transport.reader(self._partitions) as reader:
            self._reader = reader
            reader.pause(*self._partitions)
            self._ready.set()
            while True:
                try:
                    fetched = await reader.getmany(timeout_ms=POLL_MS)
                except OffsetOutOfRangeError as error:
                    await self._go_on(error)
                    continue
                for tp, records in fetched.items():
                    self._take_over(tp, records)

    async def follow(self, partition: int, offset: int) -> None:
        """Read a partition's commands from an offset on."""
        await self._ready.wait()
        tp = self._partitions[partition]
        self._waiting[partition], self._next[partition] = [], offset
        self._reader.seek(tp, offset)
        self._reader.resume(tp)

    def unfollow(self, partition: int) -> None:
        """Read no more of a partition."""
        if self._waiting.pop(partition, None) is not None:
            self._reader.pause(self._partitions[partition])

    def waits(self, partition: int) -> bool:
        """Whether there are commands to obey."""
        return bool(self._waiting.get(partition))

    def take(self, partition: int) -> Sequence[LogRecord]:
        """Take what waits, in order."""
        records = self._waiting.get(partition)
        if not records:
            return ()
        self._waiting[partition] = []
        self._reader.resume(self._partitions[partition])
        return records

    def _take_over(self, tp: TopicPartition, records: Sequence[LogRecord]) -> None:
        waiting = self._waiting.get(tp.partition)
        if waiting is None or records[0].offset < self._next[tp.partition]:
            return  # fetched before it was let go, or before a seek
        waiting += records
        self._next[tp.partition] = records[-1].offset + 1
        if len(waiting) >= MAX_WAITING:
            self._reader.pause(tp)

    async def _go_on(self, error: OffsetOutOfRangeError) -> None:
        """Go on at the first command there is: older ones went by the topic's retention."""
        partitions = list(error.args[0])
        for tp, first in (await self._reader.beginning_offsets(partitions)).items():
            if self._next.get(tp.partition, 0) > 0:
                logger.error("commands_lost", partition=tp.partition, first=first)
            self._next[tp.partition] = first
            self._reader.seek(tp, first)
