"""Recorded input: records in the order in which they came in, each with its partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream.core.config import CleaningConfig
from stream.core.records import Record
from stream.foresight import with_foresight
from stream.reading import open_lines

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Recording", "file_recording"]

BOUNDS = CleaningConfig()


@dataclass(frozen=True, slots=True)
class Recording:
    """What can be replayed.

    Attributes
    ----------
    name : str
        Where it comes from, for people.
    n_partitions : int
        Each has an engine of its own, and its share of every budget.
    open : callable
        Gives the records from the first on, with their partitions.
    broker_clock : bool
        Records carry the time at which a broker took them; else the event time that is reached with each.
    """

    name: str
    n_partitions: int
    open: Callable[[], Iterator[tuple[int, Record]]]
    broker_clock: bool = False


def file_recording(events: Path, now: float, bounds: CleaningConfig = BOUNDS) -> Recording:
    """Read a file of events as one partition; nothing in it came in after ``now``, seconds since the epoch.

    How far event time has come with each is told by what follows; ``bounds`` say what is late or ahead.

    To claim "came in at its own event time, capped at now" and to claim "came in now" is the same to the
    engine: both bound the future at now. The second needs no look into the bytes.
    """

    def records() -> Iterator[tuple[int, Record]]:
        lines = (Record(line, now, offset) for offset, line in enumerate(open_lines(events)))
        return ((0, record) for record in with_foresight(lines, bounds))

    return Recording(events.name, 1, records)
