"""How many messages a campaign may send, and how fast all of them go out; each partition has its share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.core.caps import DRY, name_of
from stream.core.config import DAY_S
from stream.core.ledgers import book

if TYPE_CHECKING:
    from schemas.campaigns import Campaign
    from stream.core.config import CampaignPolicy
    from stream.core.reference import Reference
    from stream.core.state import PartitionState

__all__ = ["Budgets"]


class Budgets:
    """Counts in the partition's header, so they survive a restart."""

    def __init__(self, policy: CampaignPolicy, state: PartitionState, reference: Reference) -> None:
        self._partitions = policy.partitions
        per_minute = policy.max_per_minute
        self._gap_s = 0.0 if per_minute is None else 60.0 * policy.partitions / per_minute
        self._state = state
        self._reference = reference

    def allows(self, campaign: Campaign, now: float) -> bool:
        """Whether this partition's share of the campaign's budget is not used up."""
        budget = campaign.budget
        if budget is None:
            return True
        day, on_day, total = self._state.header.sent.get(name_of(campaign), (0, 0, 0))
        used = total if budget.per == "total" else on_day if day == _day(day, now) else 0
        return used < budget.messages // self._partitions

    def consume(self, campaign: Campaign, now: float) -> None:
        """Count a sent message."""
        if campaign.budget is None:
            return
        sent, name = self._state.header.sent, name_of(campaign)
        day, on_day, total = sent.get(name, (0, 0, 0))
        today = _day(day, now)
        counts = [today, on_day + 1 if day == today else 1, total + 1]
        book(sent, name, counts, self._in_force)

    def _in_force(self, name: str) -> bool:
        campaign = self._reference.campaigns.get(name.removesuffix(DRY))
        return campaign is not None and campaign.budget is not None

    def slot(self, now: float, expires_at: float) -> float | None:
        """Reserve the next moment at which the send rate lets a message go; ``None``: too late for it."""
        if not self._gap_s:
            return now
        header = self._state.header
        at = max(now, header.free_at)
        if at > expires_at:
            return None
        header.free_at = at + self._gap_s
        return at


def _day(last: int, now: float) -> int:
    """Number of the UTC day; it never goes back."""
    return max(last, int(now // DAY_S))
