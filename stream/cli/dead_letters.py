"""Commands about dead letters: list, show, replay."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.codec import rfc3339
from stream.options import AsJson, Bootstrap, settings_of
from stream.terminal import ExitCode, fail, print_json, say

if TYPE_CHECKING:
    from stream.runtime.deadletters import DeadRecord
    from stream.sections import KafkaSettings

__all__ = ["app"]

app = typer.Typer(
    help="Look at rejected records, and send them again once their producer or Nudge is mended."
)
Code = Annotated[str | None, typer.Option(help="Only records with this code, e.g. poison.")]


@app.command("list")
def list_(code: Code = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Count dead letters by code and place in the record, with the newest of each.

    Example: nudge dlq list
    """
    letters = _read(settings_of(bootstrap=bootstrap).kafka, code)
    counts = Counter((letter.code, letter.path) for letter in letters)
    newest = {(letter.code, letter.path): letter for letter in sorted(letters, key=lambda one: one.time)}
    rows = [
        {
            "code": code,
            "path": path,
            "n": n,
            "newest": newest[code, path].place,
            "at": rfc3339(newest[code, path].time),
        }
        for (code, path), n in counts.most_common()
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        where = f"{row['code']:20} {row['path']:32}"
        sys.stdout.write(f"{row['n']:>8}  {where} newest {row['newest']} at {row['at']}\n")
    say(f"{len(letters)} dead letters; `nudge dlq show PARTITION:OFFSET` prints one")


@app.command()
def show(
    place: Annotated[str, typer.Argument(help="PARTITION:OFFSET, as `nudge dlq list` names it.")],
    bootstrap: Bootstrap = None,
) -> None:
    """Write a dead letter's bytes to stdout as they came, and what is wrong with them to stderr."""
    letters = _read(settings_of(bootstrap=bootstrap).kafka, None)
    letter = next((letter for letter in letters if letter.place == place), None)
    if letter is None:
        fail(ExitCode.FAILED_CHECK, f"no dead letter at {place}; `nudge dlq list` names some")
    say(f"{letter.code} at {letter.path}; it was record {letter.source_offset} of partition")
    say(f"{letter.source_partition}, key {letter.key!r}, dead since {rfc3339(letter.time)}")
    sys.stdout.buffer.write((letter.value or b"") + b"\n")
    sys.stdout.buffer.flush()


@app.command()
def replay(
    code: Code = None,
    place: Annotated[str | None, typer.Option("--at", help="Only the one at PARTITION:OFFSET.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send them; without it, only say how many.")] = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Send dead letters to the topic they came from again, each as it came and into its partition.

    One that was cut, for it was larger than a dead letter may be, is passed by. What is still wrong comes
    back as a dead letter. What was accepted meanwhile under the same messageId is a duplicate and changes
    nothing. Events from too long ago are late: they still cancel and suppress.

    Example: nudge dlq replay --code poison --yes
    """
    kafka = settings_of(bootstrap=bootstrap).kafka
    meant = [letter for letter in _read(kafka, code) if place is None or letter.place == place]
    letters = [letter for letter in meant if not letter.is_cut]
    if len(letters) < len(meant):
        say(f"{len(meant) - len(letters)} were cut, so they cannot be sent again; their producers have them")
    if not letters:
        fail(ExitCode.FAILED_CHECK, "no dead letter is meant; `nudge dlq list` names some")
    if not yes:
        say(f"{len(letters)} dead letters would be sent again; --yes sends them")
        return
    from stream.runtime.deadletters import replay_dead_letters
    from stream.runtime.errors import WorkerError

    try:
        asyncio.run(replay_dead_letters(kafka, letters))
    except WorkerError as error:
        fail(ExitCode(error.exit_code), str(error))
    say(f"{len(letters)} dead letters were sent again")


def _read(kafka: KafkaSettings, code: str | None) -> list[DeadRecord]:
    from stream.runtime.deadletters import read_dead_letters
    from stream.runtime.errors import WorkerError

    try:
        letters = asyncio.run(read_dead_letters(kafka))
    except WorkerError as error:
        fail(ExitCode(error.exit_code), str(error))
    return [letter for letter in letters if code is None or letter.code == code]
