"""The models of a worker as a fold of the committed delta log of all partitions.

Deltas of partitions that this worker owns are in the models when they are committed; the others are tailed.
Two vectors tell where we are: what was folded (the model version), and how far the log was read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from online_models.delta import DeltaError
from stream.runtime.chunks import PART, Joiner, cut
from stream.runtime.consuming import POLL_MS, read_to_end
from stream.runtime.errors import WorkerError
from stream.runtime.foldpath import FoldPath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from online_models.fold import ModelSet
    from stream.runtime.snapshots import SnapshotLog
    from stream.runtime.transport import LogRecord, Reader, Transport
    from stream.runtime.turns import ModelTurns

__all__ = ["ModelLog", "ModelLogError", "delta_records"]

CATCH_UP_S: Final = 60.0
SNAPSHOT_CHECK_S: Final = 1.0
SNAPSHOT_RETRY_S: Final = 30.0
MARKERS_S, RETRY_S = 10.0, 0.2  # until readers see what a producer was told to be committed
_FIRST, _NEXT = "nudge.first_offset", "nudge.next_offset"

logger = structlog.get_logger(__name__)


class ModelLogError(WorkerError):
    """The delta log cannot be folded by this worker's models."""

    exit_code = 78


def delta_records(
    delta: bytes, first_offset: int, next_offset: int
) -> Iterator[tuple[bytes, list[tuple[str, bytes]]]]:
    """Yield values and headers of a delta's records; they name the input records it was learned from."""
    for value, part in cut(delta):
        yield value, [(_FIRST, b"%d" % first_offset), (_NEXT, b"%d" % next_offset), (PART, part)]


