"""Commands that workers obey while they run: stop, resume, erase."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

import msgspec
import typer

from schemas.codec import Rejected
from schemas.commands import CommandKind, decode_command
from stream.options import Bootstrap, settings_of
from stream.terminal import ExitCode, fail, say

__all__ = ["app"]

app = typer.Typer()


@app.command()
def stop(
    switch: Annotated[str, typer.Argument(help="messages, learning or models.")],
    campaign: Annotated[str | None, typer.Option(help="With messages: those of this campaign only.")] = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Stop all messages or one campaign's, learning, or the use of models (slates are best sellers then).

    Every partition obeys with its next batch, and stays stopped until `nudge resume`.

    Example: nudge stop messages --campaign cart
    """
    _command(CommandKind.STOP, bootstrap, switch=switch, campaign_id=campaign)


@app.command()
def resume(
    switch: Annotated[str, typer.Argument(help="messages, learning or models.")],
    campaign: Annotated[str | None, typer.Option(help="With messages: those of this campaign only.")] = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Let go on what `nudge stop` stopped under the same words.

    Example: nudge resume messages --campaign cart
    """
    _command(CommandKind.RESUME, bootstrap, switch=switch, campaign_id=campaign)


@app.command()
def erase(
    user: Annotated[str, typer.Argument(help="The user's id, as events name it.")],
    bootstrap: Bootstrap = None,
) -> None:
    """Forget a user: profile, timers, open decisions and the models' memory of the user.

    Outputs that were already written stay for as long as their topics keep them; sums in the models name
    nobody. Consents and refusals are forgotten, too.

    Example: nudge erase customer-17
    """
    _command(CommandKind.ERASE, bootstrap, user_id=user)


def _command(kind: CommandKind, bootstrap: str | None, **fields: str | None) -> None:
    """Send a command to all partitions."""
    from stream.runtime.commanding import send_command

    issued_at = datetime.now(UTC).isoformat()
    body = {"command_id": uuid4().hex, "kind": kind.value, "issued_at": issued_at} | fields
    command = decode_command(
        msgspec.json.encode({key: text for key, text in body.items() if text is not None})
    )
    if isinstance(command, Rejected):
        fail(ExitCode.USAGE, f"{command.path}: {command.message}")
    settings = settings_of(bootstrap=bootstrap)
    n_partitions = asyncio.run(send_command(settings.kafka, command))
    say(f"{kind.value} {command.user_id or command.stops}: sent to {n_partitions} partitions")
