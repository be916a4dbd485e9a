"""What the data plane asks of Kafka, and nothing more: the seam between the plane and its broker.

:mod:`stream.runtime.kafka` answers with aiokafka; the simulation of the tests answers on a virtual clock. The
names and meanings are aiokafka's, its errors and ``TopicPartition`` included, so its clients fit as they are.
All waiting is asyncio's: whoever brings another event loop brings another clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from aiokafka import ConsumerRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from aiokafka import ConsumerRebalanceListener, TopicPartition

__all__ = ["Batch", "GroupConsumer", "LogRecord", "Producer", "Reader", "Sent", "Transport"]

LogRecord: TypeAlias = ConsumerRecord[bytes, bytes]


class Sent(Protocol):
    """Where the broker put a batch."""

    @property
    def offset(self) -> int:
        """Offset of the batch's first record."""


class Batch(Protocol):
    """Records of one topic partition on their way; closed before it is sent."""

    def append(
        self,
        *,
        timestamp: None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> object | None:
        """Add a record; ``None`` when it does not fit. The first record always fits."""

    def close(self) -> object:
        """Take no more."""


class Producer(Protocol):
    """A producer, transactional where it has a transactional id."""

    async def start(self) -> None:
        """Connect. With a transactional id: fence the predecessor and end its open transaction."""

    async def stop(self) -> None:
        """Let go of the connection; an open transaction stays open until a fence or its timeout."""

    def create_batch(self) -> Batch:
        """Begin a batch."""

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Awaitable[Sent]:
        """Queue a batch; what comes back ends when the broker has it, or with its refusal."""

    async def begin_transaction(self) -> None:
        """Open a transaction."""

    async def send_offsets_to_transaction(self, offsets: Mapping[TopicPartition, int], group: str) -> None:
        """Let the group's offsets move with the transaction."""

    async def commit_transaction(self) -> None:
        """Commit; any error means that the result is unknown."""


class Reader(Protocol):
    """Reads given partitions at ``read_committed``, without a group."""

    def assignment(self) -> Iterable[TopicPartition]:
        """The partitions."""

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, list[LogRecord]]:
        """Next records of the partitions given, or of all; waits at most so long for the first."""

    async def position(self, partition: TopicPartition) -> int:
        """Offset after the last record that was handed out, transaction markers included."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on from there."""

    def pause(self, *partitions: TopicPartition) -> None:
        """Hand out nothing of these."""

    def resume(self, *partitions: TopicPartition) -> None:
        """Undo :meth:`pause`."""

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """First offsets that the log still holds."""

    async def offsets_for_times(
        self, times: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, Sent | None]:
        """First records at or after times, milliseconds since the epoch; ``None`` where there is none."""

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Where the committed part of the log ends now (the last stable offset)."""


class GroupConsumer(Reader, Protocol):
    """A member of the group, which tells it what to read."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Leave the group, unless membership is static."""

    def subscribe(self, topics: Sequence[str], *, listener: ConsumerRebalanceListener) -> None:
        """Join; the listener hears what is revoked and assigned."""

    def check_group(self) -> None:
        """Raise what the group's protocol failed with since the last call; it is tried again after that."""

    def last_stable_offset(self, partition: TopicPartition) -> int | None:
        """The last stable offset that a fetch saw; ``None`` before the first."""

    async def committed(self, partition: TopicPartition) -> int | None:
        """The group's next offset as last committed; what a transaction holds pending does not show."""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Move the group's offsets."""


class Transport(Protocol):
    """Opens clients of one cluster."""

    async def partition_counts(self) -> dict[str, int]:
        """Partitions of the topics that the plane uses.

        Raises
        ------
        TopicMismatchError
            A topic is missing, or counts that must be equal differ.
        """

    async def cluster_id(self) -> str:
        """What tells this cluster from any other."""

    def producer(self, client_id: str, transactional_id: str | None = None) -> Producer:
        """A producer, not started."""

    def reader(self, partitions: Sequence[TopicPartition]) -> AbstractAsyncContextManager[Reader]:
        """A reader at the beginning of the partitions."""

    def group_consumer(self) -> GroupConsumer:
        """A member of the settings' group, not started, that never resets an offset by itself."""

    async def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Delete the records before the offsets."""
