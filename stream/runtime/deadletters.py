"""Dead letters as an operator handles them: what is there, what one holds, and sending them again.

They are passed by one after the other: two weeks of a broken producer need not fit into memory.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from stream.runtime.connecting import connection
from stream.runtime.consuming import open_reader, read_to_end, scan_topic
from stream.runtime.errors import BrokerUnreachableError, TopicMismatchError
from stream.runtime.kafka import MAX_RECORD_BYTES
from stream.runtime.records import CUT
from stream.runtime.topics import TopicNames, open_admin, partition_counts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from stream.runtime.transport import LogRecord
    from stream.sections import KafkaSettings

__all__ = ["DeadRecord", "dead_letter_at", "replay_dead_letters", "scan_dead_letters"]

_OURS = ("__streams.errors.", "nudge.error.")


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A rejected record, where it lies and where it was; ``time`` is the broker's, s since the epoch."""

    partition: int
    offset: int
    time: float
    code: str
    path: str
    source_topic: str
    source_partition: int
    source_offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]  # the record's own
    is_cut: bool  # it was too large to be kept whole, and cannot be sent again

    @property
    def place(self) -> str:
        """Where it lies, as commands take it."""
        return f"{self.partition}:{self.offset}"


async def scan_dead_letters(kafka: KafkaSettings) -> AsyncIterator[list[DeadRecord]]:
    """Yield all dead letters: chunks, each of one partition, whose letters come in order of offset.

    Raises
    ------
    BrokerUnreachableError, TopicMismatchError
        Nobody answers, or there is no such topic.
    """
    async for chunk in scan_topic(kafka, TopicNames(kafka.topic_prefix).dead_letters):
        yield [_dead_record(record) for record in chunk]


async def dead_letter_at(kafka: KafkaSettings, partition: int, offset: int) -> DeadRecord | None:
    """Return the dead letter at a place; nothing where none is.

    Raises
    ------
    BrokerUnreachableError, TopicMismatchError
        Nobody answers, or there is no such topic.
    """
    topic = TopicNames(kafka.topic_prefix).dead_letters
    tp = TopicPartition(topic, partition)
    try:
        async with open_admin(kafka) as admin:
            count = (await partition_counts(admin)).get(topic)
        if count is None:
            raise TopicMismatchError(f"topic {topic} does not exist; run `nudge topics apply`")
        if not 0 <= partition < count:
            return None
        async with open_reader(kafka, [tp]) as reader:
            if offset < (await reader.beginning_offsets([tp]))[tp]:
                return None
            reader.seek(tp, offset)
            async for chunk in read_to_end(reader):
                return _dead_record(chunk[0]) if chunk[0].offset == offset else None
    except KafkaError as error:
        raise BrokerUnreachableError(f"{topic} at {kafka.bootstrap} could not be read: {error}") from error
    return None


def _dead_record(record: LogRecord) -> DeadRecord:
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    return DeadRecord(
        partition=record.partition,
        offset=record.offset,
        time=record.timestamp / 1000,
        code=headers.get("nudge.error.code", "?"),
        path=headers.get("nudge.error.path", "$"),
        source_topic=headers.get("__streams.errors.topic", ""),
        source_partition=int(headers.get("__streams.errors.partition", -1)),
        source_offset=int(headers.get("__streams.errors.offset", -1)),
        key=record.key,
        value=record.value,
        headers=tuple(header for header in record.headers if not header[0].startswith(_OURS)),
        is_cut=CUT in headers,
    )


async def replay_dead_letters(
    kafka: KafkaSettings,
    wanted: Callable[[DeadRecord], bool],
    progress: Callable[[int], None] | None = None,
) -> int:
    """Send records again as they first came: same topic, partition, key, value and headers, in order.

    Those that were cut are passed by. What becomes a dead letter meanwhile is not met again.

    Returns
    -------
    int
        How many were sent.

    Raises
    ------
    BrokerUnreachableError, TopicMismatchError
        Nobody answers, or the broker refuses a record; or there is no such topic.
    """
    names, sent = TopicNames(kafka.topic_prefix), 0
    producer = AIOKafkaProducer(
        **connection(kafka),
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_RECORD_BYTES,
        compression_type="gzip",  # what is larger than the topic takes came compressed
    )
    try:
        await producer.start()
        async for chunk in scan_dead_letters(kafka):
            letters = [letter for letter in chunk if not letter.is_cut and wanted(letter)]
            waiting = [
                await producer.send(
                    names.commands if letter.source_topic == names.commands else names.events,
                    value=letter.value,
                    key=letter.key,
                    partition=letter.source_partition,
                    headers=list(letter.headers),
                )
                for letter in letters
            ]
            await asyncio.gather(*waiting)
            sent += len(letters)
            if progress is not None:
                progress(sent)
    except (KafkaError, OSError) as error:
        at = f"{names.events} at {kafka.bootstrap}"
        raise BrokerUnreachableError(f"{at}: {error!r}; {sent} or more were sent before") from error
    finally:
        await producer.stop()
    return sent
