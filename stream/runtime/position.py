"""Where a partition goes on: at the offset that its user state names, if the log is still the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from stream.runtime.errors import OffsetGapError

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from stream.runtime.transport import GroupConsumer, Transport
    from stream.sections import KafkaSettings

__all__ = ["find_position", "is_same_log"]

LOOK_MS: Final = 2000

logger = structlog.get_logger(__name__)


async def is_same_log(transport: Transport, source: TopicPartition, offset: int, ingest: int) -> bool:
    """Return whether the record at an offset is the one that the state remembers.

    A topic that was deleted and created anew has another record there, or none, and so has one whose tail was
    lost. That there is none, :func:`find_position` judges.

    Parameters
    ----------
    offset : int
        Of the last record that went into the state.
    ingest : int
        When that record was appended, ms since the epoch.
    """
    async with transport.reader([source]) as reader:
        ends = await reader.end_offsets([source])
        first = (await reader.beginning_offsets([source]))[source]
        if not first <= offset < ends[source]:
            return True
        reader.seek(source, offset)
        fetched = await reader.getmany(timeout_ms=LOOK_MS, max_records=1)
    found = fetched.get(source, [])
    return not any(record.offset == offset and record.timestamp != ingest for record in found)


async def find_position(
    consumer: GroupConsumer,
    source: TopicPartition,
    kafka: KafkaSettings,
    committed: int | None,
    state_offset: int | None,
    last_ingest: int | None,
    *,
    same_log: bool,
) -> int:
    """Return the offset of the next record to process.

    Where a gap is accepted that leads back, that is the first record that was appended after the last one
    which is in the state.

    Parameters
    ----------
    committed : int or None
        The group's offset.
    state_offset : int or None
        The next offset that the user state names; ``None`` without a state.
    last_ingest : int or None
        When the record before that was appended, ms since the epoch, where the state says so.
    same_log : bool
        Whether that record is where the state says, or nothing is.

    Raises
    ------
    OffsetGapError
        That record is gone from the log, or the state is.
    """
    topic, partition = source.topic, source.partition
    first = (await consumer.beginning_offsets([source]))[source]
    end = (await consumer.end_offsets([source]))[source]
    if state_offset is None and committed is None:
        # Nobody has read this partition for our group: begin with what there is.
        logger.info("partition_begins", partition=partition, offset=first)
        return first
    if state_offset is None or (committed is not None and committed > state_offset):
        raise OffsetGapError(
            f"group {kafka.group} has committed {topic} partition {partition} up to {committed}, but the "
            f"user state ends at {state_offset or 0}: the changelog was lost, or somebody moved the offsets; "
            "restore the changelog, or start over under a new NUDGE_KAFKA__GROUP and "
            "NUDGE_KAFKA__TOPIC_PREFIX"
        )
    if same_log and first <= state_offset <= end:
        return state_offset
    if not kafka.accept_gap and not same_log:
        raise OffsetGapError(
            f"{topic} partition {partition} offset {state_offset - 1} was appended at {last_ingest}, says "
            "the user state, but the log holds another record there: the topic was deleted and created anew, "
            "or the broker lost its tail; use a new NUDGE_KAFKA__TOPIC_PREFIX for another topic "
            "(NUDGE_KAFKA__ACCEPT_GAP=true goes on at the first record that was appended after that)"
        )
    if not kafka.accept_gap:
        raise OffsetGapError(
            f"the next record of {topic} partition {partition} is {state_offset}, but the log holds {first} "
            f"to {end}: retention overran the worker, or the broker lost its tail; nothing is skipped "
            "silently (NUDGE_KAFKA__ACCEPT_GAP=true goes on with what there is)"
        )
    position = first
    if state_offset > first:
        later = None
        if last_ingest is not None:
            later = (await consumer.offsets_for_times({source: last_ingest + 1}))[source]
        position = end if later is None else later.offset
    logger.error("gap_accepted", partition=partition, expected=state_offset, position=position)
    return position
