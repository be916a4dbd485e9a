"""The transport over aiokafka: how each client of the data plane is set up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import RecordsToDelete
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import TopicAuthorizationFailedError

from stream.runtime.connecting import connection
from stream.runtime.consuming import open_reader
from stream.runtime.topics import open_admin, plan, require_partitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from aiokafka import TopicPartition

    from stream.runtime.transport import GroupConsumer, Producer, Reader
    from stream.sections import KafkaSettings

__all__ = ["BATCH_BYTES", "MAX_RECORD_BYTES", "KafkaTransport"]

FETCH_BYTES: Final = 1 << 20  # per partition; with the records in hand it bounds what waits in memory
# A transaction's batches are encoded once more for the wire at this size; the broker's limit is 1 MiB.
BATCH_BYTES: Final = 512 << 10
MAX_RECORD_BYTES: Final = 2 << 20  # a dead letter: the largest input record and its error headers
ANSWER_MS: Final = 5000  # within which a broker that is there answers
BEYOND_SESSION_MS: Final = 1000  # for the answer after a rebalance of that length

NO_LIMIT_MS: Final = 2**31 - 1

logger = structlog.get_logger(__name__)


class _Member(AIOKafkaConsumer):
    """A consumer that can be asked about its group without fetching."""

    def check_group(self) -> None:
        """Raise what the group's protocol failed with; until somebody asks, it is not tried again.

        aiokafka tells whoever fetches, and a member without partitions has nothing to fetch.
        """
        if self._coordinator is not None:
            self._coordinator.check_errors()


class KafkaTransport:
    """Clients of the cluster that the settings name."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    async def partition_counts(self) -> dict[str, int]:
        """Check the topics; settings of theirs that differ are logged and left to the operator."""
        async with open_admin(self._kafka) as admin:
            counts = await require_partitions(admin, self._kafka)
            try:
                changes = await plan(admin, self._kafka)
            except TopicAuthorizationFailedError as error:  # to compare them is a service, not a need
                logger.warning("topics_not_compared", error=str(error))
                return counts
            for change in changes:
                if change.action == "config":
                    logger.warning("topic_differs", topic=change.topic, detail=change.detail)
        return counts

    async def cluster_id(self) -> str:
        """Ask the cluster."""
        async with open_admin(self._kafka) as admin:
            return str((await admin.describe_cluster()).get("cluster_id"))

    def producer(self, client_id: str, transactional_id: str | None = None) -> Producer:
        """An idempotent producer that waits for all replicas."""
        options: dict[str, object] = {}
        if transactional_id is not None:
            options["transactional_id"] = transactional_id
            options["transaction_timeout_ms"] = self._kafka.transaction_timeout_ms
        return AIOKafkaProducer(
            **connection(self._kafka),
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            compression_type="snappy",  # aiokafka's lz4 runs at level 9: 55 MB/s here, snappy 800 MB/s
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=max(self._kafka.transaction_timeout_ms, 1000),
            **options,
        )

    def reader(self, partitions: Sequence[TopicPartition]) -> AbstractAsyncContextManager[Reader]:
        """A reader without a group."""
        return open_reader(self._kafka, partitions, request_timeout_ms=ANSWER_MS)

    def group_consumer(self) -> GroupConsumer:
        """A member of the group; static where it has an instance id."""
        kafka = self._kafka
        return _Member(  # type: ignore[no-untyped-call]  # aiokafka's
            **connection(kafka),
            group_id=kafka.group,
            group_instance_id=kafka.instance_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=kafka.session_timeout_ms,
            # A connection that is dead without saying so is given up after this; the default is 40 s. It is
            # waited for twice, first by a heartbeat and then on the way to the coordinator, and it must
            # outlast a rebalance, which waits a session for members that died.
            request_timeout_ms=kafka.session_timeout_ms + BEYOND_SESSION_MS,
            heartbeat_interval_ms=kafka.session_timeout_ms // 5,
            max_poll_interval_ms=NO_LIMIT_MS,  # who has no partition does not poll; we watch commits instead
            partition_assignment_strategy=(RangePartitionAssignor,),
            fetch_max_wait_ms=kafka.batch_ms,
            max_partition_fetch_bytes=FETCH_BYTES,
        )

    async def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Delete by the admin's DeleteRecords (KIP-107)."""
        async with open_admin(self._kafka) as admin:
            await admin.delete_records(
                {partition: RecordsToDelete(before_offset=offset) for partition, offset in offsets.items()}
            )
