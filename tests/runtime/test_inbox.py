"""What waits for a partition is in order and bounded."""

from __future__ import annotations

import asyncio

from aiokafka import ConsumerRecord

from stream.runtime.inbox import MAX_BYTES, Inbox
from stream.runtime.transport import LogRecord


def records(first: int, last: int, size: int = 10) -> list[LogRecord]:
    """Records with offsets from first to last."""
    value = b"x" * size
    return [ConsumerRecord("t", 0, n, 0, 1, None, value, None, -1, size, ()) for n in range(first, last + 1)]


def test_records_come_out_as_they_went_in() -> None:
    """In pieces of any size, with the offset that follows."""
    inbox = Inbox(5, 100)
    assert 5 == inbox.first()
    inbox.put(records(5, 9))
    inbox.put(records(12, 14))  # what a transaction's marker and an aborted record leave out
    taken = [record.offset for n in (3, 4, 10, 10) for record in inbox.take(n)]
    assert [5, 6, 7, 8, 9, 12, 13, 14] == taken
    assert (15, 15, 0) == (inbox.first(), inbox.next_offset, len(inbox))


def test_who_is_full_is_not_fetched_for_until_half_is_gone() -> None:
    """By number, and by bytes."""
    inbox, seen = Inbox(0, 10), []
    inbox.put(records(0, 9))
    for n in (0, 4, 1):
        inbox.take(n)
        seen.append(inbox.full)
    assert [True, True, False] == seen

    large, seen = Inbox(0, 1000), []
    large.put(records(0, 4, MAX_BYTES // 4))
    for n in (0, 3):
        large.take(n)
        seen.append(large.full)
    assert [True, False] == seen


async def test_waiting_ends_with_a_record_or_in_time() -> None:
    """A pump sleeps no longer than it has to."""
    inbox = Inbox(0, 10)
    clock = asyncio.get_running_loop().time
    before = clock()
    await inbox.wait(0.05)
    assert clock() - before >= 0.04
    waiting = asyncio.create_task(inbox.wait(60.0))
    await asyncio.sleep(0)
    inbox.put(records(0, 0))
    await asyncio.wait_for(waiting, 5.0)
    await asyncio.wait_for(inbox.wait(60.0), 5.0)
