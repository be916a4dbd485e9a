"""Read one partition's user state back from its changelog."""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stream.runtime.consuming import read_to_end
from stream.runtime.statecache import Mark
from stream.runtime.statecodec import HEADER_KEY, check_row, decode_header, user_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiokafka import TopicPartition

    from stream.core.rows import Header
    from stream.runtime.statecache import Cached, StateCache
    from stream.runtime.transport import Reader, Transport

__all__ = ["LAST_INGEST", "OF_BATCH", "Restored", "paused_collection", "restore"]

OF_BATCH: Final = "nudge.next_offset"  # header of rows without transactions: which header record is theirs
LAST_INGEST: Final = "nudge.last_ingest"  # header of the header record: when the last input came, ms


@dataclass(slots=True)
class Restored:
    """A partition's state as it was committed, and the first input record that is not in it."""

    header: Header
    rows: dict[str, bytes]  # checked, not decoded
    next_offset: int
    mark: Mark
    n_cached: int  # rows that the cache gave; the changelog may have had newer ones of the same users
    last_ingest: int | None  # append time of the last input record that is in it, ms; if the log still says


@contextmanager
def paused_collection() -> Iterator[None]:
    """Pause the collector of cycles, which would look at a million new rows again and again.

    Rows hold no cycles. Where pauses overlap the first one's end ends them all, which costs time only.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


async def restore(
    transport: Transport, changelog: TopicPartition, cache: StateCache | None = None
) -> Restored | None:
    """Read the changelog to its end; ``None`` when nothing was ever committed.

    With transactions every row that can be read is committed. Without them rows count once a header has come
    that goes as far as they do: a crash may leave rows after the last header, and their batch will be
    repeated. Compaction keeps the newest header alone, so rows of older batches have none of their own. Of a
    user's rows the one of the latest batch counts, not the one that was written last: a former owner may
    write after its successor has gone further, for nobody fences it. After an accepted gap, which may lead
    back, what was written later is later.

    Raises
    ------
    StateCodecError
        A record is damaged or of an unknown version.
    """
    cached = await asyncio.to_thread(cache.read) if cache is not None else None
    async with transport.reader([changelog]) as reader:
        if cached is not None and cache is not None:
            doubt = await _doubt(reader, changelog, cached)
            if doubt is None:
                reader.seek(changelog, cached.mark.offset)
            else:
                cache.refuse(doubt)
                cached = None
        return await _restore(reader, changelog, cached)


async def _restore(reader: Reader, changelog: TopicPartition, cached: Cached | None) -> Restored | None:
    old: dict[str, bytes] = cached.rows if cached is not None else {}
    n_cached, header_value = len(old), cached.mark.header if cached is not None else None
    header_at = cached.mark.offset if cached is not None else 0
    next_offset = cached.mark.since if cached is not None else 0
    gaps = decode_header(header_value)[0].gaps if header_value is not None else 0
    last_ingest: int | None = None
    rows = _Rows(old, next_offset)
    async for records in read_to_end(reader):
        for record in records:
            batch = record.headers[0][1] if record.headers and record.headers[0][0] == OF_BATCH else None
            if record.key != HEADER_KEY:
                rows.read(user_of(record.key or b""), record.value, batch, record.offset)
                continue
            header, following = decode_header(record.value or b"")
            if batch is not None and (header.gaps, following) < (gaps, next_offset):
                rows.pass_by(following)
                continue
            if header.gaps > gaps:
                rows.begin_anew(following)
                gaps = header.gaps
            header_value, header_at, next_offset = record.value, record.offset, following
            last_ingest = int(dict(record.headers).get(LAST_INGEST, -1))
            rows.count(following)
        await asyncio.sleep(0)
    if header_value is None:
        return None
    header, next_offset = decode_header(header_value)
    await asyncio.to_thread(_check, rows.newest.values())
    end = await reader.position(changelog)
    old.update(rows.newest)
    mark = Mark(header_value, header_at, end)
    return Restored(header, old, next_offset, mark, n_cached, last_ingest if last_ingest != -1 else None)


class _Rows:
    """The rows that count so far, and those that wait for a header.

    Parameters
    ----------
    old : dict of str to bytes
        Rows of a cache, which lose those that the changelog has again.
    since : int
        Next input offset as of which these are, at least.
    """

    def __init__(self, old: dict[str, bytes], since: int) -> None:
        self.newest: dict[str, bytes] = {}
        self._old = old
        self._since = self._latest = since
        self._waiting: defaultdict[int, dict[str, tuple[bytes | None, int]]] = defaultdict(dict)
        self._counted: dict[str, tuple[int, int]] = {}  # batch and place of the row that counts
        self._numbered = False  # rows without transactions were among them

    def read(self, user: str, value: bytes | None, batch: bytes | None, place: int) -> None:
        """Take in a row of a batch; of one without a number it counts at once."""
        if batch is not None:
            self._numbered = True
            self._waiting[int(batch)][user] = value, place
        elif self._numbered:
            self._put(user, value, (self._latest, place))
        else:
            self._set(user, value)

    def count(self, following: int) -> None:
        """Let rows count that go no further than a header."""
        self._latest = max(self._latest, following)
        for number in sorted(number for number in self._waiting if number <= following):
            for user, (value, place) in self._waiting.pop(number).items():
                self._put(user, value, (number, place))

    def pass_by(self, number: int) -> None:
        """Forget the rows of a batch that a successor had done already."""
        self._waiting.pop(number, None)

    def begin_anew(self, following: int) -> None:
        """Let rows that count by now be older than those that come; those that went further never count."""
        self._since = self._latest = 0
        self._counted.clear()
        for number in [number for number in self._waiting if number > following]:
            del self._waiting[number]

    def _put(self, user: str, value: bytes | None, stamp: tuple[int, int]) -> None:
        if stamp >= self._counted.get(user, (self._since, -1)):
            self._counted[user] = stamp
            self._set(user, value)

    def _set(self, user: str, value: bytes | None) -> None:
        self._old.pop(user, None)
        if value is None:
            self.newest.pop(user, None)
        else:
            self.newest[user] = value


async def _doubt(reader: Reader, changelog: TopicPartition, cached: Cached) -> str | None:
    """Say why a cache does not go with the changelog; ``None`` if it does."""
    first = (await reader.beginning_offsets([changelog]))[changelog]
    end = (await reader.end_offsets([changelog]))[changelog]
    mark = cached.mark
    if not first <= mark.offset <= mark.end <= end:
        return f"it goes with offsets {mark.offset} to {mark.end}, the changelog has {first} to {end}"
    # A topic that was deleted and created anew under its name holds nothing as old as the cache before it.
    at = await reader.offsets_for_times({changelog: int(cached.written_at * 1000)})
    later = at[changelog]
    if later is not None and later.offset < mark.offset:
        return f"the changelog has records that are younger than the cache at offset {later.offset}"
    return None


def _check(rows: Iterable[bytes]) -> None:
    for value in rows:
        check_row(value)
