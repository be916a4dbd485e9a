"""Offers: which is chosen, by what, and what they cost, through the driver."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from online_models.bandits import NOTHING
from schemas.campaigns import CampaignConsent
from schemas.catalogue import Offer
from stream.settings import Settings
from stream.testing import EPOCH, Driver, cart_campaign, event
from tests.core.shop_events import SMALL, cart_seen, offer, offer_decisions

DAY = 86_400.0


def test_nothing_is_always_eligible_and_the_floor_holds() -> None:
    """Every eligible action, the empty one included, has at least the floor's probability."""
    stream = Driver(settings=Settings(**SMALL), offers=[offer("o1"), offer("o2")])
    stream.pipe(*(cart_seen(f"u{n}", n) for n in range(50)))
    decisions = offer_decisions(stream)

    assert 50 == len(decisions)
    assert {(NOTHING, "o1", "o2")} == {tuple(d.eligible) for d in decisions}
    assert min(p for d in decisions for p in d.propensities) >= 0.01
    assert {NOTHING, "o1", "o2"} >= {d.action for d in decisions}


def test_the_offer_that_works_gets_the_larger_share() -> None:
    """o1 is clicked in half of its showings, o2 never: after 300 decisions o1 leads by far."""
    stream = Driver(settings=Settings(**SMALL), offers=[offer("o1"), offer("o2")])
    chosen: list[str] = []
    for n in range(300):
        user, at = f"u{n}", n * 300.0
        stream.pipe(cart_seen(user, at))
        [decision] = offer_decisions(stream)
        chosen.append(decision.action)
        if decision.action == "o1" and n % 2:
            click = {"promotion_id": "o1", "decision_id": decision.decision_id}
            stream.pipe(event("Promotion Clicked", user=user, at=at + 10, **click))
    late = chosen[150:]

    assert late.count("o1") > 3 * late.count("o2")


def test_a_budget_stops_its_offer_hard() -> None:
    """Budget 3, cost 1: three showings, then the offer is no longer eligible."""
    settings = Settings(**SMALL, offers={"budget_buffer": 0.0})
    stream = Driver(settings=settings, offers=[offer("o1", budget=3.0, value=1e6)])
    stream.pipe(*(cart_seen(f"u{n}", n) for n in range(60)))
    decisions = offer_decisions(stream)

    assert 3 == [d.action for d in decisions].count("o1")
    assert [NOTHING] == decisions[-1].eligible


def test_eligibility_and_dates_and_currency_are_inputs_of_the_choice() -> None:
    """Only offers for this user, active now, in one currency, are in the eligible set."""
    offers = [
        offer("a-new-only", eligibility={"max_orders": 0}),
        offer("b-buyers-only", eligibility={"min_orders": 1}),
        offer("c-over", active_to="2025-01-01T00:00:00Z"),
        offer("d-dollars", currency="USD"),
        offer("e-all", currency="eur"),
    ]
    stream = Driver(settings=Settings(**SMALL), offers=offers_from(offers))
    stream.pipe(event("Order Completed", user="buyer", at=0, products=[]))
    stream.pipe(cart_seen("buyer", 1), cart_seen("new", 2))

    assert [[NOTHING, "b-buyers-only", "e-all"], [NOTHING, "a-new-only", "e-all"]] == [
        d.eligible for d in offer_decisions(stream)
    ]


def offers_from(offers: list[Offer]) -> list[Offer]:
    """Bring dates given as text to what the wire decoder makes of them."""
    return [msgspec.convert(msgspec.to_builtins(o), Offer) for o in offers]


def test_a_message_may_carry_an_offer_or_not_be_sent_for_none() -> None:
    """With offers on, each eligible message draws one; "nothing" is a suppression with its propensity."""
    campaign = cart_campaign(
        delay_s=60.0, offers=True, consent=CampaignConsent(when_unknown="allow"), max_per_day=None
    )
    settings = Settings(**SMALL, campaigns={"holdout_share": 0.0})
    stream = Driver(settings=settings, campaigns=[campaign], offers=[offer("o1", value=25.0)])
    for n in range(80):
        stream.pipe(event("Product Added", user=f"u{n}", at=n, product_id="p"))
    stream.advance(DAY)
    triggers, decisions = stream.take("triggers"), stream.take("decisions")
    nothing = [d for d in decisions if d.reason == "nothing_chosen"]

    assert 80 == len(triggers) + len(nothing)
    assert len(triggers) > 0
    assert len(nothing) > 0
    assert {"o1"} == {t.offer_id for t in triggers}
    assert all(0 < d.propensity < 1 for d in nothing)


def receipts(message_class: str = "transactional") -> Driver:
    """A campaign that carries an offer, where no offer is worth its cost."""
    campaign = cart_campaign(
        delay_s=60.0,
        offers=True,
        message_class=message_class,
        consent=CampaignConsent(when_unknown="allow"),
    )
    settings = Settings(**SMALL, campaigns={"holdout_share": 0.0})
    return Driver(settings=settings, campaigns=[campaign], offers=[offer("o1", value=1.0, cost=1e6)])


def test_a_transactional_message_goes_out_without_an_offer() -> None:
    """Where none is worth its cost a receipt carries none; a marketing message is not sent."""
    for message_class, sent in (("transactional", 40), ("marketing", 0)):
        stream = receipts(message_class)
        for n in range(40):
            stream.pipe(event("Product Added", user=f"u{n}", at=n, product_id="p"))
        stream.advance(DAY)
        triggers = stream.take("triggers")
        without = [trigger for trigger in triggers if trigger.offer_id is None]
        logged = {d.decision_id: d for d in stream.take("decisions") if d.kind == "trigger"}

        assert sent == len([t for t in triggers if t.message_class == "transactional"])
        assert bool(sent) == bool(without)
        assert {1.0} >= {t.decision.propensity for t in without}
        assert {1.0} >= {logged[t.decision.decision_id].propensity for t in without}


