"""Read-only view of items, offers and campaigns. The engine never writes it; a host applies new records."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.campaigns import Campaign
    from schemas.catalogue import Item, Offer
    from schemas.segments import Segment

__all__ = ["Reference", "Rows"]

MAX_CHANGES: Final = 16_384  # remembered; who has not looked for longer looks at everything
T = TypeVar("T")


class Rows(dict[str, T]):
    """Records by id that remember which of them changed lately.

    >>> rows = Rows({"a": 1})
    >>> seen = rows.revision
    >>> rows["b"] = 2
    >>> rows.changed_since(seen)
    ['b']
    """

    revision = 0

    def __init__(self, rows: Mapping[str, T] | None = None) -> None:
        super().__init__(rows or {})
        self._changes: deque[str] = deque(maxlen=MAX_CHANGES)

    def __setitem__(self, key: str, row: T) -> None:
        super().__setitem__(key, row)
        self.revision += 1
        self._changes.append(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.revision += 1
        self._changes.append(key)

    def drop(self, key: str) -> None:
        """Delete a record, if it is there."""
        if key in self:
            del self[key]

    def changed_since(self, revision: int) -> list[str] | None:
        """Ids that changed after a revision, in order, each once; ``None`` if that is too long ago to say."""
        n = self.revision - revision
        if n > len(self._changes) or revision < 0:
            return None
        return list(dict.fromkeys(list(self._changes)[len(self._changes) - n :]))


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
