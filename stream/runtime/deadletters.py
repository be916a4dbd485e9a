"""Dead letters as an operator handles them: what is there, what one holds, and sending them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stream.runtime.consuming import read_topic
from stream.runtime.errors import BrokerUnreachableError
from stream.runtime.kafka import MAX_RECORD_BYTES
from stream.runtime.records import CUT
from stream.runtime.topics import TopicNames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.runtime.transport import LogRecord
    from stream.sections import KafkaSettings

__all__ = ["DeadRecord", "read_dead_letters", "replay_dead_letters"]

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


async def read_dead_letters(kafka: KafkaSettings) -> list[DeadRecord]:
    """Return all dead letters, by partition and offset.

    Raises
    ------
    BrokerUnreachableError, TopicMismatchError
        Nobody answers, or there is no such topic.
    """
    topic = TopicNames(kafka.topic_prefix).dead_letters
    return [_dead_record(record) for record in await read_topic(kafka.bootstrap, topic)]


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


async def replay_dead_letters(kafka: KafkaSettings, letters: Sequence[DeadRecord]) -> None:
    """Send records again as they first came: same topic, partition, key, value and headers, in order.

    Raises
    ------
    BrokerUnreachableError
        Nobody answers, or the broker refuses a record.
    """
    names = TopicNames(kafka.topic_prefix)
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap,
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_RECORD_BYTES,
        compression_type="gzip",  # what is larger than the topic takes came compressed
    )
    try:
        await producer.start()
        for letter in letters:
            await producer.send_and_wait(
                names.commands if letter.source_topic == names.commands else names.events,
                value=letter.value,
                key=letter.key,
                partition=letter.source_partition,
                headers=list(letter.headers),
            )
    except (KafkaError, OSError) as error:
        raise BrokerUnreachableError(f"{names.events} at {kafka.bootstrap}: {error!r}") from error
    finally:
        await producer.stop()
