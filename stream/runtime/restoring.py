"""Read one partition's user state back from its changelog."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream.runtime.consuming import read_to_end
from stream.runtime.statecodec import HEADER_KEY, check_row, decode_header, user_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiokafka import TopicPartition

    from stream.core.state import Header
    from stream.runtime.transport import Transport

__all__ = ["Restored", "restore"]


@dataclass(slots=True)
class Restored:
    """A partition's state as it was committed, and the first input record that is not in it."""

    header: Header
    rows: dict[str, bytes]  # checked, not decoded
    next_offset: int


async def restore(transport: Transport, changelog: TopicPartition) -> Restored | None:
    """Read the changelog to its end; ``None`` when nothing was ever committed.

    Rows count with the header that follows them. Without transactions a crash may leave rows after the last
    header; their batch will be repeated, so they are left out. So are rows and header of a former owner that
    wrote after its successor had gone further: without transactions nobody fences it.

    Raises
    ------
    StateCodecError
        A record is damaged or of an unknown version.
    """
    rows: dict[str, bytes] = {}
    waiting: dict[str, bytes | None] = {}
    header: Header | None = None
    next_offset = 0
    async with transport.reader([changelog]) as reader:
        async for records in read_to_end(reader):
            for record in records:
                if record.key != HEADER_KEY:
                    waiting[user_of(record.key or b"")] = record.value
                    continue
                written, written_next = decode_header(record.value or b"")
                if header is not None and written_next < next_offset:
                    waiting.clear()
                    continue
                header, next_offset = written, written_next
                for user, value in waiting.items():
                    if value is None:
                        rows.pop(user, None)
                    else:
                        rows[user] = value
                waiting.clear()
            await asyncio.sleep(0)
    if header is None:
        return None
    await asyncio.to_thread(_check, rows.values())
    return Restored(header, rows, next_offset)


def _check(rows: Iterable[bytes]) -> None:
    for value in rows:
        check_row(value)
