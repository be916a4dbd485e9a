"""How commands talk: data to stdout, talk to stderr, a bar on long work, a code for each kind of end."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from stream.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.table import Table

__all__ = [
    "ExitCode",
    "fail",
    "json_bytes",
    "print_json",
    "progress_bar",
    "read_settings",
    "say",
    "say_table",
    "talk",
]

# No markup: names of campaigns, items and actions are free text, and "cart[/x]" is one.
talk = Console(stderr=True, highlight=False, markup=False)

WIDTH = 140  # of a table that goes to a file or another program


class ExitCode(IntEnum):
    """Exit codes of every command; 65 to 78 are those of ``sysexits.h``."""

    OK = 0
    FAILED_CHECK = 1
    USAGE = 2
    BAD_DATA = 65
    BROKER_UNAVAILABLE = 69
    INTERNAL = 70
    BAD_CONFIGURATION = 78


def fail(code: ExitCode, message: str) -> NoReturn:
    """Say what is wrong on stderr and end with a code."""
    say(f"nudge: {message}", style="red")
    raise SystemExit(int(code))


def read_settings(**changes: Any) -> Settings:
    """Read the settings of the environment, ``changes`` winning; end with 78 where they cannot be used."""
    try:
        return Settings(**changes)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()
        )
        fail(ExitCode.BAD_CONFIGURATION, f"bad configuration: {faults}")
    except SettingsError as error:  # a section's or a list's variable that is no JSON
        fail(ExitCode.BAD_CONFIGURATION, f"bad configuration: {error}: {error.__cause__}")


def say(text: str, style: str = "") -> None:
    """Write a line to stderr as it is: no markup, no wrapping, so that programs may read it too."""
    talk.print(text, style=style, soft_wrap=True)


def say_table(table: Table) -> None:
    """Write a table to stderr; where that is no terminal it may be wider than one."""
    wide = Console(stderr=True, highlight=False, markup=False, width=WIDTH)
    (talk if talk.is_terminal else wide).print(table)


def json_bytes(data: Any) -> bytes:
    """Return one JSON document as people and programs read it."""
    return orjson.dumps(data, option=orjson.OPT_INDENT_2) + b"\n"


def print_json(data: Any) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.buffer.write(json_bytes(data))
    sys.stdout.buffer.flush()


@contextmanager
def progress_bar(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show how far long work is, on a terminal only; the caller reports absolute numbers."""
    if not talk.is_terminal:
        yield lambda _done: None
        return
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn()]
    with Progress(*columns, MofNCompleteColumn(), TimeElapsedColumn(), console=talk, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)
