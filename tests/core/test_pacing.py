"""Budgets are spent evenly over their window, and never beyond the partition's share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.campaigns import Budget
from schemas.catalogue import Offer
from stream.core.budgets import Budgets as CampaignBudgets
from stream.core.config import CampaignPolicy, OfferConfig
from stream.core.ledgers import MAX_NAMES
from stream.core.pacing import Budgets
from stream.core.reference import Reference
from stream.core.rows import Pace
from stream.core.state import PartitionState
from stream.runtime.statecodec import encode_header
from stream.settings import Settings
from stream.testing import EPOCH, Driver, cart_campaign, event

HOUR = 3600.0
SMALL: dict[str, Any] = {"max_items": 256, "click_slots": 2**10}


def offer(budget: float | None, *, hours: float | None = 10.0) -> Offer:
    """An offer of cost 1 and value 10, to be spent within some hours."""
    end = None if hours is None else datetime.fromtimestamp(EPOCH + hours * HOUR, UTC)
    return Offer(offer_id="o", version=1, cost=1.0, value=10.0, currency="EUR", budget=budget, active_to=end)


def spend_a_day(budgets: Budgets, paid: Offer, *, per_hour: int, seed: int = 0) -> list[float]:
    """Ten hours in which the offer is made where a response of random worth pays its price; spent by hour."""
    rng = np.random.default_rng(seed)
    spent, by_hour = 0.0, []
    for hour in range(10):
        for n in range(per_hour):
            price = budgets.price(paid, EPOCH + (hour + n / per_hour) * HOUR)
            if budgets.affords(paid) and rng.exponential(2.0) > 1.0 + price:
                budgets.spend(paid)
                spent += paid.cost
        by_hour.append(spent)
    return by_hour


def test_a_budget_is_spent_evenly_where_demand_is_higher() -> None:
    """Demand is six times the budget of 200: each hour an even share is spent, within a tenth of all."""
    by_hour = spend_a_day(Budgets(OfferConfig(), PartitionState(), Reference()), offer(200.0), per_hour=200)
    np.testing.assert_allclose(by_hour, np.arange(1, 11) * 19.8, atol=20.0)
    unpaced = spend_a_day(
        Budgets(OfferConfig(pacing=False), PartitionState(), Reference()), offer(200.0), per_hour=200
    )
    assert unpaced[1] == pytest.approx(198.0)


def test_a_budget_that_suffices_has_no_price() -> None:
    """Where demand is below the budget nothing is held back."""
    paid = offer(5000.0)
    budgets = Budgets(OfferConfig(), PartitionState(), Reference())
    free = Budgets(OfferConfig(pacing=False), PartitionState(), Reference())
    assert spend_a_day(budgets, paid, per_hour=50) == spend_a_day(free, paid, per_hour=50)


@pytest.mark.parametrize("partitions", [1, 4])
def test_the_buffer_is_never_spent(partitions: int) -> None:
    """A partition stops at its share of the budget less the buffer."""
    state = PartitionState()
    budgets = Budgets(OfferConfig(partitions=partitions, budget_buffer=0.1, pacing=False), state, Reference())
    spend_a_day(budgets, offer(80.0), per_hour=200)
    assert 72.0 // partitions == state.header.spend["o"]


def test_without_budget_or_end_there_is_no_price() -> None:
    """There is nothing to spread then, and nothing is remembered."""
    state = PartitionState()
    budgets = Budgets(OfferConfig(), state, Reference())
    for paid in (offer(None), offer(5.0, hours=None)):
        budgets.spend(paid)
        assert 0.0 == budgets.price(paid, EPOCH) == budgets.price(paid, EPOCH + HOUR)
    assert {} == state.header.paces


def test_late_occasions_do_not_turn_time_back() -> None:
    """A look at an earlier time, or after the end, leaves the price as it is."""
    state = PartitionState()
    budgets, paid = Budgets(OfferConfig(), state, Reference()), offer(100.0)
    budgets.price(paid, EPOCH)
    for _ in range(50):
        budgets.spend(paid)
    price = budgets.price(paid, EPOCH + HOUR)
    assert price > 10.0
    assert price == budgets.price(paid, EPOCH)
    budgets.price(paid, EPOCH + 20 * HOUR)
    assert budgets.price(paid, EPOCH + 21 * HOUR) == state.header.paces["o"].price


def test_decisions_log_the_prices() -> None:
    """Once the offer is ahead of its plan, its decisions name the price beside each eligible offer."""
    stream = Driver(settings=Settings(**SMALL), offers=[offer(100.0)])
    stream.pipe(*(event("Cart Viewed", user=f"u{n}", at=float(n)) for n in range(80)))
    made = [one for one in stream.take("decisions") if one.kind == "offer"]
    assert made[0].prices is None
    priced = [one for one in made if one.prices is not None]
    assert priced
    assert {len(one.eligible) for one in priced} == {len(one.prices) for one in priced}


def test_offers_that_come_and_go_do_not_fill_the_header() -> None:
    """Ten thousand offers: what those with a budget spent is known to the end, of the others the latest."""
    state, reference = PartitionState(), Reference()
    budgets = Budgets(OfferConfig(), state, reference)
    kept = offer(100.0)
    reference.offers["o"] = kept
    budgets.spend(kept)
    budgets.price(kept, EPOCH)
    for n in range(10_000):
        free, gone = (msgspec.structs.replace(offer(of), offer_id=f"{of}-{n}") for of in (None, 5.0))
        reference.offers[free.offer_id] = free
        budgets.spend(free)
        budgets.spend(gone)
        budgets.price(gone, EPOCH)

    header = state.header
    assert (MAX_NAMES, MAX_NAMES) == (len(header.spend), len(header.paces))
    assert (1.0, Pace(0.0, EPOCH, 1.0)) == (header.spend["o"], header.paces["o"])
    assert "5.0-9999" in header.spend
    assert len(encode_header(header, 1)[1]) < 300_000


def test_a_budget_in_force_is_never_forgotten() -> None:
    """Where there are more of them than names, the ledger grows."""
    reference = Reference()
    state = PartitionState()
    budgets = Budgets(OfferConfig(), state, reference)
    for n in range(MAX_NAMES + 10):
        paid = msgspec.structs.replace(offer(5.0), offer_id=f"o{n}")
        reference.offers[paid.offer_id] = paid
        budgets.spend(paid)

    assert MAX_NAMES + 10 == len(state.header.spend)


def test_campaigns_that_come_and_go_do_not_fill_the_header() -> None:
    """The same of messages that campaigns with a budget have sent; one that is there keeps its count."""
    state, reference = PartitionState(), Reference()
    budgets = CampaignBudgets(CampaignPolicy(), state, reference)
    for name in ("kept", "dry"):
        reference.campaigns[name] = cart_campaign(name, budget=Budget(messages=10), dry_run=name == "dry")
        budgets.consume(reference.campaigns[name], EPOCH)
    for n in range(MAX_NAMES + 10):
        budgets.consume(cart_campaign(f"gone{n}", budget=Budget(messages=10)), EPOCH)

    sent = state.header.sent
    assert MAX_NAMES == len(sent)
    assert [1, 1] == [total for name, (_, _, total) in sent.items() if not name.startswith("gone")]
