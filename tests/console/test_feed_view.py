"""The view: what is counted, what is joined, what is said in words."""

from __future__ import annotations

import orjson
import pytest

from schemas.outputs import (
    Cause,
    Decision,
    Recipient,
    Recommendation,
    RecommendedItem,
    Trigger,
    TriggerDecision,
)
from stream.console import FeedView, OfferBelief, WorkerCounts

CAUSE = Cause("m1", "Product Viewed", "2026-01-05T10:00:00.000Z")


def recommendation(message_id: str = "m1", *reasons: str) -> Recommendation:
    """Build a list of three items that answers an event."""
    items = [RecommendedItem(f"p{n}", 1.0, "sequence", list(reasons)) for n in range(3)]
    cause = Cause(message_id, CAUSE.event, CAUSE.timestamp)
    return Recommendation("r", "u1", "home", items, "d", "0:1", cause, CAUSE.timestamp, CAUSE.timestamp)


def offer(action: str, propensities: list[float], campaign_id: str | None = None) -> Decision:
    """Build the decision about an offer, "a" or "nothing"."""
    return Decision(
        "d",
        "offer",
        "u1",
        action,
        0.5,
        "thompson",
        CAUSE,
        CAUSE.timestamp,
        eligible=["nothing", "a"],
        propensities=propensities,
        campaign_id=campaign_id,
    )


def suppression(reason: str, kind: str = "suppression") -> Decision:
    """Build the decision not to send."""
    return Decision("d", kind, "u1", "suppress", 1.0, "rules", CAUSE, CAUSE.timestamp, [], reason=reason)  # type: ignore[arg-type]


@pytest.mark.parametrize("output_first", [False, True])
def test_freshness_runs_from_append_to_the_readers_hands(*, output_first: bool) -> None:
    """0.25 s between an event's append and its list in our hands is 250 ms, whichever is read first."""
    view = FeedView()
    if output_first:
        view.recommendation(recommendation(), 100.25)
    view.event({"messageId": "m1"}, 100.0)
    if not output_first:
        view.recommendation(recommendation(), 100.25)
    assert {"p50": 250.0, "p99": 250.0, "n": 1} == view.freshness_ms()
    assert view.freshness_ms(live=True) == view.freshness_ms()


def test_freshness_counts_only_answers_that_follow_at_once() -> None:
    """On-site offers count; a message's offer waited on purpose, and a re-sent event has no second append."""
    view = FeedView()
    view.event({"messageId": "m1"}, 100.0)
    view.event({"messageId": "m1"}, 200.0)
    view.decision(offer("a", [0.5, 0.5]), 100.5)
    view.decision(offer("a", [0.5, 0.5], campaign_id="cart"), 999.0)
    assert {"p50": 500.0, "p99": 500.0, "n": 1} == view.freshness_ms()


def test_quantiles_are_values_that_occurred() -> None:
    """Of 1 to 100 ms the median is 50 ms, and 99 of 100 do not exceed 99 ms."""
    view = FeedView()
    for n in range(1, 101):
        view.event({"messageId": f"m{n}"}, 0.0)
        view.recommendation(recommendation(f"m{n}"), n / 1000)
    assert {"p50": 50.0, "p99": 99.0, "n": 100} == view.freshness_ms()


def test_offers_show_shares_beliefs_and_the_least_propensity() -> None:
    """Shares add up to 1, "nothing" stands last, the smallest propensity of any choice is kept."""
    view = FeedView()
    for action, least in (("a", 0.3), ("a", 0.1), ("nothing", 0.2)):
        view.decision(offer(action, [1 - least, least]), 0.0)
    view.believe([OfferBelief("a", 0.2, 0.05, 10.0, 2.0), OfferBelief("b", 0.4, 0.1, 5.0, 2.0)])

    shown = view.offers

    assert ["b", "a", "nothing"] == [o.offer for o in shown]
    assert [0.0, 2 / 3, 1 / 3] == [o.share for o in shown]
    assert 0.1 == shown[1].least_propensity
    assert shown[2].belief is None


