"""Commands about dead letters: list, show, replay."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.codec import rfc3339
from stream.options import AsJson, Bootstrap, settings_of
from stream.terminal import ExitCode, fail, print_json, progress_bar, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

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
    counts: Counter[tuple[str, str]] = Counter()
    newest: dict[tuple[str, str], DeadRecord] = {}
    for letter in _letters(settings_of(bootstrap=bootstrap).kafka, code):
        kind = letter.code, letter.path
        counts[kind] += 1
        if kind not in newest or letter.time >= newest[kind].time:
            newest[kind] = letter
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
    say(f"{counts.total()} dead letters; `nudge dlq show PARTITION:OFFSET` prints one")


@app.command()
def show(
    place: Annotated[str, typer.Argument(help="PARTITION:OFFSET, as `nudge dlq list` names it.")],
    bootstrap: Bootstrap = None,
) -> None:
    """Write a dead letter's bytes to stdout as they came, and what is wrong with them to stderr."""
    from stream.runtime.deadletters import dead_letter_at

    if not (match := re.fullmatch(r"(\d{1,9}):(\d{1,18})", place, re.ASCII)):
        fail(ExitCode.USAGE, f"{place!r} is not PARTITION:OFFSET; `nudge dlq list` names some")
    kafka = settings_of(bootstrap=bootstrap).kafka
    letter = asyncio.run(dead_letter_at(kafka, int(match[1]), int(match[2])))
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
    from stream.runtime.deadletters import replay_dead_letters

    def wanted(letter: DeadRecord) -> bool:
        return (code is None or letter.code == code) and (place is None or letter.place == place)

    kafka = settings_of(bootstrap=bootstrap).kafka
    were_cut = Counter(letter.is_cut for letter in _letters(kafka, code) if wanted(letter))
    if were_cut[True]:
        say(f"{were_cut[True]} were cut, so they cannot be sent again; their producers have them")
    if not were_cut[False]:
        fail(ExitCode.FAILED_CHECK, "no dead letter is meant; `nudge dlq list` names some")
    if not yes:
        say(f"{were_cut[False]} dead letters would be sent again; --yes sends them")
        return
    with progress_bar("sending again", were_cut[False]) as progress:
        sent = asyncio.run(replay_dead_letters(kafka, wanted, progress))
    say(f"{sent} dead letters were sent again")


def _letters(kafka: KafkaSettings, code: str | None) -> Iterator[DeadRecord]:
    """Pass by all dead letters, or those with a code, chunk by chunk."""
    from stream.runtime.deadletters import scan_dead_letters

    with asyncio.Runner() as runner:
        chunks = scan_dead_letters(kafka)
        while (chunk := runner.run(_next(chunks))) is not None:
            yield from (letter for letter in chunk if code is None or letter.code == code)


async def _next(chunks: AsyncIterator[list[DeadRecord]]) -> list[DeadRecord] | None:
    return await anext(chunks, None)
