"""Items that change while recorded events are replayed: batches are cut where a version takes effect."""

from __future__ import annotations

from collections import deque
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from schemas.codec import decode
from schemas.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from schemas.catalogue import Item
    from stream.core.records import Record
    from stream.reading import ItemVersion
    from stream.recording import Recording

__all__ = ["Change", "steps"]


class Change(NamedTuple):
    """Versions that take effect at one moment; ``idle`` if no record stands between it and the moment before.

    Attributes
    ----------
    at : float
        Seconds since the epoch.
    """

    at: float
    items: list[Item]
    idle: bool


def steps(
    recording: Recording,
    batch_size: int,
    versions: Sequence[ItemVersion],
    believed_s: Callable[[], float],
    until: float | None,
) -> Iterator[list[tuple[int, Record]] | Change]:
    """Yield batches and, before the first record that is not before it, each change.

    After the last record those up to ``until`` follow. Where a broker took the records, its time says which
    record that is, else the event's own. The latter must not be beyond ``believed_s()``, which is asked when
    all records before have been processed.
    """
    waiting = deque(
        Change(at, [item for _, item in several], idle=not recording.broker_clock)
        for at, several in groupby(versions, itemgetter(0))
    )
    batch: list[tuple[int, Record]] = []
    for partition, record in recording.open():
        time = _time(record, recording) if waiting else 0.0
        if waiting and time >= waiting[0].at:
            if batch:
                yield batch
                batch = []
            believed = recording.broker_clock or time <= believed_s()
            while believed and waiting and waiting[0].at <= time:
                yield waiting.popleft()
        batch.append((partition, record))
        if len(batch) >= batch_size:
            yield batch
            batch = []
    if batch:
        yield batch
    while waiting and until is not None and waiting[0].at <= until:
        yield waiting.popleft()._replace(idle=True)


def _time(record: Record, recording: Recording) -> float:
    if recording.broker_clock:
        return record.ingest_time
    event = decode(record.value)
    return event.time if isinstance(event, Event) else float("-inf")
