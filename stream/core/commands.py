"""Commands of operators, as a partition obeys them: forget somebody, stop something, let it go on.

What is stopped stays stopped over restarts: it is part of the partition's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.codec import Rejected
from schemas.commands import CommandKind, Switch, decode_command

if TYPE_CHECKING:
    from stream.core.records import Outputs, Record
    from stream.core.rows import Header
    from stream.core.state import PartitionState

__all__ = ["is_stopped", "obey"]

MAX_STOPPED = 256  # names that are kept; a campaign beyond them stops all messages


def obey(record: Record, state: PartitionState, outputs: Outputs) -> None:
    """Carry out one command; what cannot be read becomes a dead letter."""
    command = decode_command(record.value)
    if isinstance(command, Rejected):
        outputs.dead_letter(record, command)
        outputs.counts["command", "rejected"] += 1
        return
    outputs.counts["command", command.kind.value] += 1
    stopped = state.header.stopped
    if command.kind is CommandKind.ERASE and command.user_id is not None:
        if command.user_id in state:
            state.forget(command.user_id)
    elif command.kind is CommandKind.STOP:
        fits = len(stopped) < MAX_STOPPED or command.campaign_id is None
        name = command.stops if fits or command.stops in stopped else Switch.MESSAGES.value
        if name not in stopped:
            stopped.append(name)
    elif command.stops in stopped:
        stopped.remove(command.stops)


def is_stopped(header: Header, switch: Switch, campaign_id: str | None = None) -> bool:
    """Whether a switch is off, for everything or for one campaign."""
    stopped = header.stopped
    return bool(stopped) and (switch.value in stopped or f"{switch.value}:{campaign_id}" in stopped)
