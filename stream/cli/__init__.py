"""The command line. Each command is thin: parse, call, print.

Data goes to stdout, talk to stderr; ``--json`` wherever a program may read; exit codes in
:class:`stream.terminal.ExitCode`.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from typing import Any

import typer
from typer.core import TyperGroup

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
from stream.runtime.errors import WorkerError
from stream.terminal import ExitCode, fail

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """All commands; where a pipe was closed, or a disk is full, they end with a code and no traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and write out what it said."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            if not _nobody_reads():
                raise
            _discard()
            raise SystemExit(int(ExitCode.OK)) from None
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            _discard()
            fail(ExitCode.INTERNAL, str(error))


def _nobody_reads() -> bool:
    """Whether standard output is a closed pipe, as behind ``| head``."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    return any(state & select.POLLERR for _, state in output.poll(0))


def _discard() -> None:
    """Let go of what standard output did not take; else Python tries again at its end, and ends with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    name="nudge",
    cls=_Commands,
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
    except WorkerError as error:  # what a broker or its topics refuse
        fail(ExitCode(error.exit_code), str(error))
