"""Budgets: a hard stop at the partition's share, and a price of the budget that spends it evenly until then.

The price λ of one unit of cost is the dual variable of the budget in online mirror descent: the utility of an
offer is ``p * value - (1 + λ) * cost``. Between two looks it moves by how much more was spent than an even
spending of what is left would have been, relative to the whole share, and never below 0. It lives in the
header of the partition, so it is a function of the records alone.

References
----------
Balseiro, Lu, Mirrokni: Dual Mirror Descent for Online Allocation Problems, ICML 2020.
Agrawal, Devanur: Linear Contextual Bandits with Knapsacks, NIPS 2016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.codec import epoch_seconds
from stream.core.ledgers import book
from stream.core.rows import Pace

if TYPE_CHECKING:
    from schemas.catalogue import Offer
    from stream.core.config import OfferConfig
    from stream.core.reference import Reference
    from stream.core.state import PartitionState

__all__ = ["Budgets"]

GAIN: Final = 50.0  # 2 % of the share ahead of an even spending doubles the cost that the choice sees
MAX_PRICE: Final = 1000.0


class Budgets:
    """What offers have spent in one partition, and what spending more costs."""

    def __init__(self, config: OfferConfig, state: PartitionState, reference: Reference) -> None:
        self._partitions = config.partitions
        self._usable = 1.0 - config.budget_buffer
        self._pacing = config.pacing
        self._state = state
        self._reference = reference

    def affords(self, offer: Offer) -> bool:
        """Whether one more fits into the partition's share of the budget, less the safety buffer."""
        if offer.budget is None:
            return True
        spent = self._state.header.spend.get(offer.offer_id, 0.0)
        return spent + offer.cost <= self._share(offer)

    def spend(self, offer: Offer) -> None:
        """Book the cost of one."""
        spend, name = self._state.header.spend, offer.offer_id
        book(spend, name, spend.get(name, 0.0) + offer.cost, self._in_force)

    def price(self, offer: Offer, now: float) -> float:
        """Look at the offer at an event time: its λ, 0 without a budget or without an end to spend it by."""
        if not self._pacing or offer.budget is None or offer.active_to is None:
            return 0.0
        paces, share = self._state.header.paces, self._share(offer)
        spent = self._state.header.spend.get(offer.offer_id, 0.0)
        pace = paces.get(offer.offer_id)
        if pace is None:
            pace = Pace(0.0, now, spent)
            book(paces, offer.offer_id, pace, self._in_force)
        left_s = epoch_seconds(offer.active_to) - pace.at
        if now <= pace.at or left_s <= 0.0 or share <= 0.0:
            return pace.price
        even = max(share - pace.spent, 0.0) * min((now - pace.at) / left_s, 1.0)
        step = GAIN * (spent - pace.spent - even) / share
        pace.price = min(max(pace.price + step, 0.0), MAX_PRICE)
        pace.at, pace.spent = now, spent
        return pace.price

    def _in_force(self, offer_id: str) -> bool:
        offer = self._reference.offers.get(offer_id)
        return offer is not None and offer.budget is not None

    def _share(self, offer: Offer) -> float:
        assert offer.budget is not None  # noqa: S101  asked for offers with a budget alone
        return self._usable * offer.budget / self._partitions