def test_models_that_are_stopped_choose_no_offer_for_a_message() -> None:
    """The message goes out without one: what chooses offers is what was stopped."""
    stream = receipts("marketing")
    stream.tell(b'{"command_id":"c1","kind":"stop","switch":"models"}')
    stream.pipe(event("Product Added", user="u1", at=0, product_id="p"))
    stream.advance(DAY)

    assert [(None, "rules")] == [(t.offer_id, t.decision.policy) for t in stream.take("triggers")]
    assert "offer" not in {decision.kind for decision in stream.take("decisions")}


def test_a_new_offer_begins_where_its_category_is() -> None:
    """After unanswered offers of a category, a new one of it is expected to do worse than one of none."""
    offers = [offer(f"o{n}", category="gifts" if n else None, value=1e6) for n in range(2)]
    stream = Driver(settings=Settings(**SMALL), offers=offers)
    for n in range(40):
        stream.pipe(cart_seen(f"u{n}", n))
    stream.flush()
    stream.advance(2 * DAY)
    bandit = stream.models.offers
    gifts = next(known for known in bandit.describe() if known.offer == "o1")
    assert gifts.pulls > 5
    new = bandit.choose(
        ["gift", "other"], [1.0] * 8, [1.0] * 2, [0.0] * 2, seed=1, decision_id="d", categories=["gifts", ""]
    )
    assert new.means[0] < new.means[1]


def test_many_offers_are_chosen_by_the_hashed_posterior() -> None:
    """Beyond the bound decisions name the other policy; both models have learned every outcome."""
    stream = Driver(settings=Settings(**SMALL), offers=[offer(f"o{n}") for n in range(150)])
    stream.pipe(*(cart_seen(f"u{n}", n) for n in range(20)))
    decisions = offer_decisions(stream)
    assert {"thompson_hashed"} == {one.policy for one in decisions}
    assert {151} == {len(one.propensities) for one in decisions}
    before = len(stream.models.many_offers.snapshot()["slot"])
    stream.advance(2 * DAY)
    assert before == 0 < len(stream.models.many_offers.snapshot()["slot"])
    assert len(stream.models.offers) > 0


def test_a_slot_may_be_called_as_offers_are() -> None:
    """Recommendations for a place called on_site do not count as an offer."""
    stream = Driver(settings=Settings(**SMALL), offers=[offer("o1")])
    stream.pipe(event("Recommendations Requested", user="u1", at=0, slot="on_site"), cart_seen("u1", 10))
    stream.pipe(cart_seen("u1", 20))

    assert 1 == len(offer_decisions(stream))


def test_the_same_seed_draws_the_same_and_another_draws_otherwise() -> None:
    """Chance is a function of (seed, decision id)."""
    actions = []
    for seed in (1, 1, 2):
        stream = Driver(settings=Settings(**SMALL, seed=seed), offers=[offer("o1"), offer("o2")])
        stream.pipe(*(cart_seen(f"u{n}", n) for n in range(40)))
        actions.append([d.action for d in offer_decisions(stream)])

    assert actions[0] == actions[1]
    assert actions[0] != actions[2]


def test_an_offer_says_what_was_known_of_it() -> None:
    """The mean is what the bandit predicts in the logged context; a hopeless one has the floor alone."""
    made = [offer("ten"), offer("hopeless", value=1.0, cost=500.0)]
    stream = Driver(settings=Settings(**SMALL, offers={"floor": 0.02}), offers=made)
    for n in range(300):
        stream.pipe(event("Product Added", user=f"u{n}", at=60.0 * n, product_id="p"))
    made_of = [decision for decision in stream.take("decisions") if decision.kind == "offer"]
    assert {"ten", "hopeless", NOTHING} == {decision.action for decision in made_of}
    for decision in made_of:
        told, context = decision.explanation, list(decision.features.values())
        assert told.model == "offers"
        expected = stream.models.offers.predict_one(decision.action, context, at=EPOCH)
        assert expected == pytest.approx(told.mean, abs=1e-4)
        assert (0.9 < told.floor_share <= 1.0) == (decision.action == "hopeless")
        assert (told.deviation > 0.0) == (decision.action != NOTHING)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"offer_id": NOTHING}, "offer_id: 'nothing' is what is chosen"),
        ({"eligibility": {"min_orders": "two"}}, r"got `str` - at `\$.eligibility.min_orders`"),
        ({"eligibility": {"min_order": 3}}, "unknown field `min_order`"),
        ({"bugdet": 3}, "unknown field `bugdet`"),
        ({"cost": -5}, r">= 0.0 - at `\$.cost`"),
        ({"budget": -5}, r">= 0.0 - at `\$.budget`"),
        ({"currency": ""}, r"at `\$.currency`"),
        (
            {"active_from": "2026-02-01T00:00:00Z", "active_to": "2026-01-01T00:00:00Z"},
            "active_to: is not after active_from",
        ),
        ({"category": "x" * 257}, r"length <= 256 - at `\$.category`"),
        ({"eligibility": {"max_orders": True}}, r"got `bool` - at `\$.eligibility.max_orders`"),
    ],
)
def test_an_offer_that_no_choice_can_be_made_with_is_refused(fields: dict[str, Any], fault: str) -> None:
    """It would fail on every event that asks for offers; refused, the last good version stays."""
    basis = {"offer_id": "o", "version": 1, "cost": 0.0, "value": 1.0, "currency": "EUR"}
    with pytest.raises(msgspec.ValidationError, match=fault):
        msgspec.convert(basis | fields, Offer)
