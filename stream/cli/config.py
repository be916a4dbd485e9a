"""Commands about the settings: show, check."""

from __future__ import annotations

import os

import typer

from stream.misspelt import misspelt
from stream.options import settings_of
from stream.terminal import ExitCode, fail, print_json, say

__all__ = ["app"]

app = typer.Typer(help="Show and check the settings.")


@app.command("show")
def config_show() -> None:
    """Print all settings as they are in force."""
    print_json(settings_of().model_dump(mode="json"))


@app.command("check")
def config_check() -> None:
    """End with 78 if the settings cannot be used, or a variable is nearly one."""
    settings_of()
    if found := misspelt(os.environ):
        told = [
            f"{name} is no setting" + (f"; did you mean {near}?" if near else "")
            for name, near in found.items()
        ]
        fail(ExitCode.BAD_CONFIGURATION, ". ".join(told))
    say("the settings are valid")
