"""Between Kafka's records and the engine's values: input records in, output records out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.codec import encode, headers_of
from stream.core.records import Record
from stream.runtime.errors import EngineFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import TopicPartition

    from schemas.outputs import DeadLetter
    from stream.core.records import Outputs
    from stream.runtime.outbox import Outbox
    from stream.runtime.topics import TopicNames
    from stream.runtime.transport import LogRecord

__all__ = ["CUT", "add_outputs", "as_record", "require_size"]

MAX_VALUE_BYTES: Final = 1_000_000  # with key and headers under the broker's default limit of 1 MiB
# What a small compressed record may hold is without a limit; together, these are within that of dead letters.
MAX_DEAD_VALUE, MAX_DEAD_KEY, MAX_DEAD_HEADERS = 1_500_000, 100_000, 100_000

CUT: Final = "nudge.error.cut"  # header of a dead letter that does not hold all: bytes of the whole record


def require_size(topic: str, value: bytes) -> bytes:
    """Return a value that fits into a record.

    Raises
    ------
    EngineFailedError
        No broker with its default limit takes it: what caused it must not be tried for ever.
    """
    if len(value) > MAX_VALUE_BYTES:
        raise EngineFailedError(f"a record of {len(value)} bytes for {topic}; limit {MAX_VALUE_BYTES}")
    return value


def as_record(record: LogRecord) -> Record:
    """Return an input record as the engine takes it; an absent value is an empty one, which is no JSON."""
    return Record(
        record.value or b"", record.timestamp / 1000, record.offset, record.key, tuple(record.headers)
    )


def add_outputs(
    outbox: Outbox,
    names: TopicNames,
    outputs: Outputs,
    source: TopicPartition,
    records: Sequence[LogRecord],
) -> None:
    """Put a batch's outputs into the outbox, each under its topic, key and headers."""
    for recommendation in outputs.recommendations:
        key = f"{recommendation.user_id}|{recommendation.slot}".encode()
        value = require_size(names.recommendations, encode(recommendation))
        outbox.add(names.recommendations, key, value, headers_of(recommendation))
    for trigger in outputs.triggers:
        topic = names.triggers_dry_run if trigger.dry_run else names.triggers
        user = trigger.recipient.user_id or trigger.recipient.anonymous_id or ""
        outbox.add(topic, user.encode(), require_size(topic, encode(trigger)), headers_of(trigger))
    for decision in outputs.decisions:
        value = require_size(names.decisions, encode(decision))
        outbox.add(names.decisions, decision.user_id.encode(), value, headers_of(decision))
    for change in outputs.segments:
        key = f"{change.user_id}|{change.segment}".encode()
        outbox.add(names.segments, key, require_size(names.segments, encode(change)), headers_of(change))
    if outputs.dead_letters:
        values = {record.offset: record.value for record in records}
        for letter in outputs.dead_letters:
            # What reached the engine as an empty value may have been an absent one; it goes back as it came.
            fitting = _within_limits(letter.key, values[letter.offset], letter.headers)
            headers = [*fitting[2], *_error_headers(letter, source)]
            outbox.add(names.dead_letters, fitting[0], fitting[1], headers)


def _within_limits(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]:
    """What of a record fits into a dead letter; a header says how large it was where that is not all."""
    sizes = len(key or b""), len(value or b""), sum(len(name) + len(of or b"") for name, of in headers)
    limits = MAX_DEAD_KEY, MAX_DEAD_VALUE, MAX_DEAD_HEADERS
    if all(size <= limit for size, limit in zip(sizes, limits, strict=True)):
        return key, value, headers
    kept = headers if sizes[2] <= MAX_DEAD_HEADERS else ()
    cut = (CUT, b"%d" % sum(sizes))
    return key and key[:MAX_DEAD_KEY], value and value[:MAX_DEAD_VALUE], [*kept, cut]


def _error_headers(letter: DeadLetter, source: TopicPartition) -> list[tuple[str, bytes]]:
    """Kafka Streams' names (KIP-1034) for where a record was, and our code."""
    return [
        ("__streams.errors.topic", source.topic.encode()),
        ("__streams.errors.partition", b"%d" % source.partition),
        ("__streams.errors.offset", b"%d" % letter.offset),
        ("nudge.error.code", letter.code.encode()),
        ("nudge.error.path", letter.path.encode()),
    ]
