"""Why and for whom something is decided: the cause that every output names, and the occasion of a choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.codec import rfc3339
from schemas.outputs import Cause

if TYPE_CHECKING:
    from schemas.events import Event
    from stream.core.rows import ModelMemory, Profile

__all__ = ["Occasion", "SegmentChange", "cause_of"]


@dataclass(frozen=True, slots=True)
class Occasion:
    """A moment at which something may be sent to a user.

    ``now`` is event time in seconds; ``model_version`` names what the models had folded.
    """

    user: str
    profile: Profile
    memory: ModelMemory
    now: float
    cause: Cause
    model_version: str


@dataclass(frozen=True, slots=True)
class SegmentChange:
    """A user's entry into a segment, or exit, with the event that brought it about; ``time`` in seconds."""

    user: str
    segment: str
    entered: bool
    time: float
    message_id: str
    event: str


def cause_of(event: Event) -> Cause:
    """Name an event as a cause."""
    return Cause(event.message_id, event.name, rfc3339(event.time))
