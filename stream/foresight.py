"""Which jumps of event time in a file are real: what stands behind them tells.

A file has no broker's clock. A shop that was closed over a weekend and a device whose clock is two days ahead
look the same when their event is read, and to wait for a second user is too late: the event has been applied
by then, before what came due in between. So a recording looks ahead.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from schemas.codec import decode
from schemas.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stream.core.config import CleaningConfig
    from stream.core.records import Record

__all__ = ["with_foresight"]

LOOK_AHEAD: Final = 1000  # records
WITNESSES: Final = 10  # events behind a jump that are asked
NEVER: Final = float("-inf")


class _Read(NamedTuple):
    """A record with the time and user of its event; one that moves no time is before all others."""

    record: Record
    time: float
    user: str


def with_foresight(records: Iterable[Record], bounds: CleaningConfig) -> Iterator[Record]:
    """Yield the records with the event time that is reached with each, minus infinity for none.

    That of an event that is not more than ``late_s`` ahead is. A larger jump, and the first event, is real if
    at least half of the next ten events of other users, within 1,000 records, are not more than ``late_s``
    behind it; where there is no other user, of the same user. With nothing behind it it is real.
    """
    late_s = bounds.late_s
    source = (_read(record, bounds.max_future_s) for record in records)
    ahead: deque[_Read] = deque()
    high = NEVER
    while ahead or (ahead := deque(islice(source, 1))):
        one = ahead.popleft()
        if one.time - late_s > high:
            ahead.extend(islice(source, LOOK_AHEAD - len(ahead)))
            is_reached = _is_real(one, ahead, late_s)
        else:
            is_reached = one.time > high
        if is_reached:
            high = one.time
        yield replace(one.record, reached=one.time if is_reached else NEVER)


def _read(record: Record, max_future_s: float) -> _Read:
    event = decode(record.value)
    if not isinstance(event, Event) or event.fault or event.time > record.ingest_time + max_future_s:
        return _Read(record, NEVER, "")
    return _Read(record, event.time, event.user)


def _is_real(jump: _Read, ahead: Iterable[_Read], late_s: float) -> bool:
    readable = [one for one in ahead if one.time > NEVER]
    others = [one for one in readable if one.user != jump.user]
    witnesses = (others or readable)[:WITNESSES]
    return 2 * sum(one.time >= jump.time - late_s for one in witnesses) >= len(witnesses)
