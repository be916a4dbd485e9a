"""One partition's log: offsets, transactions, what each kind of reader may see, compaction, retention."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.simulation.batches import Batch, marker, placed, split, with_records

# Error codes of the protocol.
OUT_OF_RANGE: Final = 1
TOO_LARGE: Final = 10
OUT_OF_ORDER: Final = 45
BAD_EPOCH: Final = 47
BAD_TXN_STATE: Final = 48
BAD_RECORD: Final = 87

REMEMBERED_BATCHES: Final = 5  # of a producer, to know a repeat by


class RefusedError(Exception):
    """The log takes nothing of this request."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class _Producer:
    epoch: int
    next_sequence: int = 0
    recent: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED_BATCHES))


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch gets of a partition."""

    data: bytes
    high_watermark: int
    last_stable: int
    aborted: list[tuple[int, int]]


class PartitionLog:
    """Batches in order of offset.

    Attributes
    ----------
    batches : list of Batch
        What readers get.
    history : list of Batch
        All that was ever appended, also what compaction and retention have taken away.
    """

    def __init__(self, config: Mapping[str, str]) -> None:
        self.config = dict(config)
        self.batches: list[Batch] = []
        self.history: list[Batch] = []
        self.start = 0
        self.end = 0
        self.watchers: list[Callable[[], None]] = []
        self._bases: list[int] = []
        self._open: dict[int, int] = {}  # producer id: first offset of its transaction here
        self._aborted: list[tuple[int, int, int]] = []  # producer id, first offset, offset of the marker
        self._producers: dict[int, _Producer] = {}

    @property
    def last_stable(self) -> int:
        """Offset of the first record whose transaction is open, else the end."""
        return min(self._open.values(), default=self.end)

    def append(
        self, data: bytes, now_ms: int, may_write: Callable[[int, int], bool] = lambda _pid, _epoch: True
    ) -> tuple[int, int]:
        """Append the batches of a produce request; return the first offset and the append time or -1.

        Parameters
        ----------
        may_write : callable
            Whether a producer id and epoch have this partition in an open transaction.

        Raises
        ------
        RefusedError
            Nothing was appended.
        """
        if len(data) > int(self.config.get("max.message.bytes", 1_048_588)):
            raise RefusedError(TOO_LARGE)
        stamp = now_ms if self.config.get("message.timestamp.type") == "LogAppendTime" else None
        new = [placed(raw, 0, stamp) for raw in split(data)]
        if "compact" in self.config.get("cleanup.policy", "delete"):
            for batch in new:
                if any(record.key is None for record in batch.records()):
                    raise RefusedError(BAD_RECORD)
        first = None
        for raw, batch in zip(split(data), new, strict=True):
            known = self._check_producer(batch, may_write)
            offset = self.end if known is None else known
            first = offset if first is None else first
            if known is None:
                self._add(placed(raw, self.end, stamp))
        assert first is not None
        return first, -1 if stamp is None else stamp

    def end_transaction(self, producer_id: int, epoch: int, now_ms: int, *, commit: bool) -> None:
        """Write the marker that ends a producer's transaction here."""
        first = self._open.pop(producer_id, None)
        if first is not None and not commit:
            self._aborted.append((producer_id, first, self.end))
            for batch in self.batches[bisect_left(self._bases, first) :]:
                if batch.producer_id == producer_id and batch.transactional:
                    batch.aborted = True
        producer = self._producers.setdefault(producer_id, _Producer(epoch))
        if producer.epoch != epoch:
            self._producers[producer_id] = _Producer(epoch)
        self._add(marker(self.end, producer_id, epoch, now_ms, commit=commit))

    def read(self, offset: int, max_bytes: int, *, committed: bool) -> Fetched:
        """Read from an offset on what this isolation may see.

        Raises
        ------
        RefusedError
            The log does not have the offset.
        """
        if not self.start <= offset <= self.end:
            raise RefusedError(OUT_OF_RANGE)
        limit = self.last_stable if committed else self.end
        parts: list[bytes] = []
        size = 0
        for n in range(bisect_left(self._bases, offset + 1) - 1, len(self.batches)):
            if n < 0 or self.batches[n].last_offset < offset:
                continue
            batch = self.batches[n]
            if batch.base_offset >= limit or (parts and size + len(batch.raw) > max_bytes):
                break
            parts.append(batch.raw)
            size += len(batch.raw)
        aborted = [(pid, first) for pid, first, last in self._aborted if last >= offset and first < limit]
        return Fetched(b"".join(parts), self.end, self.last_stable, aborted if committed else [])

    def offset_at(self, timestamp_ms: int) -> tuple[int, int] | None:
        """Offset and time of the first record at or after a time."""
        for batch in self.batches:
            if batch.marker is None and batch.max_timestamp >= timestamp_ms:
                for record in batch.records():
                    if record.timestamp >= timestamp_ms:
                        return record.offset, record.timestamp
        return None

    def delete_before(self, offset: int) -> int:
        """Drop batches that end before an offset; return the first offset that is left.

        Raises
        ------
        RefusedError
            There is no such offset.
        """
        offset = self.end if offset == -1 else offset
        if offset > self.end:
            raise RefusedError(OUT_OF_RANGE)
        self.start = max(self.start, offset)
        self.batches = [batch for batch in self.batches if batch.last_offset >= self.start]
        self._bases = [batch.base_offset for batch in self.batches]
        return self.start

    def compact(self, before_ms: int | None = None) -> None:
        """Keep the last committed record of each key before the last stable offset; tombstones stay.

        The section ends before the first batch that is younger, where there is a ``min.compaction.lag.ms``.
        """
        limit = self.last_stable
        if before_ms is not None:
            young = (batch.base_offset for batch in self.batches if batch.max_timestamp >= before_ms)
            limit = min(limit, next(young, limit))
        newest: dict[bytes | None, int] = {}
        for batch in self.batches:
            if batch.last_offset < limit and not batch.aborted:
                newest.update((record.key, record.offset) for record in batch.records())
        kept: list[Batch] = []
        for batch in self.batches:
            if batch.last_offset >= limit or batch.marker is not None:
                kept.append(batch)
                continue
            records = list(batch.records())
            rest = [r for r in records if not batch.aborted and newest[r.key] == r.offset]
            if len(rest) == len(records):
                kept.append(batch)
            elif rest:
                kept.append(with_records(batch, rest))
        self.batches = kept
        self._bases = [batch.base_offset for batch in kept]

    def _check_producer(self, batch: Batch, may_write: Callable[[int, int], bool]) -> int | None:
        """Check epoch, transaction and sequence; return the offset of a batch that is here already."""
        pid, epoch = batch.producer_id, batch.producer_epoch
        if pid < 0:
            return None
        producer = self._producers.get(pid)
        if producer is not None and epoch < producer.epoch:
            raise RefusedError(BAD_EPOCH)
        if producer is None:
            producer = _Producer(epoch, batch.base_sequence)
        elif epoch > producer.epoch:
            producer = _Producer(epoch)
        span = (batch.base_sequence, batch.last_sequence)
        for first, last, offset in producer.recent:
            if (first, last) == span:
                return offset
        if batch.transactional and pid not in self._open and not may_write(pid, epoch):
            raise RefusedError(BAD_TXN_STATE)
        if batch.base_sequence != producer.next_sequence:
            raise RefusedError(OUT_OF_ORDER)
        producer.next_sequence = batch.last_sequence + 1
        producer.recent.append((*span, self.end))
        self._producers[pid] = producer
        if batch.transactional:
            self._open.setdefault(pid, self.end)
        return None

    def _add(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.history.append(batch)
        self._bases.append(batch.base_offset)
        self.end = batch.last_offset + 1
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            watcher()
