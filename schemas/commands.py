"""What operators tell a running system.

A command is written to every partition, and is carried out where it concerns somebody.

>>> decode_command(b'{"command_id":"c1","kind":"stop","switch":"messages"}').switch.value
'messages'
>>> decode_command(b'{"command_id":"c1","kind":"erase"}').message
'erase needs a user_id'
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec import Struct

from schemas.codec import MAX_ID_LENGTH, UNREADABLE, Rejected
from schemas.reasons import RejectCode

__all__ = ["Command", "CommandKind", "Switch", "decode_command"]

MAX_COMMAND_BYTES = 4096


class CommandKind(StrEnum):
    """What is to be done."""

    ERASE = "erase"
    STOP = "stop"
    RESUME = "resume"


class Switch(StrEnum):
    """What can be stopped: messages (all, or those of one campaign), learning, or the use of models."""

    MESSAGES = "messages"
    LEARNING = "learning"
    MODELS = "models"


class Command(Struct, frozen=True):
    """One command: ``erase`` names a user, ``stop`` and ``resume`` a switch.

    Attributes
    ----------
    campaign_id : str, optional
        With the switch ``messages``: of this campaign only.
    """

    command_id: str
    kind: CommandKind
    user_id: str | None = None
    switch: Switch | None = None
    campaign_id: str | None = None
    issued_at: str | None = None

    @property
    def stops(self) -> str:
        """Name of what a stop stops, as the state of a partition keeps it."""
        name = self.switch.value if self.switch is not None else ""
        return f"{name}:{self.campaign_id}" if self.campaign_id else name


_decoder = msgspec.json.Decoder(Command)


def decode_command(value: bytes) -> Command | Rejected:
    """Read a command, or say why it is none."""
    if len(value) > MAX_COMMAND_BYTES:
        text = f"command of {len(value)} bytes; limit {MAX_COMMAND_BYTES}"
        return Rejected(RejectCode.TOO_LARGE, "$", text)
    try:
        command = _decoder.decode(value)
    except msgspec.ValidationError as error:
        return Rejected(RejectCode.BAD_SHAPE, "$", str(error))
    except UNREADABLE as error:
        return Rejected(RejectCode.NOT_JSON, "$", str(error))
    return _fault(command) or command


def _fault(command: Command) -> Rejected | None:
    """Say what is wrong with a command of the right shape."""
    for field in ("command_id", "user_id", "campaign_id"):
        text = getattr(command, field)
        if text is not None and not 0 < len(text) <= MAX_ID_LENGTH:
            return Rejected(RejectCode.BAD_ID, f"$.{field}", f"{len(text)} characters; 1..{MAX_ID_LENGTH}")
    if command.kind is CommandKind.ERASE and command.user_id is None:
        return Rejected(RejectCode.MISSING_USER, "$.user_id", "erase needs a user_id")
    if command.kind is not CommandKind.ERASE and command.switch is None:
        return Rejected(RejectCode.BAD_SHAPE, "$.switch", f"{command.kind.value} needs a switch")
    if command.campaign_id is not None and command.switch is not Switch.MESSAGES:
        return Rejected(RejectCode.BAD_SHAPE, "$.campaign_id", "only messages can be stopped by campaign")
    return None
