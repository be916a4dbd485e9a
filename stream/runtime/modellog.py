"""The models of a worker as a fold of the committed delta log of all partitions.

Deltas of partitions that this worker owns are in the models already when they are committed; the others are
tailed. Two vectors tell where we are: what was folded (the model version), and how far the log was read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from online_models.delta import DeltaError
from stream.runtime.consuming import POLL_MS, open_reader, read_to_end
from stream.runtime.errors import WorkerError

if TYPE_CHECKING:
    from online_models.fold import ModelSet
    from stream.runtime.transport import LogRecord

__all__ = ["MAX_DELTA_BYTES", "ModelLog", "ModelLogError", "delta_headers"]

MAX_DELTA_BYTES: Final = 32_000_000  # of the 32 MiB that the topic takes, less the record's own overhead
CATCH_UP_S: Final = 60.0
_FIRST, _NEXT = "nudge.first_offset", "nudge.next_offset"

logger = structlog.get_logger(__name__)


class ModelLogError(WorkerError):
    """The delta log cannot be folded by this worker's models."""

    exit_code = 78


def delta_headers(first_offset: int, next_offset: int) -> list[tuple[str, bytes]]:
    """Name the input records that a delta was learned from."""
    return [(_FIRST, b"%d" % first_offset), (_NEXT, b"%d" % next_offset)]


class ModelLog:
    """Folds committed deltas into a worker's models.

    Parameters
    ----------
    gate : asyncio.Lock
        Held while a batch is open; folding waits for it.
    """

    def __init__(self, bootstrap: str, topic: str, models: ModelSet, gate: asyncio.Lock) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._models = models
        self._gate = gate
        self._owned: set[int] = set()
        self._folded: list[int] = []  # per partition: offset after the last delta that is in the models
        self._read: list[int] = []  # per partition: how far the log was read
        self._covered: list[int] = []  # per partition: the input offset up to which deltas exist
        self._moved = asyncio.Event()
        self._ready = asyncio.Event()

    @property
    def version(self) -> str:
        """Which deltas are in the models: ``partition:offset`` of each partition that has taught."""
        return ",".join(f"{p}:{offset}" for p, offset in enumerate(self._folded) if offset) or "0"

    def covered(self, partition: int) -> int:
        """Return the input offset up to which a partition's records have been learned and published."""
        return self._covered[partition]

    async def run(self, n_partitions: int) -> None:
        """Fold the log up to its end, then tail it until cancelled."""
        self._folded = [0] * n_partitions
        self._read = [0] * n_partitions
        self._covered = [0] * n_partitions
        partitions = [TopicPartition(self._topic, p) for p in range(n_partitions)]
        async with open_reader(self._bootstrap, partitions) as consumer:
            starts = await consumer.beginning_offsets(partitions)
            if any(starts.values()):
                raise ModelLogError(
                    f"{self._topic} begins at {list(starts.values())}, not at 0: deltas "
                    "that no snapshot holds are gone; restore the topic, or start over under a new "
                    "NUDGE_KAFKA__TOPIC_PREFIX"
                )
            async for records in read_to_end(consumer):
                self._fold(records, restoring=True)
                await asyncio.sleep(0)  # heartbeats and probes live while a long log is folded
            await self._note_positions(consumer)
            self._consumer = consumer
            self._ready.set()
            await self._tail(consumer)

    async def restored(self) -> None:
        """Wait until the log was folded up to where it ended at the start."""
        await self._ready.wait()

    async def catch_up(self) -> None:
        """Wait until all that others have committed by now is folded.

        Raises
        ------
        TimeoutError
            The log cannot be read to its end within a minute.
        """
        await self._ready.wait()
        tailed = [TopicPartition(self._topic, p) for p in range(len(self._read)) if p not in self._owned]
        if not tailed:
            return
        ends = await self._consumer.end_offsets(tailed)
        async with asyncio.timeout(CATCH_UP_S):
            while any(
                self._read[tp.partition] < end for tp, end in ends.items() if tp.partition not in self._owned
            ):
                self._moved.clear()
                await self._moved.wait()

    def acquire(self, partition: int) -> None:
        """From here on this worker writes the partition's deltas and does not read them."""
        self._owned.add(partition)
        self._consumer.pause(TopicPartition(self._topic, partition))

    def release(self, partition: int) -> None:
        """Somebody else may write the partition's deltas; those that are in the models are not read again."""
        if partition not in self._owned:
            return
        self._owned.discard(partition)
        tp = TopicPartition(self._topic, partition)
        self._read[partition] = self._folded[partition]
        self._consumer.seek(tp, self._folded[partition])
        self._consumer.resume(tp)

    def kept(self, partition: int, offset: int, next_input: int) -> None:
        """Note that an own delta was committed at ``offset`` and is in the models."""
        self._folded[partition] = offset + 1
        self._covered[partition] = max(self._covered[partition], next_input)

    async def _tail(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            chunks = await consumer.getmany(timeout_ms=POLL_MS)
            for records in chunks.values():
                async with self._gate:
                    self._fold(records, restoring=False)
            await self._note_positions(consumer)

    async def _note_positions(self, consumer: AIOKafkaConsumer) -> None:
        for p in range(len(self._read)):
            if p not in self._owned:
                self._read[p] = await consumer.position(TopicPartition(self._topic, p))
        self._moved.set()

    def _fold(self, records: list[LogRecord], *, restoring: bool) -> None:
        for record in records:
            partition, headers = record.partition, dict(record.headers)
            if record.offset < self._folded[partition] or partition in self._owned:
                continue
            # A repeated batch (at_least_once) has taught already what it begins with.
            if int(headers.get(_FIRST, b"0")) < self._covered[partition]:
                continue
            try:
                self._models.fold(record.value or b"", restoring=restoring)
            except DeltaError as error:
                raise ModelLogError(
                    f"{self._topic} partition {partition} offset {record.offset} cannot be folded: {error}; "
                    "it was written under other model settings or is damaged: use those settings, or a new "
                    "NUDGE_KAFKA__TOPIC_PREFIX to start over"
                ) from error
            self._folded[partition] = record.offset + 1
            self._covered[partition] = max(self._covered[partition], int(headers.get(_NEXT, b"0")))
