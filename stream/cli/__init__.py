"""The command line. Each command is thin: parse, call, print.

Data goes to stdout, talk to stderr; ``--json`` wherever a program may read; exit codes in
:class:`stream.terminal.ExitCode`.
"""

from __future__ import annotations

import sys

import typer

from stream.cli import (
    config,
    dead_letters,
    doctor,
    files,
    looking_back,
    operating,
    published,
    running,
    topics,
)
from stream.evaluate import commands as evaluating
from stream.reading import BadFileError
from stream.terminal import ExitCode, fail

__all__ = ["app", "main"]

app = typer.Typer(
    name="nudge",
    help="Streaming event processor for smart marketing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for commands in (files, running, operating, looking_back, doctor):
    app.add_typer(commands.app)
app.add_typer(topics.app, name="topics")
app.add_typer(published.app, name="schemas")
app.add_typer(dead_letters.app, name="dlq")
app.add_typer(config.app, name="config")
app.add_typer(evaluating.app, name="evaluate")


def main() -> None:
    """Run the command line; what a user can cause ends with a sentence and a code, not with a traceback."""
    try:
        app()
    except BadFileError as error:
        fail(ExitCode.BAD_DATA, str(error))
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(int(ExitCode.OK)) from None
