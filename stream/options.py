"""What several commands take: options by one name with one meaning, times, and the settings they change."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from schemas.codec import parse_time
from stream.terminal import ExitCode, fail, read_settings

if TYPE_CHECKING:
    from stream.settings import Settings

__all__ = [
    "MAX_SEED",
    "AsJson",
    "Bootstrap",
    "Campaigns",
    "Catalogue",
    "EventsFile",
    "Offers",
    "Seed",
    "make_folder",
    "open_sink",
    "settings_of",
    "time_of",
]

MAX_SEED = 2**64 - 1  # half of a Philox key

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Bootstrap = Annotated[str | None, typer.Option(help="Kafka, host:port; default NUDGE_KAFKA__BOOTSTRAP.")]
Seed = Annotated[
    int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of every draw; default NUDGE_SEED.")
]
Catalogue = Annotated[Path | None, typer.Option(exists=True, help="Items, one JSON object a line.")]
Offers = Annotated[Path | None, typer.Option(exists=True, help="Offers, one JSON object a line.")]
Campaigns = Annotated[Path | None, typer.Option(exists=True, help="Campaigns: YAML or JSON, file or folder.")]
EventsFile = Annotated[
    Path | None, typer.Option("--events", exists=True, dir_okay=False, help="JSONL, plain or .gz.")
]


def settings_of(*, seed: int | None = None, bootstrap: str | None = None) -> Settings:
    """Read the settings; what the command line gives wins."""
    changes: dict[str, Any] = {}
    if seed is not None:
        changes["seed"] = seed
    if bootstrap is not None:
        changes["kafka"] = {"bootstrap": bootstrap}  # merged with the environment's other values
    return read_settings(**changes)


def make_folder(folder: Path, option: str) -> None:
    """Make an output folder, before an hour of work ends for want of one; end with 2 where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fail(ExitCode.USAGE, f"{option}: cannot write to {folder}: {error.strerror}")


def open_sink(file: Path, option: str) -> BinaryIO:
    """Open a file for what a command writes; end with 2 where it cannot be."""
    try:
        return file.open("wb")
    except OSError as error:
        fail(ExitCode.USAGE, f"{option}: cannot write {file}: {error.strerror}")


def time_of(text: str, option: str) -> float:
    """Read a time that an option gives, seconds since the epoch; end with 2 if it is none."""
    try:
        return parse_time(text)
    except ValueError:
        fail(ExitCode.USAGE, f"{option} {text!r} is not a time; write 2017-11-24 or 2017-11-24T16:00:00Z")