def test_a_message_says_what_why_and_with_which_offer() -> None:
    """The product's name, the cause in words with the time that passed, the offer of the bandit."""
    view = FeedView({"p1": "Trail boot"})
    decision = TriggerDecision("d", "thompson", 0.5, explored=False, reasons=["cart_abandonment"])
    view.trigger(
        Trigger(
            id="t",
            campaign_id="cart",
            campaign_version="1",
            message_class="marketing",
            channel="email",
            recipient=Recipient(user_id="u1"),
            context={"product_id": "p1"},
            send_at="2026-01-05T10:35:00.000Z",
            expires_at="2026-01-06T10:35:00.000Z",
            time_zone="UTC",
            decision=decision,
            cause=CAUSE,
            dry_run=False,
            offer_id="free-gift",
        )
    )
    (shown,) = view.messages
    assert ("10:35", "u1", "cart") == (shown.clock, shown.user, shown.campaign)
    assert ("Trail boot", "left in cart, 35 min ago", "free-gift") == (shown.product, shown.why, shown.offer)


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (["follows_history:p9", "popular_now"], "goes with Rope"),
        (["follows_last_item"], "often follows your history"),
        (["popular_this_week"], "popular this week"),
        (["a_code_of_tomorrow"], "a code of tomorrow"),
        ([], "sequence"),
    ],
)
def test_the_first_reason_is_said_in_words(reasons: list[str], words: str) -> None:
    """Item ids become names; an unknown code is shown as it is, and without a reason the source stands in."""
    view = FeedView({"p9": "Rope", "p0": "Tent"})
    view.recommendation(recommendation("m1", *reasons), 0.0)
    (shown,) = view.recommendations
    assert words == shown.reason
    assert ("Tent", "p1", "p2") == shown.items


def test_suppressions_and_holdouts_are_counted_by_reason() -> None:
    """A held-out message is one that was not sent, too."""
    view = FeedView()
    for decision in (suppression("no_consent"), suppression("no_consent"), suppression("holdout", "holdout")):
        view.decision(decision, 0.0)
    assert {"no_consent": 2, "holdout": 1} == view.suppressed


def test_behaviour_is_counted_once_and_by_whose_list_it_was() -> None:
    """A re-sent order is one order; lists with our decision id are ours."""
    view = FeedView()
    order = {
        "messageId": "o1",
        "event": "Order Completed",
        "properties": {"total": 20.5, "currency": "EUR"},
    }
    for fields in (
        order,
        order,
        {"messageId": "l1", "event": "Product List Viewed", "properties": {"list_id": "a"}},
        {"messageId": "l2", "event": "Product List Viewed", "properties": {"decision_id": "d"}},
        {"messageId": "c2", "event": "Product Clicked", "properties": {"decision_id": "d", "list_id": "a"}},
    ):
        view.event(fields, 0.0)
    shop = view.summary()["shop"]
    assert (1, {"EUR": 20.5}) == (shop["orders"], shop["revenue"])
    assert {"shown": 1, "clicked": 0} == shop["lists"]["shop"]
    assert {"shown": 1, "clicked": 1} == shop["lists"]["nudge"]


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        "text",
        {},
        {"messageId": 3},
        {"messageId": "m", "properties": []},
        {"messageId": "m", "event": ["Order Completed"], "properties": {}},
        {"messageId": "m", "event": "Order Completed", "properties": {"total": 1e300, "currency": "EUR"}},
        {"messageId": "m", "event": "Order Completed", "properties": {"total": "1", "currency": "EUR"}},
        {"messageId": "m", "event": "Order Completed", "properties": {"total": 1, "currency": {}}},
    ],
)
def test_any_json_may_come_as_an_event(fields: object) -> None:
    """Hostile records reach the log as well; they add no money and break nothing."""
    view = FeedView()
    view.event(fields, 0.0)
    assert {} == view.summary()["shop"]["revenue"]


def test_the_rate_is_of_the_last_seconds() -> None:
    """100 events a second for 10 s, then 10 a second for 10 s: the rate shown is 10."""
    view = FeedView()
    consumed = 0
    for half_second in range(40):
        view.sample(WorkerCounts(consumed=consumed), half_second / 2)
        consumed += 50 if half_second < 20 else 5
    assert 10.0 == pytest.approx(view.rate)


def test_a_summary_is_json() -> None:
    """Empty or not, a summary can be written as JSON."""
    view = FeedView()
    assert orjson.dumps(view.summary())
    view.decision(offer("a", [0.5, 0.5]), 0.0)
    view.believe([OfferBelief("a", 0.25, 0.05, 8.0, 2.0)])
    offers = orjson.loads(orjson.dumps(view.summary()))["offers"]
    assert {
        "chosen": 1,
        "share": 1.0,
        "least_propensity": 0.5,
        "posterior_mean": 0.25,
        "posterior_deviation": 0.05,
        "outcomes": 8.0,
        "responses": 2.0,
    } == offers["a"]
