"""Offers: which is chosen, what they cost, and what is learned from their answers, through the driver."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from online_models.bandits import NOTHING
from schemas.campaigns import CampaignConsent
from schemas.catalogue import Offer
from stream.settings import Settings
from stream.testing import EPOCH, Driver, cart_campaign, event
from tests.core.shop_events import SMALL, offer

DAY = 86_400.0


def cart_seen(user: str, at: float) -> bytes:
    """An occasion for an on-site offer."""
    return event("Cart Viewed", user=user, at=at)


def offer_decisions(stream: Driver) -> list[Any]:
    """Offer decisions since the last look."""
    return [d for d in stream.take("decisions") if d.kind == "offer"]


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


def test_last_touch_attributes_where_no_decision_id_comes_back() -> None:
    """A promotion click without our id rewards the newest open decision of that promotion."""
    stream = Driver(settings=Settings(**SMALL), offers=[offer("o1", value=1000.0)])
    for n in range(20):
        stream.pipe(
            cart_seen(f"u{n}", n), event("Promotion Clicked", user=f"u{n}", at=n + 1, promotion_id="o1")
        )
    made = [d.action for d in offer_decisions(stream)].count("o1")
    [posterior] = stream.models.offers.describe()

    assert made > 0
    assert (made, made) == (posterior.pulls, posterior.rewards)


@pytest.mark.parametrize(
    ("name", "properties", "rewards"),
    [
        ("Coupon Applied", {"coupon_id": "o1"}, True),
        ("Coupon Entered", {"coupon": "o1"}, True),
        ("Coupon Denied", {"coupon_id": "o1"}, False),
        ("Coupon Removed", {"coupon": "o1"}, False),
    ],
)
def test_a_coupon_that_counts_answers_its_offer(
    name: str, properties: dict[str, Any], *, rewards: bool
) -> None:
    """One that the shop refused, or the user took back, is no success."""
    stream = Driver(settings=Settings(**SMALL), offers=[offer("o1", value=1000.0)])
    for n in range(20):
        stream.pipe(cart_seen(f"u{n}", n), event(name, user=f"u{n}", at=n + 0.5, **properties))
    made = [d.action for d in offer_decisions(stream)].count("o1")
    stream.advance(2 * DAY)
    [posterior] = stream.models.offers.describe()

    assert made > 0
    assert (made, made if rewards else 0) == (posterior.pulls, posterior.rewards)


def test_an_order_answers_an_offer_by_its_coupon_alone() -> None:
    """People buy without an offer: an order is a response when it names the offer, else it is none."""
    stream = Driver(settings=Settings(**SMALL), offers=[offer("o1", value=1000.0)])
    for n in range(40):
        coupon: dict[str, Any] = {"coupon": "o1"} if n % 2 else {}
        stream.pipe(
            cart_seen(f"u{n}", n), event("Order Completed", user=f"u{n}", at=n + 0.5, products=[], **coupon)
        )
    actions = [d.action for d in offer_decisions(stream)]
    answered = sum(action == "o1" for action in actions[1::2])
    stream.advance(2 * DAY)
    [posterior] = stream.models.offers.describe()

    assert answered > 5
    assert (actions.count("o1"), answered) == (posterior.pulls, posterior.rewards)


def test_an_offer_outlives_all_the_slates_that_come_after_it() -> None:
    """After an offer a user views forty pages, each with a slate; the coupon still finds its offer."""
    stream = Driver(
        settings=Settings(**SMALL, recommend={"min_interval_s": 0.0}), offers=[offer("o1", value=1000.0)]
    )
    for n in range(20):
        at = 10_000.0 * n
        stream.pipe(event("Product Viewed", user="everybody", at=at, product_id=f"p{n}"))
        stream.pipe(cart_seen(f"u{n}", at))
        views = (event("Product Viewed", user=f"u{n}", at=at + k, product_id=f"q{k}") for k in range(1, 41))
        stream.pipe(*views)
        stream.pipe(event("Order Completed", user=f"u{n}", at=at + 50, products=[], coupon="o1"))
    shown = [r.user_id for r in stream.take("recommendations")]
    made = [d.action for d in offer_decisions(stream)].count("o1")
    [posterior] = stream.models.offers.describe()

    assert min(shown.count(f"u{n}") for n in range(20)) > 30
    assert made > 0
    assert (made, made) == (posterior.pulls, posterior.rewards)
    assert 2 >= max(len(stream.engine.state.memory(f"u{n}").open) for n in range(20))


def test_a_click_in_a_mail_rewards_the_offer_it_carried() -> None:
    """The trigger names the decision that waits: echoing it as utm_content closes the loop."""
    campaign = cart_campaign(delay_s=60.0, offers=True, consent=CampaignConsent(when_unknown="allow"))
    settings = Settings(
        **SMALL, campaigns={"holdout_share": 0.0, "lateness_s": 0.0}, offers={"min_interval_s": 1e9}
    )
    stream = Driver(settings=settings, campaigns=[campaign], offers=[offer("o1", value=1000.0)])
    stream.pipe(*(event("Product Added", user=f"u{n}", at=n, product_id="p") for n in range(30)))
    stream.advance(61)
    triggers = stream.take("triggers")
    for trigger in triggers:
        content = {"campaign": {"content": trigger.decision.decision_id}}
        user = str(trigger.recipient.user_id)
        stream.pipe(event("Email Link Clicked", user=user, at=120, context=content))
    stream.flush()
    [posterior] = stream.models.offers.describe()

    assert len(triggers) > 10
    assert posterior.rewards >= len(triggers)


def test_an_unanswered_offer_becomes_a_zero_and_a_refund_takes_a_reward_back() -> None:
    """Two sent: one unanswered (0 after a day), one ordered (1) and refunded (0 again): 3 pulls, 1 reward."""
    stream = Driver(settings=Settings(**SMALL), offers=[offer("o1", value=1e6)])
    at, users = 0.0, iter(range(1000))
    while len(stream.engine.state.header.spend) == 0 or stream.engine.state.header.spend["o1"] < 2:
        user, at = f"u{next(users)}", at + 1
        stream.pipe(cart_seen(user, at))
        [decision] = offer_decisions(stream)
        if decision.action == "o1" and stream.engine.state.header.spend["o1"] == 1:
            echo = {"decision_id": decision.decision_id}
            stream.pipe(event("Order Completed", user=user, at=at + 0.25, products=[], **echo))
            stream.pipe(event("Order Refunded", user=user, at=at + 0.5, products=[]))
    stream.advance(2 * DAY)
    [posterior] = stream.models.offers.describe()

    assert (3.0, 1.0) == (posterior.pulls, posterior.rewards)


def offered_until_one_is_made() -> tuple[Driver, str]:
    """A driver, and a user who was made offer o1 at 100 s."""
    for n in range(50):
        stream = Driver(settings=Settings(**SMALL), offers=[offer("o1", value=1e6)])
        user = f"u{n}"
        stream.pipe(event("Order Completed", user=user, at=10, order_id="before", products=[]))
        stream.pipe(cart_seen(user, 100))
        if [decision.action for decision in offer_decisions(stream)] == ["o1"]:
            return stream, user
    raise AssertionError("in fifty attempts no offer was made")


def order(kind: str = "Completed", order_id: str | None = "mine", **more: Any) -> tuple[str, dict[str, Any]]:
    """An order or its refund."""
    return f"Order {kind}", {"products": [], **({"order_id": order_id} if order_id else {}), **more}


@pytest.mark.parametrize(
    ("answers", "learned"),
    [
        ([order(coupon="o1"), order("Refunded")], (2, 1)),
        ([order(coupon="o1"), order("Cancelled")], (2, 1)),
        ([order(coupon="o1"), order("Refunded", None)], (2, 1)),
        ([order(coupon="o1"), order("Refunded"), order("Refunded")], (2, 1)),
        ([order(coupon="o1"), order(coupon="o1", order_id="next"), order("Refunded")], (2, 1)),
        ([order(coupon="o1"), order(coupon="o1", order_id="next"), order("Refunded", "next")], (1, 1)),
        ([order(coupon="o1"), order("Refunded", "before")], (1, 1)),
        ([order(coupon="o1", order_id=None), order("Refunded", None)], (2, 1)),
        ([("Coupon Applied", {"coupon": "o1"}), order(coupon="o1"), order("Refunded")], (2, 1)),
        ([("Coupon Applied", {"coupon": "o1"}), order(), order("Refunded")], (1, 1)),
        ([("Promotion Clicked", {"promotion_id": "o1"}), order("Refunded", "before")], (1, 1)),
        ([("Promotion Clicked", {"promotion_id": "o1"}), order("Refunded", None)], (1, 1)),
    ],
)
def test_a_refund_takes_back_what_its_order_earned(
    answers: list[tuple[str, dict[str, Any]]], learned: tuple[int, int]
) -> None:
    """Examples and rewards: a zero after the one where the refunded order gave it, else the one alone."""
    stream, user = offered_until_one_is_made()
    for n, (name, properties) in enumerate(answers):
        stream.pipe(event(name, user=user, at=200 + n, **properties))
    stream.flush()
    [posterior] = stream.models.offers.describe()

    assert learned == (posterior.pulls, posterior.rewards)


@pytest.mark.parametrize("attribution", [{}, {"offer_elapsed_s": 600.0}])
@pytest.mark.parametrize(("at", "echoes", "rewards"), [(99, False, 0), (99, True, 1), (100, False, 1)])
def test_nothing_answers_an_offer_that_was_not_made_yet(
    at: float, rewards: int, attribution: dict[str, float], *, echoes: bool
) -> None:
    """A coupon of the second before is an answer where it names the decision alone."""
    stream = Driver(settings=Settings(**SMALL, attribution=attribution), offers=[offer("o1", value=1e6)])
    n_made = 0
    for n in range(20):
        stream.pipe(cart_seen(f"u{n}", 100))
        [decision] = offer_decisions(stream)
        echo = {"decision_id": decision.decision_id} if echoes else {}
        n_made += decision.action == "o1"
        stream.pipe(event("Coupon Applied", user=f"u{n}", at=at, coupon="o1", **echo))
    stream.flush()
    learned = [posterior.rewards for posterior in stream.models.offers.describe()]

    assert n_made > 10
    assert rewards == len(learned)
    assert attribution or [n_made] * rewards == learned  # an early answer weighs less than one


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


def test_an_offer_that_there_is_no_room_for_was_not_answered() -> None:
    """Of what is made in half a day sixteen wait; older ones are over when newer ones come."""
    stream = Driver(settings=Settings(**SMALL), offers=[offer("o1", value=1e6)])
    stream.pipe(*(cart_seen("u1", 1801.0 * n) for n in range(24)))
    made = [decision.action for decision in offer_decisions(stream)].count("o1")
    pulls = []
    for elapsed_s in (1.0, 2 * DAY):
        stream.advance(elapsed_s)
        pulls += [one.pulls for one in stream.models.offers.describe()]

    assert made > 18
    assert [made - 16, made] == pulls


def test_a_slot_may_be_called_as_offers_are() -> None:
    """Recommendations for a place called on_site do not count as an offer."""
    stream = Driver(settings=Settings(**SMALL), offers=[offer("o1")])
    stream.pipe(event("Recommendations Requested", user="u1", at=0, slot="on_site"), cart_seen("u1", 10))
    stream.pipe(cart_seen("u1", 20))

    assert 1 == len(offer_decisions(stream))


def test_an_early_zero_does_not_wait_for_what_was_opened_before() -> None:
    """A slate waits for a day, the offer after it for ten minutes."""
    stream = Driver(
        settings=Settings(**SMALL, attribution={"offer_elapsed_s": 600.0}), offers=[offer("o1", value=1e6)]
    )
    stream.pipe(*(event("Product Viewed", user=f"u{n}", at=n, product_id=f"p{n}") for n in range(4)))
    stream.pipe(cart_seen("u3", 10))
    assert "u3" in {slate.user_id for slate in stream.take("recommendations")}
    assert ["o1"] == [decision.action for decision in offer_decisions(stream)]
    stream.advance(700.0)

    assert 1 == stream.models.offer_metrics.loss.n


@pytest.mark.parametrize("late_share", [1.0, 0.4])
def test_an_offer_may_count_as_unanswered_before_its_window_ends(late_share: float) -> None:
    """A 0 after ten minutes, a 1 when the answer comes after that, and no more at the end of the window."""
    attribution = {"offer_elapsed_s": 600.0, "offer_late_share": late_share}
    stream = Driver(
        settings=Settings(**SMALL, attribution=attribution), offers=[offer("o1", value=1e6)], batch_size=3
    )
    stream.pipe(
        cart_seen("u1", 0), cart_seen("u2", 0), event("Product Viewed", user="u3", at=599, product_id="p")
    )
    stream.flush()
    made = {one.user_id: one for one in offer_decisions(stream)}
    assert {"o1"} == {one.action for one in made.values()}
    loss = stream.models.offer_metrics.loss
    assert 0 == loss.n

    early = event(
        "Promotion Clicked", user="u1", at=599, promotion_id="o1", decision_id=made["u1"].decision_id
    )
    stream.pipe(early, event("Product Viewed", user="u3", at=601, product_id="p"))
    stream.flush()
    assert 2 == loss.n

    late = event(
        "Promotion Clicked", user="u2", at=5000, promotion_id="o1", decision_id=made["u2"].decision_id
    )
    stream.pipe(late)
    stream.flush()
    assert 3 == loss.n
    stream.advance(2 * DAY)
    assert 3 == loss.n
    assert 2.0 < stream.models.offers.describe()[0].rewards


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
