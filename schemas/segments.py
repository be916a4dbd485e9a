"""Segments: named sets of users, each by one condition on what is known of the user. Data, no code."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from schemas.campaigns import Name
from schemas.conditions import Condition

__all__ = ["SEGMENT_KEY", "Centre", "Segment"]

SEGMENT_KEY = "segment|"  # and the id: how a segment is keyed on the topic that it shares with campaigns


# Facts of the user that are numbers, and that events change and time does not.
_COUNTS = frozenset({"user.n_events", "user.n_views", "user.n_adds", "user.n_orders"})


class Centre(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A point to which users are near, or nearer than to the other centres of the same clustering.

    ``at`` has the values of facts that only events change; a fact that is not named is 0. Distances are
    between logarithms (of 1 + value), so from 1 to 3 orders is as far as from 3 to 7.
    """

    clustering: Name
    at: Annotated[dict[str, Annotated[float, Meta(ge=0)]], Meta(min_length=1, max_length=16)]

    def __post_init__(self) -> None:
        """Refuse facts that are no counts or sums of the user."""
        for fact in self.at:
            if fact not in _COUNTS and not (fact.startswith("user.revenue.") and fact != "user.revenue."):
                message = f"at: {fact!r} is none of {', '.join(sorted(_COUNTS))}, user.revenue.CURRENCY"
                raise ValueError(message)


class Segment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Users for whom ``when`` holds, which may name facts of the user only, or who are nearest to a centre.

    A segment that is disabled or deleted is left by its users, each at the user's next event.
    """

    segment_id: Name
    version: str | int
    when: Condition | None = None
    nearest: Centre | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        """Refuse facts that are gone after the event, and segments that are made of segments."""
        if (self.when is None) == (self.nearest is None):
            message = "when: a segment has either a condition or, in nearest, a centre"
            raise ValueError(message)
        for fact in sorted(self.when.facts() if self.when is not None else ()):
            if not fact.startswith("user."):
                message = f"when: {fact!r} is no fact of the user; a segment outlives the event"
                raise ValueError(message)
            if fact == "user.segments":
                message = "when: a segment cannot be made of segments; repeat their conditions"
                raise ValueError(message)
