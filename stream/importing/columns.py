"""Delimited lines with a header: where the needed columns stand, and the fields of a line in that order."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from stream.importing.canonical import Intake, Reason
from stream.importing.lines import DataSetError, Line

__all__ = ["Fields", "comma_fields", "split_lines", "tab_fields", "table"]

Fields = tuple[int, list[str]]
"""A line's number and its fields."""

Splitter = Callable[[str], list[str] | None]


def tab_fields(text: str) -> list[str]:
    """Fields between tabs, outer blanks removed."""
    return [part.strip() for part in text.split("\t")]


def comma_fields(text: str) -> list[str] | None:
    """Fields of one CSV line, quotes undone, outer blanks removed; nothing if the quotes do not pair.

    Lines are read one by one: an unpaired quote costs its own line, not the rest of the file.
    """
    if '"' not in text:
        return [part.strip() for part in text.split(",")]
    try:
        (parts,) = csv.reader([text], strict=True)
    except csv.Error:
        return None
    return [part.strip() for part in parts]


def split_lines(lines: Iterable[Line], intake: Intake, split: Splitter, n_fields: int) -> Iterator[Fields]:
    """Split lines into exactly `n_fields` fields; count every line, and those that do not fit."""
    for line in lines:
        intake.read += 1
        if line.text is None:
            intake.reject(Reason.LINE_TOO_LONG)
            continue
        parts = split(line.text)
        if parts is None:
            intake.reject(Reason.BAD_QUOTING)
        elif len(parts) < n_fields:
            intake.reject(Reason.MISSING_FIELD)
        elif len(parts) > n_fields:
            intake.reject(Reason.TOO_MANY_FIELDS)
        else:
            yield line.number, parts


def table(
    lines: Iterator[Line],
    intake: Intake,
    split: Splitter,
    columns: Mapping[str, Sequence[str]],
    optional: Collection[str] = (),
) -> Iterator[Fields]:
    """Read a header, then the fields of each line in the order of `columns`, whatever the file's order.

    Parameters
    ----------
    columns : Mapping[str, Sequence[str]]
        Column -> the headings it goes by.
    optional : Collection[str]
        Columns that the file may lack; their fields are empty then.

    Raises
    ------
    DataSetError
        The header lacks a needed column. An empty file has no header and no lines.
    """
    header = next(lines, None)
    if header is None:
        return
    heading = split(header.text or "") or []
    places: list[int | None] = []
    for column, names in columns.items():
        found = next((place for place, name in enumerate(heading) if name in names), None)
        if found is None and column not in optional:
            raise DataSetError(
                f"{intake.source}: the first line has no column {' or '.join(names)} (for the {column}), "
                f"found: {', '.join(heading)[:200]}; give the file with its header"
            )
        places.append(found)
    for line_number, parts in split_lines(lines, intake, split, len(heading)):
        yield line_number, ["" if place is None else parts[place] for place in places]