class ModelLog:
    """Folds committed deltas into a worker's models.

    Attributes
    ----------
    path : FoldPath
        In which order.
    """

    def __init__(
        self, transport: Transport, topic: str, turns: ModelTurns, snapshots: SnapshotLog, n_partitions: int
    ) -> None:
        self.path = FoldPath()
        self._transport = transport
        self._topic = topic
        self._partitions = [TopicPartition(topic, p) for p in range(n_partitions)]
        self._turns = turns
        self._snapshots = snapshots
        self._owned: dict[int, object] = {}  # partitions that this worker writes, and who does
        self._folded = [0] * n_partitions  # offset after the last delta that is in the models
        self._read = [0] * n_partitions  # how far the log was read
        self._covered = [0] * n_partitions  # the input offset up to which deltas exist
        self._joiners = [Joiner() for _ in range(n_partitions)]
        self._unsaved = 0  # bytes of deltas that came after the newest snapshot
        self._saved = 0  # bytes of the newest snapshot
        self._moved = asyncio.Event()
        self._ready = asyncio.Event()
        self._reader: Reader

    @property
    def version(self) -> str:
        """Which deltas are in the models: ``partition:offset`` of each partition that has taught."""
        return ",".join(f"{p}:{offset}" for p, offset in enumerate(self._folded) if offset) or "0"

    def covered(self, partition: int) -> int:
        """Return the input offset up to which a partition's records have been learned and published."""
        return self._covered[partition]

    async def restore(self) -> None:
        """Restore the newest snapshot and what came after it, once."""
        async with self._transport.reader(self._partitions) as reader:
            await self._fold_to_end(reader)

    async def run(self) -> None:
        """Restore, then tail the log until cancelled."""
        async with self._transport.reader(self._partitions) as reader:
            try:
                await self._fold_to_end(reader)
                self._reader = reader
                self._ready.set()
                await self._tail(reader)
            except OffsetOutOfRangeError as error:
                raise WorkerError(
                    f"{self._topic} was trimmed behind a snapshot before this worker had read it ({error}); "
                    "a new process begins at the snapshot"
                ) from error

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
        ends = await self._reader.end_offsets(tailed)
        async with asyncio.timeout(CATCH_UP_S):
            while any(
                self._read[tp.partition] < end for tp, end in ends.items() if tp.partition not in self._owned
            ):
                self._moved.clear()
                await self._moved.wait()

    def acquire(self, partition: int, writer: object) -> None:
        """From here on ``writer`` writes the partition's deltas, and they are not read."""
        self._owned[partition] = writer
        self._reader.pause(TopicPartition(self._topic, partition))

    def release(self, partition: int, writer: object) -> None:
        """Somebody else may write the partition's deltas; those that are in the models are not read again.

        Nothing happens when another writer has it already.
        """
        if self._owned.get(partition) is not writer:
            return
        del self._owned[partition]
        tp = TopicPartition(self._topic, partition)
        self._read[partition] = self._folded[partition]
        self._joiners[partition] = Joiner()
        self._reader.seek(tp, self._folded[partition])
        self._reader.resume(tp)

    def kept(self, partition: int, end: int, next_input: int, n_bytes: int) -> None:
        """Note that an own delta is in the models and on the log, which goes on at ``end``."""
        self._folded[partition] = end
        self._covered[partition] = max(self._covered[partition], next_input)
        self.path.took("o", partition, end)
        self._unsaved += n_bytes

    async def save_snapshots(self, after_bytes: int, count: Callable[[str], None]) -> None:
        """Write a snapshot whenever so many bytes of deltas have come; the owner of partition 0 does.

        A snapshot that is larger than that waits for as many bytes as it has itself, so writing them never
        costs more than the deltas do. A failure is logged and tried again: the log holds all of it.

        Parameters
        ----------
        count : callable
            Told ``written`` or ``failed``.
        """
        while True:
            await asyncio.sleep(SNAPSHOT_CHECK_S)
            if 0 not in self._owned or self._unsaved < max(after_bytes, self._saved):
                continue
            try:
                await self._save_snapshot()
                count("written")
            except (KafkaError, TimeoutError, OSError) as error:
                count("failed")
                logger.warning("snapshot_failed", error=repr(error), retry_s=SNAPSHOT_RETRY_S)
                await asyncio.sleep(SNAPSHOT_RETRY_S)

    async def _save_snapshot(self) -> None:
        async with self._turns.floor(), self._turns.turn() as models:
            positions, covered, unsaved = list(self._folded), list(self._covered), self._unsaved
            # In a thread, for it takes as long as there are items: batches wait for it, heartbeats need not.
            arrays = await asyncio.to_thread(models.snapshot)
        n_bytes, older = await self._snapshots.write(arrays, positions, covered)
        self._saved, self._unsaved = n_bytes, self._unsaved - unsaved
        logger.info("snapshot_written", bytes=n_bytes, positions=positions)
        if older is not None:
            trimmed = {TopicPartition(self._topic, p): end for p, end in enumerate(older.positions) if end}
            await self._transport.delete_before(trimmed)
            logger.info("model_log_trimmed", positions=older.positions)

    async def _fold_to_end(self, reader: Reader) -> None:
        await self._begin(reader)
        async for records in read_to_end(reader):
            async with self._turns.turn() as models:
                self._fold(models, records, restoring=True)
            await asyncio.sleep(0)  # heartbeats and probes live while a long log is folded
        await self._note_positions(reader)

    async def _begin(self, reader: Reader) -> None:
        """Take the newest snapshot over, and let the reader go on behind it."""
        starts = await reader.beginning_offsets(self._partitions)
        snapshot = await self._snapshots.newest([starts[tp] for tp in self._partitions])
        if snapshot is None:
            if any(starts.values()):
                raise ModelLogError(
                    f"{self._topic} begins at {list(starts.values())}, not at 0, and no complete snapshot "
                    "holds what is gone; restore the topics, or start over under a new "
                    "NUDGE_KAFKA__TOPIC_PREFIX"
                )
            return
        await self._require_ends(reader, snapshot.manifest.positions)
        async with self._turns.turn() as models:
            try:
                await asyncio.to_thread(models.restore, snapshot.arrays)
            except ValueError as error:
                raise ModelLogError(f"snapshot {snapshot.manifest.id}: {error}; {_OTHER_SETTINGS}") from error
        self._folded = list(snapshot.manifest.positions)
        self._covered = list(snapshot.manifest.covered)
        self._saved = snapshot.n_bytes
        self.path.restored(snapshot.manifest.id)
        for tp in self._partitions:
            reader.seek(tp, self._folded[tp.partition])
        logger.info("snapshot_restored", id=snapshot.manifest.id, bytes=snapshot.n_bytes)

    async def _require_ends(self, reader: Reader, positions: Sequence[int]) -> None:
        """Check that the log goes as far as a snapshot; markers of its last deltas may be on their way."""
        deadline = asyncio.get_running_loop().time() + MARKERS_S
        while True:
            ends = await reader.end_offsets(self._partitions)
            if all(ends[tp] >= position for tp, position in zip(self._partitions, positions, strict=True)):
                return
            if asyncio.get_running_loop().time() > deadline:
                raise ModelLogError(
                    f"{self._topic} ends at {list(ends.values())}, but the newest snapshot holds it up to "
                    f"{list(positions)}: the log was lost; restore the topics, or start over under a new "
                    "NUDGE_KAFKA__TOPIC_PREFIX"
                )
            await asyncio.sleep(RETRY_S)

    async def _tail(self, reader: Reader) -> None:
        while True:
            chunks = await reader.getmany(timeout_ms=POLL_MS)
            for records in chunks.values():
                async with self._turns.floor(), self._turns.turn() as models:
                    self._fold(models, records, restoring=False)
            await self._note_positions(reader)

    async def _note_positions(self, reader: Reader) -> None:
        for p in range(len(self._read)):
            if p not in self._owned:
                self._read[p] = await reader.position(TopicPartition(self._topic, p))
        self._moved.set()

    def _fold(self, models: ModelSet, records: list[LogRecord], *, restoring: bool) -> None:
        for record in records:
            partition, headers = record.partition, dict(record.headers)
            if record.offset < self._folded[partition] or partition in self._owned:
                continue
            delta = self._joiners[partition].add(record.value or b"", headers[PART])
            # A repeated batch (at_least_once) has taught already what it begins with.
            if delta is None or int(headers[_FIRST]) < self._covered[partition]:
                continue
            try:
                models.fold(delta)
            except DeltaError as error:
                raise ModelLogError(
                    f"{self._topic} partition {partition} offset {record.offset} cannot be folded: {error}; "
                    f"{_OTHER_SETTINGS}"
                ) from error
            self._folded[partition] = record.offset + 1
            self._covered[partition] = max(self._covered[partition], int(headers[_NEXT]))
            self.path.took("r" if restoring else "f", partition, record.offset + 1)
            self._unsaved += len(delta)


_OTHER_SETTINGS: Final = (
    "it was written under other model settings or is damaged: use those settings, or a new "
    "NUDGE_KAFKA__TOPIC_PREFIX to start over"
)
