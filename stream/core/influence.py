"""Influence: nobody teaches the models more than a bounded amount, however often they click.

A user teaches each model a bounded number of examples a day, an item at most a share of what the click model
learns in an hour. What is beyond is not learned; it still closes its decision or impression.
Days and hours are those of event time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stream.core.config import DAY_S

if TYPE_CHECKING:
    from stream.core.attribution import Feedback
    from stream.core.config import AttributionConfig
    from stream.core.rows import ModelMemory
    from stream.core.state import PartitionState

__all__ = ["Influence"]

HOUR_S: Final = 3600.0
FREE: Final = 1000  # examples of one item in one hour that are always learned: small shops have few items
COUNTED: Final = 64  # items; an item's count is too low by at most one 64th of all, and never too high
_PLACES: Final = {"click": 1, "conversion": 1, "offer": 2}  # in ModelMemory.taught, after the day


class Influence:
    """Drops feedback beyond the bounds, in the order it comes in."""

    def __init__(self, config: AttributionConfig, state: PartitionState) -> None:
        clicks, offers = config.max_clicks_per_day, config.max_offers_per_day
        self._limits = {"click": clicks, "conversion": clicks, "offer": offers}
        self._item_share = config.item_share
        self._state = state

    def bounded(self, feedback: list[Feedback], memory: ModelMemory) -> list[Feedback]:
        """Return what one user's feedback may still teach."""
        return [one for one in feedback if self._may_teach(one, memory)]

    def _may_teach(self, feedback: Feedback, memory: ModelMemory) -> bool:
        day, place = int(feedback.at // DAY_S), _PLACES[feedback.kind]
        if not memory.taught or day > memory.taught[0]:
            memory.taught = [day, 0, 0]
        if memory.taught[place] >= self._limits[feedback.kind]:
            return False
        if feedback.kind == "click" and not self._item_may_teach(feedback.action, feedback.at):
            return False
        memory.taught[place] += 1
        return True

    def _item_may_teach(self, item_id: str, at: float) -> bool:
        """Count by Misra and Gries: an item that is not among the counted has few."""
        shares, hour = self._state.header.shares, int(at // HOUR_S)
        counts = shares.counts
        if hour > shares.hour:
            shares.hour, shares.total = hour, 0
            counts.clear()
        if counts.get(item_id, 0) >= max(FREE, self._item_share * shares.total):
            return False
        shares.total += 1
        if item_id in counts or len(counts) < COUNTED:
            counts[item_id] = counts.get(item_id, 0) + 1
            return True
        for other in list(counts):
            counts[other] -= 1
            if not counts[other]:
                del counts[other]
        return True
