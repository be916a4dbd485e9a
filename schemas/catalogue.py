"""Reference records: items and offers, as they stand on the compacted topics and in files."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from schemas.events import Number

__all__ = ["Id", "Item", "Offer"]

Id = Annotated[str, Meta(min_length=1, max_length=128)]

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


class Offer(Struct, frozen=True, kw_only=True, gc=False):
    """What a bandit chooses: an incentive with a cost and a value, both in ``currency`` per response.

    What is known of a category's offers is where a new offer of it begins.
    """

    offer_id: Id
    version: str | int
    cost: Number
    value: Number
    currency: str
    category: Annotated[str, Meta(max_length=256)] | None = None
    budget: Number | None = None
    eligibility: dict[str, str | float | bool] = field(default_factory=dict)
    active_from: datetime | None = None
    active_to: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse what no choice can be made with."""
        if self.offer_id == NOTHING:
            message = f"offer_id: {NOTHING!r} is what is chosen where no offer is made; it always is a choice"
            raise ValueError(message)
        for name in ("min_orders", "max_orders"):
            if type(self.eligibility.get(name, 0)) not in {int, float}:
                message = f"eligibility: {name} is a number of orders, not {self.eligibility[name]!r}"
                raise ValueError(message)
