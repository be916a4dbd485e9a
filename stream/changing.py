"""What happens between recorded events: time passes by itself, and items change.

Batches are cut where either happens.
"""

from __future__ import annotations

from collections import deque
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schemas.catalogue import Item
    from stream.core.records import Record
    from stream.reading import ItemVersion
    from stream.recording import Recording

__all__ = ["Change", "steps"]

NEVER: Final = float("-inf")
IDLE_S: Final = 600.0  # a live partition lets time pass from its first idle second on


class Change(NamedTuple):
    """Versions that take effect at one moment, or none; ``idle`` if time passes by itself until then.

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
    until: float | None,
) -> Iterator[list[tuple[int, Record]] | Change]:
    """Yield batches and, before the first record that is not before it, each change.

    After the last record those up to ``until`` follow. Where a broker took the records, its time says which
    record that is, else the event time that is reached with it. In the latter case time passes by itself
    where nothing happens for more than ten minutes, as it does on a live partition.
    """
    waiting = deque(
        Change(at, [item for _, item in several], idle=not recording.broker_clock)
        for at, several in groupby(versions, itemgetter(0))
    )
    batch: list[tuple[int, Record]] = []
    last = NEVER
    for partition, record in recording.open():
        time = record.ingest_time if recording.broker_clock else record.reached
        time = NEVER if time is None else time
        due = []
        while waiting and waiting[0].at <= time:
            due.append(waiting.popleft())
        if time > last + IDLE_S > NEVER and not recording.broker_clock:
            due.append(Change(time, [], idle=True))
        last = max(time, last)
        if due and batch:
            yield batch
            batch = []
        yield from due
        batch.append((partition, record))
        if len(batch) >= batch_size:
            yield batch
            batch = []
    if batch:
        yield batch
    while waiting and until is not None and waiting[0].at <= until:
        yield waiting.popleft()._replace(idle=True)
