"""Records of one partition that were fetched and not yet processed: bounded by number and by bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.runtime.transport import LogRecord

__all__ = ["Inbox"]

MAX_BYTES: Final = 4 << 20


class Inbox:
    """What a partition has to process next.

    One fetch brings records of all partitions, and each takes its own at its own pace. Who is full is not
    fetched for until half of it is gone, so a slow partition holds up itself alone.

    Parameters
    ----------
    next_offset : int
        Offset of the first record.
    max_records : int
        Beyond so many, or 4 MiB, it is full; one fetch may carry it past that.

    Attributes
    ----------
    next_offset : int
        Offset after the last record that was put in.
    full : bool
        Whether nothing shall be fetched for now.
    """

    def __init__(self, next_offset: int, max_records: int) -> None:
        self.next_offset = next_offset
        self.full = False
        self._max_records = max_records
        self._records: deque[LogRecord] = deque()
        self._bytes = 0
        self._came = asyncio.Event()

    def __len__(self) -> int:
        return len(self._records)

    def put(self, records: Sequence[LogRecord]) -> None:
        """Append records in order."""
        self._records.extend(records)
        self._bytes += sum(map(_size, records))
        self.next_offset = records[-1].offset + 1
        self.full = len(self._records) >= self._max_records or self._bytes >= MAX_BYTES
        self._came.set()

    async def wait(self, limit_s: float) -> None:
        """Wait until there is a record, but not for longer."""
        if not self._records:
            self._came.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._came.wait()

    def first(self) -> int:
        """Offset of the next record, or of the one that will come."""
        return self._records[0].offset if self._records else self.next_offset

    def take(self, n: int) -> list[LogRecord]:
        """Remove and return the next records, at most ``n``."""
        taken = list(islice(self._records, n))
        for _ in taken:
            self._records.popleft()
        self._bytes -= sum(map(_size, taken))
        if len(self._records) <= self._max_records // 2 and self._bytes <= MAX_BYTES // 2:
            self.full = False
        return taken


def _size(record: LogRecord) -> int:
    return len(record.value or b"") + len(record.key or b"")
