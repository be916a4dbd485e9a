"""Record batches as they are on the wire (message format v2), as far as a broker looks into them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_CRC_AT, _ATTRIBUTES_AT, _MAX_TIME_AT = 17, 21, 35
_APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x08, 0x10, 0x20
_MARKER_KEY: Final = struct.Struct(">hh")

Header = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class KeyedRecord:
    """One record of a batch."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


@dataclass(slots=True)
class Batch:
    """One batch on a log; ``raw`` holds the very bytes that readers get.

    Attributes
    ----------
    marker : bool or None
        Of a transaction marker, whether it commits; ``None`` for records.
    """

    raw: bytes
    base_offset: int
    last_offset: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    transactional: bool
    marker: bool | None = None
    aborted: bool = False

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last record."""
        return self.base_sequence + self.last_offset - self.base_offset

    def records(self) -> Iterator[KeyedRecord]:
        """Decode the records."""
        if self.marker is not None:
            return
        batch = DefaultRecordBatch(self.raw)
        for record in batch:
            yield KeyedRecord(
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                tuple((name, value or b"") for name, value in record.headers),
            )


def split(data: bytes) -> list[bytes]:
    """Cut the bytes of a produce request into batches."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at + 8)
        found.append(data[at : at + 12 + length])
        at += 12 + length
    return found


def placed(raw: bytes, offset: int, append_time_ms: int | None = None) -> Batch:
    """Give a batch its offset, and the broker's time where the topic wants it."""
    data = bytearray(raw)
    struct.pack_into(">q", data, 0, offset)
    if append_time_ms is not None:
        (attributes,) = struct.unpack_from(">h", data, _ATTRIBUTES_AT)
        struct.pack_into(">h", data, _ATTRIBUTES_AT, attributes | _APPEND_TIME)
        struct.pack_into(">q", data, _MAX_TIME_AT, append_time_ms)
        sign(data)
    fields = _HEADER.unpack_from(data)
    attributes, last_delta, max_time, producer_id, epoch, sequence = (
        fields[5],
        fields[6],
        fields[8],
        fields[9],
        fields[10],
        fields[11],
    )
    return Batch(
        bytes(data),
        offset,
        offset + last_delta,
        max_time,
        producer_id,
        epoch,
        sequence,
        transactional=bool(attributes & _TRANSACTIONAL),
    )


def marker(offset: int, producer_id: int, epoch: int, now_ms: int, *, commit: bool) -> Batch:
    """Build the control batch that ends a transaction on a partition."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=True,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=-1,
        batch_size=1024,
    )
    builder.append(0, now_ms, _MARKER_KEY.pack(0, int(commit)), b"\0" * 6, [])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, offset)
    struct.pack_into(">h", data, _ATTRIBUTES_AT, _TRANSACTIONAL | _CONTROL)
    sign(data)
    return Batch(
        bytes(data), offset, offset, now_ms, producer_id, epoch, -1, transactional=True, marker=commit
    )


def with_records(batch: Batch, kept: Sequence[KeyedRecord]) -> Batch:
    """Leave only some records in a batch, as compaction does; the offsets stay, the last one included."""
    data = bytearray(_build(((r.offset - batch.base_offset, r) for r in kept), batch))
    struct.pack_into(">q", data, 0, batch.base_offset)
    struct.pack_into(">i", data, 23, batch.last_offset - batch.base_offset)
    sign(data)
    return Batch(
        bytes(data),
        batch.base_offset,
        batch.last_offset,
        batch.max_timestamp,
        batch.producer_id,
        batch.producer_epoch,
        batch.base_sequence,
        batch.transactional,
    )


def encoded(records: Iterable[tuple[bytes | None, bytes | None, Sequence[Header]]], now_ms: int) -> bytes:
    """Build a batch without a producer from keys, values and headers."""
    numbered = [
        (n, KeyedRecord(n, now_ms, key, value, tuple(headers)))
        for n, (key, value, headers) in enumerate(records)
    ]
    return bytes(_build(numbered, None))


def is_sound(raw: bytes) -> bool:
    """Whether the checksum is right."""
    batch = MemoryRecords(raw).next_batch()
    return batch is not None and bool(batch.validate_crc())


def _build(records: Iterable[tuple[int, KeyedRecord]], like: Batch | None) -> bytearray:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=like is not None and like.transactional,
        producer_id=-1 if like is None else like.producer_id,
        producer_epoch=-1 if like is None else like.producer_epoch,
        base_sequence=-1 if like is None else like.base_sequence,
        batch_size=1 << 30,
    )
    for delta, record in records:
        builder.append(delta, record.timestamp, record.key, record.value, list(record.headers))
    return builder.build()


def sign(data: bytearray) -> None:
    """Put the checksum of what a batch holds now into it."""
    struct.pack_into(">I", data, _CRC_AT, calc_crc32c(bytes(data[_ATTRIBUTES_AT:])))
