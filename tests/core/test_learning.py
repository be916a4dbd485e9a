"""Attribution, learning, recommending and offers, through the driver."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from online_models.bandits import NOTHING
from online_models.kernels.logistic import GRID
from schemas.campaigns import CampaignConsent
from schemas.catalogue import Item, Offer
from schemas.codec import rfc3339
from stream.core.features import message_features
from stream.core.rows import Profile
from stream.settings import Settings
from stream.testing import EPOCH, Driver, cart_campaign, event

DAY = 86_400.0
SMALL: dict[str, Any] = {"max_items": 256, "click_slots": 2**10}


def offer(offer_id: str, **fields: Any) -> Offer:
    """An offer in euro, cost 1, value 10."""
    values: dict[str, Any] = {"version": 1, "cost": 1.0, "value": 10.0, "currency": "EUR"}
    return Offer(offer_id=offer_id, **(values | fields))


def viewed(user: str, at: float, product_id: str, **more: Any) -> bytes:
    """A product view."""
    return event("Product Viewed", user=user, at=at, product_id=product_id, **more)


def shown(user: str, at: float, *product_ids: str) -> bytes:
    """A list impression."""
    products = [{"product_id": p, "position": n + 1} for n, p in enumerate(product_ids)]
    return event("Product List Viewed", user=user, at=at, list_id="home", products=products)


def test_what_was_met_last_is_in_front_of_the_history() -> None:
    """Also when it was met before: a second look says what somebody is after now."""
    stream = Driver(settings=Settings(**SMALL))
    for at, product_id in enumerate("abca"):
        stream.pipe(viewed("u1", 60.0 * at, product_id))
    stream.pipe(event("Order Completed", user="u1", at=300.0, products=[{"product_id": p} for p in "db"]))

    assert ["b", "d", "a", "c"] == stream.engine.state.profile("u1").ring


# Clicks


def outcomes(stream: Driver) -> tuple[float, float]:
    """How many impressions were learned, and how many of them as clicked."""
    loss = stream.models.click_metrics.loss
    return loss.n, loss._positives


def test_a_click_makes_its_impression_a_positive_and_time_makes_the_rest_negatives() -> None:
    """Three shown, one clicked: one positive at once, two negatives when the window of 1800 s has passed."""
    stream = Driver(settings=Settings(**SMALL))
    stream.pipe(shown("u1", 0, "a", "b", "c"), event("Product Clicked", user="u1", at=10, product_id="b"))
    stream.flush()
    assert (1, 1.0) == outcomes(stream)

    stream.advance(1800)
    assert (3, 1.0) == outcomes(stream)


def test_a_click_after_the_window_is_no_positive() -> None:
    """The impression has already been learned as a negative."""
    stream = Driver(settings=Settings(**SMALL))
    stream.pipe(shown("u1", 0, "a"), event("Product Clicked", user="u1", at=1801, product_id="a"))
    stream.flush()

    assert (1, 0.0) == outcomes(stream)


def test_the_click_model_learns_what_is_clicked() -> None:
    """Item good is clicked whenever it is shown, bad never: their probabilities part."""
    stream = Driver(settings=Settings(**SMALL))
    for n in range(60):
        user, at = f"u{n}", n * 100.0
        stream.pipe(shown(user, at, "good", "bad"))
        stream.pipe(event("Product Clicked", user=user, at=at + 5, product_id="good"))
    stream.advance(DAY)
    clicks = stream.models.clicks

    assert clicks.predict_proba_one({"item": "good"}) > 2 * clicks.predict_proba_one({"item": "bad"})


def click_stream(**clicks: Any) -> Driver:
    """2,000 impressions at several places of a list, a tenth of them clicked, those of place 1 most often."""
    rng = np.random.default_rng(3)
    stream = Driver(settings=Settings(**SMALL, clicks=clicks))
    for n in range(400):
        stream.pipe(shown(f"u{n % 100}", n, "a", "b", "c", "d", "e"))
        for product, p in zip("abcde", (0.3, 0.1, 0.05, 0.03, 0.02), strict=True):
            if rng.random() < p:
                stream.pipe(event("Product Clicked", user=f"u{n % 100}", at=n + 0.5, product_id=product))
    stream.flush()
    stream.advance(1800)
    return stream


@pytest.mark.parametrize(
    ("model", "negative_share"), [("gaussian", 1.0), ("gaussian", 0.1), ("ftrl", 1.0), ("ftrl", 0.5)]
)
def test_sampled_negatives_leave_the_click_model_calibrated(model: str, negative_share: float) -> None:
    """With a share of the negatives, each weighing for the rest, predictions sum to the clicks."""
    stream = click_stream(model=model, negative_share=negative_share)
    measured = stream.models.click_metrics.snapshot()
    n_clicks, n_other = 2000 * 0.1, 2000 * 0.9 * negative_share
    assert n_clicks + n_other == pytest.approx(measured["n"], rel=0.2)
    assert 1.0 == pytest.approx(measured["calibration_ratio"], abs=0.2)


def test_impressions_of_a_user_are_bounded() -> None:
    """A robot that looks at list after list keeps 32 open impressions."""
    stream = Driver(settings=Settings(**SMALL))
    for n in range(30):
        stream.pipe(shown("u1", n, *(f"p{n}-{k}" for k in range(20))))
    stream.flush()

    assert 32 == len(stream.engine.state.profile("u1").impressions)


# Consent to learning and to personalisation


def test_a_user_who_refuses_learning_changes_no_model() -> None:
    """Purposes {learn: false}: the event is applied, the models keep their bits."""
    stream = Driver(settings=Settings(**SMALL))
    stream.pipe(event("Consent Changed", user="u1", at=0, purposes={"learn": False}))
    stream.flush()
    before = stream.models.fold.digest()
    stream.pipe(viewed("u1", 1, "a"), viewed("u1", 2, "b"), shown("u1", 3, "a", "b"))
    stream.advance(DAY)

    assert before == stream.models.fold.digest()
    assert 2 == stream.engine.state.profile("u1").n_views


def test_what_was_shown_before_a_refusal_is_not_learned_after_it() -> None:
    """The impressions of a user who then refuses expire without teaching anybody."""
    stream = Driver(settings=Settings(**SMALL))
    stream.pipe(
        shown("u1", 0, "a", "b"), event("Consent Changed", user="u1", at=5, purposes={"learn": False})
    )
    stream.flush()
    before = stream.models.fold.digest()
    stream.advance(2 * DAY)

    assert before == stream.models.fold.digest()
    assert [] == stream.engine.state.profile("u1").impressions


def test_a_user_who_refuses_personalisation_gets_what_everybody_gets() -> None:
    """Without history the slate is that of an unknown user, less what this one has seen."""
    stream = Driver(settings=Settings(**SMALL, recommend={"min_interval_s": 1e6}))
    for n in range(40):
        stream.pipe(viewed(f"v{n}", n, "x"), viewed(f"v{n}", n + 0.5, f"y{n % 4}"))
    refuses = {"context": {"consent": {"categoryPreferences": {"personalise": False}}}}
    stream.pipe(viewed("u1", 100, "x", **refuses))
    stream.flush()
    slate = stream.take("recommendations")[-1]

    assert "u1" == slate.user_id
    assert {"popularity", "freshness"} >= {item.source for item in slate.items}


# Recommendations


def shop() -> Driver:
    """Forty users who each looked at bread and then at butter."""
    stream = Driver(settings=Settings(**SMALL, recommend={"min_interval_s": 60.0}))
    for n in range(40):
        stream.pipe(viewed(f"v{n}", 10.0 * n, "bread"), viewed(f"v{n}", 10.0 * n + 5, "butter"))
    for n in range(10):
        stream.pipe(viewed(f"w{n}", 400.0 + n, f"other{n}"))
    stream.take("recommendations")
    stream.take("decisions")
    return stream


def test_who_looks_at_bread_is_shown_butter_and_told_why() -> None:
    """The slate's best item follows the history, and its reason names the history item."""
    stream = shop()
    stream.pipe(viewed("u1", 500, "bread"))
    [slate] = stream.take("recommendations")

    assert ("u1", "for_you", "butter") == (slate.user_id, slate.slot, slate.items[0].item_id)
    assert "follows_history:bread" in slate.items[0].reasons
    assert rfc3339(EPOCH + 500 + DAY) == slate.valid_until


