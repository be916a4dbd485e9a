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

    Rows count with the header that follows them. Without transactions a crash may leave rows after the last
    header; their batch will be repeated, so they are left out. So are rows and header of a former owner that
    wrote after its successor had gone further: nobody fences it, and its records may lie between others'.

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
    next_offset = decode_header(header_value)[1] if header_value is not None else 0
    last_ingest: int | None = None
    rows: dict[str, bytes] = {}
    waiting: dict[bytes, dict[str, bytes | None]] = defaultdict(dict)  # by what says which batch a row is of
    async for records in read_to_end(reader):
        for record in records:
            batch = record.headers[0][1] if record.headers and record.headers[0][0] == OF_BATCH else b""
            if record.key != HEADER_KEY:
                waiting[batch][user_of(record.key or b"")] = record.value
                continue
            written, following = waiting.pop(batch, {}), decode_header(record.value or b"")[1]
            if following < next_offset:
                continue
            header_value, next_offset = record.value, following
            last_ingest = int(dict(record.headers).get(LAST_INGEST, -1))
            for user, value in written.items():
                old.pop(user, None)
                if value is None:
                    rows.pop(user, None)
                else:
                    rows[user] = value
            for torn in [batch for batch in waiting if int(batch or b"0") <= next_offset]:
                del waiting[torn]
        await asyncio.sleep(0)
    if header_value is None:
        return None
    header, next_offset = decode_header(header_value)
    await asyncio.to_thread(_check, rows.values())
    end = await reader.position(changelog)
    old.update(rows)
    mark = Mark(header_value, end, end)
    return Restored(header, old, next_offset, mark, n_cached, last_ingest if last_ingest != -1 else None)


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
