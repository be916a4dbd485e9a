"""Public data sets as canonical events: what ``nudge import`` does.

Each source translates its lines into ``(time, event)``; :func:`import_events` keeps a window, sorts by time
and writes. The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from stream.importing.canonical import Intake, Reason, Timed, encode_item
from stream.importing.lines import STDIN, DataSetError, Line, Source, open_lines
from stream.importing.movielens import find_films, movielens_catalogue, movielens_events
from stream.importing.online_retail import online_retail_events
from stream.importing.ordering import ordered
from stream.importing.taobao import taobao_events
from stream.importing.yoochoose import yoochoose_events

__all__ = [
    "IMPORTERS",
    "DataSetError",
    "ImportReport",
    "Importer",
    "Reason",
    "Source",
    "files_read",
    "import_events",
]


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

    Nothing is written before everything is read. Events wait in temporary files, so a data set may be larger
    than memory; what grows with it is the catalogue (and of `online-retail` the order lines, to be grouped).

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
        The file cannot be read, or `out`, `catalogue` or temporary files cannot be written.
    """
    importer = IMPORTERS.get(source)
    if importer is None:
        raise DataSetError(f"unknown source {source!r}; known: {', '.join(IMPORTERS)}")
    intake = Intake(source, from_s, to_s, keeps_items=catalogue is not None)
    with open_lines(path, progress) as lines, ordered(importer.events(lines, intake)) as found:
        items: dict[str, bytes] = {}
        if catalogue is not None:
            items = _catalogue(files_read(source, path)[1:], intake, found.first_ms or 0)
            catalogue.writelines(items[item_id] for item_id in sorted(items))
        out.writelines(found.events)
    return ImportReport(
        source=source,
        read=intake.read,
        used=intake.used,
        written=found.count,
        dropped_outside=intake.outside,
        malformed={reason.value: n for reason, n in intake.malformed.most_common()},
        items=len(items),
        first_ms=found.first_ms,
        last_ms=found.last_ms,
    )


def files_read(source: str, path: Source) -> list[Path]:
    """Return the files that an import reads: the data set, and for MovieLens that of the films beside it.

    Standard input is no file.
    """
    if path == STDIN:
        return []
    films = find_films(path) if source == "movielens" else None
    return [path] if films is None else [path, films]


def _catalogue(films: list[Path], intake: Intake, first_ms: int) -> dict[str, bytes]:
    """Items met in the written events, and what files of films say."""
    records = {
        item_id: encode_item(item_id, item.version, item.updated_ms, **item.content._asdict())
        for item_id, item in intake.items.items()
    }
    for file in films:
        records.update(movielens_catalogue(file, intake, first_ms))
    return records
