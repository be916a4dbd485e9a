"""Segments: named sets of users, each by one condition on what is known of the user. Data, no code."""

from __future__ import annotations

from msgspec import Struct

from schemas.campaigns import Name
from schemas.conditions import Condition

__all__ = ["SEGMENT_KEY", "Segment"]

SEGMENT_KEY = "segment|"  # and the id: how a segment is keyed on the topic that it shares with campaigns


class Segment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Users for whom ``when`` holds, which may name facts of the user only.

    A segment that is disabled or deleted is left by its users, each at the user's next event.
    """

    segment_id: Name
    version: str | int
    when: Condition
    enabled: bool = True

    def __post_init__(self) -> None:
        """Refuse facts that are gone after the event, and segments that are made of segments."""
        for fact in sorted(self.when.facts()):
            if not fact.startswith("user."):
                message = f"when: {fact!r} is no fact of the user; a segment outlives the event"
                raise ValueError(message)
            if fact == "user.segments":
                message = "when: a segment cannot be made of segments; repeat their conditions"
                raise ValueError(message)
