"""Commands about the published schemas: write, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.options import make_folder
from stream.terminal import ExitCode, say

__all__ = ["app"]

app = typer.Typer(help="Write or check the published JSON Schemas and the AsyncAPI document.")


PUBLISHED = Path("schemas/published")


@app.command("write")
def schemas_write(folder: Annotated[Path, typer.Argument()] = PUBLISHED) -> None:
    """Generate the published schemas from the code."""
    from stream.runtime.asyncapi import published

    make_folder(folder, "FOLDER")
    for name, text in published().items():
        (folder / name).write_text(text)
        say(str(folder / name))


@app.command("check")
def schemas_check(folder: Annotated[Path, typer.Argument()] = PUBLISHED) -> None:
    """End with 1 if a published schema differs from the code."""
    from stream.runtime.asyncapi import published

    stale = [
        name
        for name, text in published().items()
        if not (folder / name).is_file() or (folder / name).read_text() != text
    ]
    for name in stale:
        say(f"stale: {folder / name} (nudge schemas write)", style="red")
    if stale:
        raise typer.Exit(ExitCode.FAILED_CHECK)
