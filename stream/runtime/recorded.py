"""A range of the events topic as recorded input, in the order in which the broker took the records."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import rfc3339
from stream.recording import Recording
from stream.runtime.connecting import address_of
from stream.runtime.consuming import POLL_MS, STALL_S, open_reader
from stream.runtime.errors import BrokerUnreachableError, EmptyRangeError, OffsetGapError, TopicMismatchError
from stream.runtime.records import as_record
from stream.runtime.topics import open_admin, partition_counts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    from stream.core.records import Record
    from stream.runtime.transport import LogRecord, Reader
    from stream.sections import KafkaSettings

__all__ = ["Bound", "parse_offsets", "topic_recording"]

MAX_WAITING: Final = 5000  # records of a partition that may wait for slower ones
_OFFSETS = re.compile(r"\d+:\d+(,\d+:\d+)*")

Bound = float | dict[int, int]
"""A time, seconds since the epoch, or an offset for each partition that has one."""


@dataclass(slots=True)
class _Range:
    """What is left of one partition: offsets from ``start`` to before ``end``."""

    start: int
    end: int
    waiting: deque[LogRecord]


def parse_offsets(text: str) -> dict[int, int] | None:
    """Read ``partition:offset`` pairs; ``None`` if the text is something else.

    >>> parse_offsets("0:120,1:95")
    {0: 120, 1: 95}
    """
    if not _OFFSETS.fullmatch(text):
        return None
    return {int(p): int(offset) for p, offset in (pair.split(":") for pair in text.split(","))}


def topic_recording(
    cluster: KafkaSettings | str, topic: str, *, begin: Bound | None = None, end: Bound | None = None
) -> Recording:
    """Return what a topic holds from ``begin`` to before ``end``, both fixed now.

    Raises
    ------
    BrokerUnreachableError
        Nobody answers.
    TopicMismatchError
        The topic does not exist, or a bound names a partition that it does not have.
    OffsetGapError
        The log does not reach back to an offset that was asked for.
    EmptyRangeError
        The range ends before it begins, or begins behind the log.
    """
    ranges = asyncio.run(_ranges(cluster, topic, begin, end))

    def records() -> Iterator[tuple[int, Record]]:
        # The engine is no coroutine: the loop runs while the next records are waited for, and only then.
        with asyncio.Runner() as runner:
            chunks = _merged(cluster, topic, ranges)

            async def following() -> list[LogRecord] | None:
                return await anext(chunks, None)

            async def close() -> None:
                await chunks.aclose()

            try:
                while (chunk := runner.run(following())) is not None:
                    for record in chunk:
                        yield record.partition, as_record(record)
            except KafkaError as error:
                raise BrokerUnreachableError(
                    f"topic {topic} at {address_of(cluster)} could not be read: {error}"
                ) from error
            finally:
                runner.run(close())

    return Recording(topic, len(ranges), records, broker_clock=True)


async def _ranges(
    cluster: KafkaSettings | str, topic: str, begin: Bound | None, end: Bound | None
) -> dict[int, tuple[int, int]]:
    if isinstance(begin, float) and isinstance(end, float) and begin > end:
        raise EmptyRangeError(
            f"{topic}: a range from {rfc3339(begin)} to {rfc3339(end)} ends before it begins"
        )
    try:
        async with open_admin(cluster) as admin:
            counts = await partition_counts(admin)
        if topic not in counts:
            raise TopicMismatchError(f"topic {topic} does not exist; run `nudge topics apply`")
        partitions = [TopicPartition(topic, p) for p in range(counts[topic])]
        for bound in (begin, end):
            if isinstance(bound, dict) and (wrong := set(bound) - set(range(len(partitions)))):
                raise TopicMismatchError(
                    f"topic {topic} has {len(partitions)} partitions, no {sorted(wrong)}"
                )
        async with open_reader(cluster, partitions) as reader:
            first = await reader.beginning_offsets(partitions)
            last = await reader.end_offsets(partitions)
            starts = await _offsets(reader, begin, first, last)
            ends = await _offsets(reader, end, last, last)
    except KafkaError as error:
        where = f"topic {topic} at {address_of(cluster)}"
        raise BrokerUnreachableError(f"{where} could not be read: {error}") from error
    for tp, start in starts.items():
        if start < first[tp]:
            raise OffsetGapError(
                f"{topic} partition {tp.partition} begins at offset {first[tp]}; {start} is gone: "
                "ask for a later one"
            )
        if start > last[tp] or start > ends[tp]:
            raise EmptyRangeError(
                f"{topic} partition {tp.partition}: nothing is from offset {start} to before {ends[tp]}; "
                f"the log ends before {last[tp]}"
            )
    return {tp.partition: (starts[tp], min(ends[tp], last[tp])) for tp in partitions}


async def _offsets(
    reader: Reader,
    bound: Bound | None,
    default: Mapping[TopicPartition, int],
    last: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    if bound is None:
        return dict(default)
    if isinstance(bound, dict):
        return {tp: bound.get(tp.partition, offset) for tp, offset in default.items()}
    since = max(round(bound * 1000), 0)  # a broker knows no time before 1970
    found = await reader.offsets_for_times(dict.fromkeys(default, since))
    return {tp: last[tp] if (at := found.get(tp)) is None else at.offset for tp in default}


async def _merged(
    cluster: KafkaSettings | str, topic: str, ranges: Mapping[int, tuple[int, int]]
) -> AsyncGenerator[list[LogRecord], None]:
    """Yield records by append time, then partition; within a partition always by offset.

    Raises
    ------
    TimeoutError
        Nothing comes for 30 s although the end is not reached.
    """
    left = {
        TopicPartition(topic, p): _Range(start, end, deque())
        for p, (start, end) in ranges.items()
        if start < end
    }
    if not left:
        return
    async with open_reader(cluster, list(left)) as reader:
        for tp, part in left.items():
            reader.seek(tp, part.start)
        clock = asyncio.get_running_loop().time
        moved = clock()
        while left:
            if await _fetch(reader, left):
                moved = clock()
            elif clock() - moved > STALL_S:
                raise TimeoutError(
                    f"reading {topic} stands still at {[part.start for part in left.values()]}"
                )
            if ready := _take(left):
                yield ready


async def _fetch(reader: Reader, left: Mapping[TopicPartition, _Range]) -> bool:
    """Fetch for the partitions that have room; whether anything moved."""
    wanted = [tp for tp, part in left.items() if len(part.waiting) < MAX_WAITING and part.start < part.end]
    if not wanted:
        return True
    fetched = await reader.getmany(*wanted, timeout_ms=POLL_MS, max_records=MAX_WAITING)
    moved = False
    for tp in wanted:
        part = left[tp]
        part.waiting.extend(record for record in fetched.get(tp, ()) if record.offset < part.end)
        position = await reader.position(tp)  # transaction markers are passed, too
        moved |= position > part.start
        part.start = position
    return moved


def _take(left: dict[TopicPartition, _Range]) -> list[LogRecord]:
    """Take what no record that is still to come can precede; drop the partitions that are done."""
    ready: list[LogRecord] = []
    while left:
        for tp in [tp for tp, part in left.items() if not part.waiting and part.start >= part.end]:
            del left[tp]
        if not left or any(not part.waiting for part in left.values()):
            break
        first = min(left, key=lambda tp: (left[tp].waiting[0].timestamp, tp.partition))
        ready.append(left[first].waiting.popleft())
    return ready
