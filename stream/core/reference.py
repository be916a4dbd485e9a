"""Read-only view of items, offers and campaigns. The engine never writes it; a host applies new records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.catalogue import Campaign, Item, Offer

__all__ = ["Reference"]


@dataclass(slots=True)
class Reference:
    """The current reference records, by id."""

    items: dict[str, Item] = field(default_factory=dict)
    offers: dict[str, Offer] = field(default_factory=dict)
    campaigns: dict[str, Campaign] = field(default_factory=dict)

    def may_show(self, item_id: str) -> bool:
        """Whether an item may be shown now; an item the catalogue does not know may."""
        item = self.items.get(item_id)
        return item is None or item.available

    def category_of(self, item_id: str) -> str | None:
        """Category of an item, where the catalogue knows it."""
        item = self.items.get(item_id)
        return None if item is None else item.category

    def active_offers(self, now: float) -> list[Offer]:
        """Offers active at ``now``, by id, in the currency of the first: money of two is never compared."""
        offers = [
            offer
            for _, offer in sorted(self.offers.items())
            if (offer.active_from is None or offer.active_from.timestamp() <= now)
            and (offer.active_to is None or now < offer.active_to.timestamp())
        ]
        return [offer for offer in offers if offer.currency == offers[0].currency]

    def active_campaigns(self) -> Sequence[Campaign]:
        """Campaigns that may arm timers, in order of their ids."""
        return [campaign for _, campaign in sorted(self.campaigns.items()) if campaign.enabled]
