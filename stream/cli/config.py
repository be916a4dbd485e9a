"""Commands about the settings: show, check."""

from __future__ import annotations

import typer

from stream.options import settings_of
from stream.terminal import print_json, say

__all__ = ["app"]

app = typer.Typer(help="Show and check the settings.")


@app.command("show")
def config_show() -> None:
    """Print all settings as they are in force."""
    print_json(settings_of().model_dump(mode="json"))


@app.command("check")
def config_check() -> None:
    """End with 78 if the settings cannot be used."""
    settings_of()
    say("the settings are valid")
