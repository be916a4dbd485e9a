"""Reference records: items and offers, as they stand on the compacted topics and in files."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from schemas.events import MAX_NUMBER, Number

__all__ = ["Id", "Item", "Offer"]

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Amount = Annotated[float, Meta(ge=0, le=MAX_NUMBER)]

NOTHING = "nothing"  # the arm beside all offers


class Item(Struct, frozen=True, kw_only=True, gc=False):
    """What can be recommended."""

    item_id: Id
    version: str | int
    name: str | None = None
    category: str | None = None
    brand: str | None = None
    price: Number | None = None
    currency: str | None = None
    stock: Number | None = None
    hidden: bool = False
    attributes: dict[str, str | float | bool] = field(default_factory=dict)
    updated_at: datetime | None = None

    @property
    def available(self) -> bool:
        """Whether the item may be shown: not hidden, and in stock where stock is known."""
        return not self.hidden and (self.stock is None or self.stock > 0)


class Eligibility(
    Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, omit_defaults=True
):
    """Who may get an offer, by the orders that the user has made; both bounds count."""

    min_orders: Annotated[float, Meta(ge=0)] | None = None
    max_orders: Annotated[float, Meta(ge=0)] | None = None


class Offer(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """What a bandit chooses: an incentive with a cost and a value, both in ``currency`` per response.

    What is known of a category's offers is where a new offer of it begins.
    """

    offer_id: Id
    version: str | int
    cost: Amount
    value: Amount
    currency: Annotated[str, Meta(pattern="^[A-Za-z]{3}$")]
    category: Annotated[str, Meta(max_length=256)] | None = None
    budget: Amount | None = None
    eligibility: Eligibility = Eligibility()
    active_from: datetime | None = None
    active_to: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse what no choice can be made with."""
        if self.offer_id == NOTHING:
            message = f"offer_id: {NOTHING!r} is what is chosen where no offer is made; it always is a choice"
            raise ValueError(message)
        if self.active_from is not None and self.active_to is not None and self.active_to <= self.active_from:
            message = "active_to: is not after active_from"
            raise ValueError(message)