def test_hidden_and_sold_out_items_are_filtered_on_current_state() -> None:
    """The catalogue at emission decides, not the one at learning."""
    stream = shop()
    stream.reference.items["butter"] = Item(item_id="butter", version=1, stock=0)
    stream.reference.items["other3"] = Item(item_id="other3", version=1, hidden=True)
    stream.pipe(viewed("u1", 500, "bread"))
    [slate] = stream.take("recommendations")

    assert set() == {"butter", "other3", "bread"} & {item.item_id for item in slate.items}
    assert len(slate.items) > 3


@pytest.mark.parametrize("before", [False, True])
def test_a_view_answers_the_newest_slate_that_showed_the_item(before: bool) -> None:
    """Whole ids count, not parts of them; slates of rows written before keep their items in a list."""
    stream = shop()
    stream.pipe(viewed("u1", 500, "bread"))
    [slate] = stream.take("recommendations")
    waiting = stream.engine.state.memory("u1").open
    if before:
        waiting[slate.decision_id].action = "for_you"
        waiting[slate.decision_id].items = [item.item_id for item in slate.items]
    for at, (item_id, still_open) in enumerate([("utte", True), ("for_you", True), ("butter", False)]):
        stream.pipe(viewed("u1", 510.0 + at, item_id))
        stream.flush()
        assert still_open == (slate.decision_id in stream.engine.state.memory("u1").open)


