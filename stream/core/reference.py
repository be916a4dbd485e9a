"""Read-only view of items, offers and campaigns. The engine never writes it; a host applies new records."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from online_models.changes import Changes
from schemas.codec import epoch_seconds

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from schemas.campaigns import Campaign
    from schemas.catalogue import Item, Offer
    from schemas.segments import Segment

__all__ = ["Reference", "Rows"]

T = TypeVar("T")


class Rows(dict[str, T]):
    """Records by id that remember which of them changed lately.

    >>> rows = Rows({"a": 1})
    >>> seen = rows.changes.revision
    >>> rows["b"] = 2
    >>> rows.changes.since(seen)
    ['b']
    """

    def __init__(self, rows: Mapping[str, T] | None = None) -> None:
        super().__init__(rows or {})
        self.changes = Changes()

    def __setitem__(self, key: str, row: T) -> None:
        super().__setitem__(key, row)
        self.changes.note(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.changes.note(key)

    def drop(self, key: str) -> None:
        """Delete a record, if it is there."""
        if key in self:
            del self[key]


class Reference:
    """The current reference records, by id."""

    def __init__(
        self,
        items: Mapping[str, Item] | None = None,
        offers: Mapping[str, Offer] | None = None,
        campaigns: Mapping[str, Campaign] | None = None,
        segments: Mapping[str, Segment] | None = None,
    ) -> None:
        self.items: Rows[Item] = Rows(items)
        self.offers: Rows[Offer] = Rows(offers)
        self.campaigns: Rows[Campaign] = Rows(campaigns)
        self.segments: Rows[Segment] = Rows(segments)
        self._withheld: set[str] = set()
        self._looked = -1  # revision of the items when they were last looked through

    def may_show(self, item_id: str) -> bool:
        """Whether an item may be shown now; an item the catalogue does not know may."""
        return item_id not in self.withheld()

    def withheld(self) -> Collection[str]:
        """Items that must not be shown now; few of many: to look here is cheaper than at records."""
        items = self.items
        if items.changes.revision != self._looked:
            changed = items.changes.since(self._looked)
            if changed is None:
                changed = [*items]
                self._withheld.clear()
            for item_id in changed:
                item = items.get(item_id)
                if item is None or item.available:
                    self._withheld.discard(item_id)
                else:
                    self._withheld.add(item_id)
            self._looked = items.changes.revision
        return self._withheld

    def category_of(self, item_id: str) -> str | None:
        """Category of an item, where the catalogue knows it."""
        item = self.items.get(item_id)
        return None if item is None else item.category

    def active_offers(self, now: float) -> list[Offer]:
        """Offers active at ``now``, by id, in the currency of the first: money of two is never compared."""
        offers = [
            offer
            for _, offer in sorted(self.offers.items())
            if (offer.active_from is None or epoch_seconds(offer.active_from) <= now)
            and (offer.active_to is None or now < epoch_seconds(offer.active_to))
        ]
        return [offer for offer in offers if offer.currency.upper() == offers[0].currency.upper()]
