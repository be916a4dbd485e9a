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
    header; their batch will be repeated, so they are left out.

    Raises
    ------
    StateCodecError
        A record is damaged or of an unknown version.
    """
    rows: dict[str, bytes] = {}
    waiting: dict[str, bytes | None] = {}
    header_value: bytes | None = None
    async with transport.reader([changelog]) as reader:
        async for records in read_to_end(reader):
            for record in records:
                if record.key != HEADER_KEY:
                    waiting[user_of(record.key or b"")] = record.value
                    continue
                header_value = record.value
                for user, value in waiting.items():
                    if value is None:
                        rows.pop(user, None)
                    else:
                        rows[user] = value
                waiting.clear()
            await asyncio.sleep(0)
    if header_value is None:
        return None
    header, next_offset = decode_header(header_value)
    await asyncio.to_thread(_check, rows.values())
    return Restored(header, rows, next_offset)


def _check(rows: Iterable[bytes]) -> None:
    for value in rows:
        check_row(value)
