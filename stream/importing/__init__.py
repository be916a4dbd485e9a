"""Public data sets as canonical events: what ``nudge import`` does.

Each source translates its lines into ``(time, event)``; :func:`import_events` keeps a window, sorts by time
and writes. The same input gives the same bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO

from stream.importing.canonical import Intake, Reason, Timed, encode_item
from stream.importing.lines import STDIN, DataSetError, Line, Source, open_lines
from stream.importing.movielens import find_films, movielens_catalogue, movielens_events
from stream.importing.online_retail import online_retail_events
from stream.importing.taobao import taobao_events
from stream.importing.yoochoose import yoochoose_events

__all__ = ["IMPORTERS", "DataSetError", "ImportReport", "Importer", "Reason", "Source", "import_events"]


@dataclass(frozen=True, slots=True)
class Importer:
    """One public data set that Nudge can read.

    Attributes
    ----------
    name : str
        What ``nudge import`` calls it; the prefix of its ``messageId``.
    description : str
        One line for the command's help.
    events : Callable
        Lines to timed events; counts into the intake it is given.
    """

    name: str
    description: str
    events: Callable[[Iterator[Line], Intake], Iterator[Timed]]


IMPORTERS = MappingProxyType(
    {
        importer.name: importer
        for importer in (
            Importer("movielens", "MovieLens ratings: RecBole .inter, or u.data", movielens_events),
            Importer("taobao", "Taobao UserBehavior CSV: views, carts, favourites, buys", taobao_events),
            Importer(
                "online-retail", "UCI Online Retail CSV: orders and cancellations", online_retail_events
            ),
            Importer("yoochoose", "YOOCHOOSE clicks as session-rec prepares them", yoochoose_events),
        )
    }
)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a data set's lines: ``read == used + dropped_outside + sum(malformed.values())``.

    Attributes
    ----------
    read : int
        Lines with data: no header, no blank lines.
    used : int
        Lines that are part of a written event; several lines may share one.
    written : int
        Events written.
    dropped_outside : int
        Lines whose event lies outside the window.
    malformed : dict[str, int]
        Lines by :class:`Reason`, most frequent first.
    items : int
        Catalogue records written.
    first_ms, last_ms : int | None
        Times of the first and the last written event, milliseconds since the epoch.
    """

    source: str
    read: int
    used: int
    written: int
    dropped_outside: int
    malformed: dict[str, int]
    items: int
    first_ms: int | None
    last_ms: int | None


def import_events(
    source: str,
    path: Source,
    *,
    out: BinaryIO,
    catalogue: BinaryIO | None = None,
    from_s: float | None = None,
    to_s: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Read a data set and write its events in order of time; ties keep the file's order.

    Parameters
    ----------
    source : str
        A name of :data:`IMPORTERS`.
    path : Path | "-"
        Plain or gzip file, or standard input.
    out : BinaryIO
        Gets canonical events, one JSON line each.
    catalogue : BinaryIO | None
        Gets catalogue records, one JSON line each, by ``item_id``.
    from_s, to_s : float | None
        Keep events in ``[from_s, to_s)``, seconds since the epoch.
    progress : Callable[[int], None] | None
        Called with the bytes of the file read so far.

    Raises
    ------
    DataSetError
        Unknown source, a header without the needed columns, or a damaged gzip file.
        Single bad lines never raise: they are counted in the report.
    OSError
        The file cannot be read, or `out` or `catalogue` cannot be written.
    """
    importer = IMPORTERS.get(source)
    if importer is None:
        raise DataSetError(f"unknown source {source!r}; known: {', '.join(IMPORTERS)}")
    intake = Intake(source, from_s, to_s)
    # Encoded events and packed times: a third of the memory that decoded events would take.
    times = array("q")
    events: list[bytes] = []
    with open_lines(path, progress) as lines:
        for time_ms, event in importer.events(lines, intake):
            times.append(time_ms)
            events.append(event)
    order = sorted(range(len(events)), key=times.__getitem__)  # stable: file order in ties
    out.writelines(events[n] for n in order)
    first_ms = times[order[0]] if order else None
    n_items = 0
    if catalogue is not None:
        records = _catalogue(source, path, intake, first_ms or 0)
        catalogue.writelines(records[item_id] for item_id in sorted(records))
        n_items = len(records)
    return ImportReport(
        source=source,
        read=intake.read,
        used=intake.used,
        written=len(events),
        dropped_outside=intake.outside,
        malformed={reason.value: n for reason, n in intake.malformed.most_common()},
        items=n_items,
        first_ms=first_ms,
        last_ms=times[order[-1]] if order else None,
    )


def _catalogue(source: str, path: Source, intake: Intake, first_ms: int) -> dict[str, bytes]:
    """Items met in the written events; of MovieLens also what the file of films says."""
    records = {
        item_id: encode_item(item_id, item.version, item.updated_ms, **item.content._asdict())
        for item_id, item in intake.items.items()
    }
    if source == "movielens" and path != STDIN:
        films = find_films(path)
        if films is not None:
            records.update(movielens_catalogue(films, intake, first_ms))
    return records