def test_what_was_bought_is_not_recommended() -> None:
    """Neither bought nor already seen items come back."""
    stream = shop()
    products = [{"product_id": "butter"}]
    stream.pipe(event("Order Completed", user="u1", at=490, products=products), viewed("u1", 600, "bread"))
    slates = stream.take("recommendations")

    assert ["u1", "u1"] == [slate.user_id for slate in slates]
    assert "butter" not in {item.item_id for slate in slates for item in slate.items}


def test_slates_keep_their_distance_unless_asked_for() -> None:
    """Within min_interval_s there is no second slate; a request gets one at once, in its own slot."""
    stream = shop()
    stream.pipe(viewed("u1", 500, "bread"), viewed("u1", 530, "other1"), viewed("u1", 561, "other2"))
    stream.pipe(event("Recommendations Requested", user="u1", at=562, slot="basket"))
    slates = stream.take("recommendations")

    times_and_slots = [(slate.produced_at, slate.slot) for slate in slates]
    assert [
        (rfc3339(EPOCH + 500), "for_you"),
        (rfc3339(EPOCH + 561), "for_you"),
        (rfc3339(EPOCH + 562), "basket"),
    ] == times_and_slots


# Offers


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


def mailed(*reports: tuple[str, float, bool]) -> tuple[Driver, list[float]]:
    """Forty reminders, and what the mail system says of each; click probabilities before and after.

    A report is an event, seconds after the message, and whether it comes of every fourth message only.
    """
    consent = CampaignConsent(when_unknown="allow")
    campaign = cart_campaign(delay_s=60.0, value=10.0, currency="EUR", consent=consent)
    settings = Settings(
        **SMALL, campaigns={"holdout_share": 0.0, "lateness_s": 0.0, "exploration": 0.0, "daily_cap": None}
    )
    stream = Driver(settings=settings, campaigns=[campaign])
    stream.pipe(*(event("Product Added", user=f"u{n}", at=n, product_id="p") for n in range(40)))
    stream.advance(61)
    triggers = stream.take("triggers")
    features = message_features("cart", "new", "p", None, Profile(n_adds=1))
    before = stream.models.clicks.predict_proba_one(features)
    for name, after_s, rarely in reports:
        for n, trigger in enumerate(triggers[:: 4 if rarely else 1]):
            id_ = trigger.id if n % 2 else trigger.decision.decision_id
            content = {"campaign": {"content": id_}}
            user = str(trigger.recipient.user_id)
            stream.pipe(event(name, user=user, at=101 + after_s, context=content))
    stream.advance(2 * DAY)
    assert len(triggers) == 40
    return stream, [before, stream.models.clicks.predict_proba_one(features)]


def test_clicks_in_mails_teach_the_click_model() -> None:
    """Ten of forty that arrived were clicked: ten 1s, and thirty 0s when the window is over."""
    stream, _ = mailed(
        ("Email Delivered", 1, False), ("Email Opened", 2, False), ("Email Link Clicked", 3, True)
    )
    loss = stream.models.click_metrics.loss

    assert 40 == loss.n
    assert pytest.approx(-math.log(0.25) / 4 - 3 * math.log(0.75) / 4) == loss.base_rate()


