"""Answers to offers: what counts as one, when and for which offer, and what takes it back."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.campaigns import CampaignConsent
from stream.settings import Settings
from stream.testing import Driver, cart_campaign, event
from tests.core.shop_events import SMALL, cart_seen, offer, offer_decisions

DAY = 86_400.0


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
