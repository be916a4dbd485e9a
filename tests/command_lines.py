"""Commands as text: split a shell script into them, and parse those of `nudge` without running anything."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import typer
import typer.main

from stream.cli import app

SEPARATORS = {"|", "||", "&", "&&", ";", "(", ")"}
REDIRECTIONS = {">", ">>", "<", "2>", "&>"}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


def commands(script: str) -> Iterator[list[str]]:
    """Yield the simple commands of a script, without assignments, redirections and comments."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for token in [*lexer, ";"]:
            if token not in SEPARATORS:
                words.append(token)
                continue
            if command := _stripped(words):
                yield command
            words = []


def check_nudge(arguments: Sequence[str]) -> None:
    """Parse the arguments of `nudge` as the command line does; types and files are not looked at.

    Raises
    ------
    ValueError
        A command that does not exist, an argument too many, or a required one that is missing. An unknown
        option raises what the command line itself raises for it.
    """
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            raise ValueError(f"no command {' '.join(rest[:1])!r}")
        command, rest = command.commands[rest[0]], rest[1:]
    if "--help" in rest:
        return
    given, left, _ = command.make_parser(typer.Context(command)).parse_args(rest)
    if left:
        raise ValueError(f"nothing takes {left}")
    for parameter in command.params:
        if parameter.required and not isinstance(given.get(parameter.name), str | list | tuple):
            raise ValueError(f"{parameter.name} is missing")


def _stripped(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word in REDIRECTIONS:
            skip = not skip
        elif kept or not _ASSIGNMENT.match(word):
            kept.append(word)
    return kept