def test_a_mail_that_nobody_clicks_becomes_less_likely_to_be_clicked() -> None:
    """Delivered and not clicked lowers the probability; clicks of all raise it."""
    _, (before, ignored) = mailed(("Email Delivered", 1, False))
    _, (same, loved) = mailed(("Email Link Clicked", 1, False))

    assert before == same
    assert ignored < before < loved


@pytest.mark.parametrize("report", [None, "Email Bounced"])
def test_a_mail_system_that_says_nothing_teaches_nothing(report: str | None) -> None:
    """Silence is no 0, nor is a mail that did not arrive; else nothing would be worth sending any more."""
    stream, (before, after) = mailed(*([] if report is None else [(report, 1.0, False)]))

    assert before == after
    assert 0 == stream.models.click_metrics.loss.n


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
        offer("e-all"),
    ]
    stream = Driver(settings=Settings(**SMALL), offers=offers_from(offers))
    stream.pipe(event("Order Completed", user="buyer", at=0, products=[]))
    stream.pipe(cart_seen("buyer", 1), cart_seen("new", 2))

    assert [[NOTHING, "b-buyers-only", "e-all"], [NOTHING, "a-new-only", "e-all"]] == [
        d.eligible for d in offer_decisions(stream)
    ]


def offers_from(offers: list[Offer]) -> list[Offer]:
    """Bring dates given as text to what the wire decoder makes of them."""
    import msgspec

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


@pytest.mark.parametrize("memory", [b"", b"garbage", b"\x01" * 300])
def test_a_damaged_model_memory_is_not_fatal(memory: bytes) -> None:
    """A user's model memory of another format counts as none."""
    stream = shop()
    stream.pipe(viewed("u1", 500, "bread"))
    stream.flush()
    stream.engine.state.memory("u1").factors = memory
    stream.pipe(viewed("u1", 600, "other1"))

    assert [1, 1] == [1 for slate in stream.take("recommendations") if slate.user_id == "u1"]


def test_a_risen_error_makes_the_click_model_forget_faster() -> None:
    """What was never clicked is clicked every other time: an alarm, the same at any batch size."""
    found = set()
    for size in (7, 1000):
        stream = Driver(settings=Settings(**SMALL), batch_size=size)
        for n in range(2000):
            stream.pipe(shown(f"u{n}", 20 * n, "a"))
            if n > 1000 and n % 2:
                stream.pipe(event("Product Clicked", user=f"u{n}", at=20 * n + 1, product_id="a"))
        stream.flush()
        stream.advance(1800)
        models = stream.models
        found.add((models.drift["clicks"].n_alarms, models.clicks.clock.n_alarms, models.fold.digest()))
    ((n_alarms, days, _),) = found
    assert n_alarms >= days == 1


# Explanations


def test_a_message_says_which_features_made_a_click_likely() -> None:
    """Terms are mean and deviation of the weights, from the sums that lie in the model's snapshot."""
    campaign = cart_campaign(
        value=9.0, cost=0.0, currency="EUR", consent=CampaignConsent(when_unknown="allow")
    )
    settings = Settings(**SMALL, campaigns={"holdout_share": 0.0, "exploration": 0.0})
    stream = Driver(settings=settings, campaigns=[campaign])
    for n in range(200):
        stream.pipe(shown(f"v{n}", 10.0 * n, "good", "bad"))
        stream.pipe(event("Product Clicked", user=f"v{n}", at=10.0 * n + 5, product_id="good"))
    stream.pipe(event("Product Added", user="u1", at=5000.0, product_id="good"))
    stream.advance(2 * 3600.0)
    (decision,) = [one for one in stream.take("decisions") if one.kind == "trigger"]
    told = decision.explanation
    clicks = stream.models.clicks
    state = dict(zip(clicks.snapshot()["slot"].tolist(), clicks.snapshot()["state"].tolist(), strict=True))
    encoded = clicks.encode({"item": "good"})
    slot = dict(zip(encoded.names, encoded.slots.tolist(), strict=True))["item=good"]
    precision, product = 4.0 + state[slot][0] / GRID, state[slot][1] / GRID

    assert told is not None
    assert "click_rate" == told.model
    assert 5 == len(told.terms)
    sizes = [abs(term.log_odds) for term in told.terms]
    assert sorted(sizes, reverse=True) == sizes
    good = {term.feature: term for term in told.terms}["item=good"]
    assert product / precision == pytest.approx(good.log_odds, abs=1e-4)
    assert precision**-0.5 == pytest.approx(good.deviation, abs=1e-4)


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
