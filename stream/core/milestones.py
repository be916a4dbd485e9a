"""Milestones: which thresholds of a counter an event has just crossed, and whether that still stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.core.profiles import MONEY_DIGITS, amount_of

if TYPE_CHECKING:
    from schemas.campaigns import Campaign
    from schemas.events import Event
    from stream.core.rows import Profile

__all__ = ["crossed", "stands"]


def crossed(campaign: Campaign, event: Event, profile: Profile) -> list[float]:
    """Thresholds that the counter reached with this event, which the profile has counted already.

    What a user had reached before the campaign began is not reached again.
    """
    if campaign.counter == "revenue":
        amount = amount_of(event)
        if amount is None or amount[0] != (campaign.currency or "").upper():
            return []
        after = profile.revenue.get(amount[0], 0.0)
        before = round(after - amount[1], MONEY_DIGITS)
    else:
        after = float(getattr(profile, campaign.counter or "n_events"))
        before = after - 1.0
    return [threshold for threshold in campaign.thresholds if before < threshold <= after]


def stands(campaign: Campaign, threshold: float, profile: Profile) -> bool:
    """Whether a counter is still where it was reached: what was paid may have been refunded since."""
    if campaign.counter == "revenue":
        return profile.revenue.get((campaign.currency or "").upper(), 0.0) >= threshold
    return float(getattr(profile, campaign.counter or "n_events")) >= threshold
