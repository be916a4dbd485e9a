"""Put events in order of time although they may not fit into memory: a sort on disk, which SQLite does."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stream.importing.canonical import Timed

__all__ = ["Ordered", "ordered"]

MEMORY_KIB: Final = 64 << 10  # of SQLite's pages, and of its sort; what is beyond lies in temporary files
_SET_UP: Final = (
    f"PRAGMA cache_size = -{MEMORY_KIB}",
    "PRAGMA journal_mode = OFF",
    "CREATE TABLE events (n INTEGER PRIMARY KEY, time_ms INTEGER, event BLOB)",
    "BEGIN",
)


@dataclass(frozen=True, slots=True)
class Ordered:
    """Events by time; those of one time in the order in which they came. They are read once.

    Attributes
    ----------
    count : int
        How many there are.
    first_ms, last_ms : int | None
        Times of the first and the last, milliseconds since the epoch.
    """

    count: int
    first_ms: int | None
    last_ms: int | None
    events: Iterator[bytes]


@contextmanager
def ordered(events: Iterable[Timed]) -> Iterator[Ordered]:
    """Read all events, and hand them out in order.

    They lie in a temporary database without a name, where SQLite keeps such files (``SQLITE_TMPDIR``, else
    ``TMPDIR``). It takes some twice the bytes of the events, and is gone when context or process end.

    Raises
    ------
    OSError
        The temporary files have no room, or cannot be written.
    """
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as database:
            for statement in _SET_UP:
                database.execute(statement)
            database.executemany("INSERT INTO events (time_ms, event) VALUES (?, ?)", events)
            span = "SELECT count(*), min(time_ms), max(time_ms) FROM events"
            count, first_ms, last_ms = database.execute(span).fetchone()
            rows = database.execute("SELECT event FROM events ORDER BY time_ms, n")
            yield Ordered(count, first_ms, last_ms, (event for (event,) in rows))
    except sqlite3.OperationalError as error:
        raise OSError(errno.ENOSPC, f"sorting needs temporary files (TMPDIR): {error}") from error
