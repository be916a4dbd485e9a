"""Caps, re-eligibility, channels and worth, through the driver: what the stories do not reach."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from schemas.campaigns import Budget, Campaign, CampaignConsent, Cap
from schemas.catalogue import Item
from stream.core.campaigns import Campaigns
from stream.core.caps import MAX_SENDS, MAX_SENT_KEYS, MAX_SENT_TIMES
from stream.core.causes import SegmentChange
from stream.core.records import Outputs
from stream.settings import Settings
from stream.testing import EPOCH, Driver, event

HOUR, DAY = 3600.0, 86_400.0
FREE = {"holdout_share": 0.0, "daily_cap": None, "cooldowns": False}


def campaign(campaign_id: str = "c", kind: str = "cart_abandonment", **fields: Any) -> Campaign:
    """A marketing campaign to which silence is consent."""
    defaults = {"version": 1, "message_class": "marketing", "consent": CampaignConsent(when_unknown="allow")}
    return Campaign(campaign_id=campaign_id, kind=kind, **(defaults | fields))  # type: ignore[arg-type]  # kinds


def driver(*campaigns: Campaign, policy: dict[str, Any] | None = None, **more: Any) -> Driver:
    """A partition without caps, cooldowns or holdouts, unless the policy says so."""
    settings = Settings(max_items=256, click_slots=2**10, campaigns=FREE | (policy or {}))
    return Driver(settings=settings, campaigns=campaigns, **more)


def carted(at: float, product_id: str = "p1", user: str = "u1") -> bytes:
    """A user put a product into the cart."""
    return event("Product Added", user=user, at=at, product_id=product_id)


def reasons(stream: Driver) -> list[str]:
    """Reasons of the suppressions since the last look."""
    return [d.reason for d in stream.take("decisions") if d.kind in {"suppression", "holdout"}]


def test_a_campaigns_own_rolling_cap_counts_its_messages_only() -> None:
    """One in any two days for the capped campaign; the other's messages do not count."""
    cap = Cap(max_messages=1, window="rolling", window_s=2 * DAY)
    stream = driver(campaign("a", caps=[cap]), campaign("b"))
    for day in range(4):
        stream.pipe(carted(day * DAY, f"p{day}"))
        stream.advance(DAY - 1)

    sent = [(t.campaign_id, t.context["product_id"]) for t in stream.take("triggers")]
    assert ["p0", "p2"] == [product for name, product in sent if name == "a"]
    assert ["p0", "p1", "p2", "p3"] == [product for name, product in sent if name == "b"]


def test_a_channels_cap_lets_another_channel_go() -> None:
    """One e-mail a day; the second message takes push, the third nothing."""
    caps = [Cap(max_messages=1, channel="email"), Cap(max_messages=1, channel="push")]
    stream = driver(campaign(channels=["email", "push"], caps=caps))
    stream.pipe(*(carted(n, f"p{n}") for n in range(3)))
    stream.advance(DAY)

    assert ["email", "push"] == [t.channel for t in stream.take("triggers")]
    assert ["frequency_capped"] == reasons(stream)


@pytest.mark.parametrize(("of_campaign", "of_cap"), [("Email", "email"), ("email", "EMAIL")])
def test_a_channels_name_is_read_in_any_case(of_campaign: str, of_cap: str) -> None:
    """A cap whose channel is written otherwise was no cap."""
    stream = driver(campaign(channels=[of_campaign], caps=[Cap(max_messages=1, channel=of_cap)]))
    stream.pipe(*(carted(n, f"p{n}") for n in range(2)))
    stream.advance(DAY)

    assert [of_campaign] == [t.channel for t in stream.take("triggers")]


def test_a_rolling_cap_fails_safe_where_the_log_is_full() -> None:
    """More messages than are remembered within the window: nobody can say how many, so none goes."""
    cap = Cap(max_messages=64, window="rolling", window_s=30 * DAY)
    stream = driver(campaign("a"), campaign("b", caps=[cap]), policy={"decision_window_s": 0.0})
    for n in range(MAX_SENDS):
        stream.pipe(carted(n * 4000.0, f"p{n}"))
        stream.advance(3950)

    assert MAX_SENDS // 2 == sum(t.campaign_id == "b" for t in stream.take("triggers"))
    assert MAX_SENDS // 2 == reasons(stream).count("frequency_capped")


@pytest.mark.parametrize("window", [{"window": "rolling", "window_s": 30 * DAY}, {}])
@pytest.mark.parametrize("global_", [False, True])
def test_a_cap_fails_safe_where_other_messages_have_filled_the_log(
    window: dict[str, Any], global_: bool
) -> None:
    """One e-mail of a campaign, then as many others as are remembered within its window: no second one."""
    cap = {"max_messages": 1, "channel": "email", **window}
    own: dict[str, Any] = {} if global_ else {"caps": [Cap(**cap)]}
    policy = {"caps": [cap] if global_ else [], "decision_window_s": 0.0}
    other = campaign("other", channels=["push"], kind="browse_abandonment", min_views=1)
    stream = driver(campaign("b", **own), other, policy=policy)
    stream.pipe(carted(0, "p0"))
    stream.advance(4000)
    views = (event("Product Viewed", user="u1", at=4000 + n, product_id=f"v{n}") for n in range(MAX_SENDS))
    stream.pipe(*views)
    stream.advance(4000)
    stream.pipe(carted(10_000, "p1"))
    stream.advance(4000)

    told = [t.campaign_id for t in stream.take("triggers")]
    assert (1, MAX_SENDS) == (told.count("b"), told.count("other"))
    assert "frequency_capped" in reasons(stream)


def test_quiet_hours_that_may_mean_anything_are_refused() -> None:
    """From nine to nine is the whole day, or no time at all."""
    with pytest.raises(ValueError, match="quiet_hours: 21:00-21:00 is the whole day or no time"):
        driver(policy={"quiet_hours": "21:00-21:00"})


@pytest.mark.parametrize(("after_s", "expected"), [(None, 3), (2 * DAY, 2), ("never", 1)])
def test_the_same_message_goes_again_when_it_may(after_s: float | str | None, expected: int) -> None:
    """The same product abandoned on three days."""
    stream = driver(campaign(re_eligible_after_s=after_s))
    for day in range(3):
        stream.pipe(carted(day * DAY))
        stream.advance(DAY - 1)

    assert expected == len(stream.take("triggers"))
    assert ["not_re_eligible"] * (3 - expected) == reasons(stream)


@pytest.mark.parametrize(("cooldown_s", "unwritten"), [(30 * DAY, 4), (1.0, 0)])
def test_a_cooldown_is_never_forgotten(cooldown_s: float, unwritten: int) -> None:
    """More campaigns write than are remembered: each keeps its distance, and the row stays bounded."""
    many = [campaign(f"c{n}", cooldown_s=cooldown_s) for n in range(MAX_SENT_TIMES + 4)]
    stream = driver(policy={"cooldowns": True, "decision_window_s": 0.0})
    for n, one in enumerate(many):
        stream.reference.campaigns[one.campaign_id] = one
        stream.pipe(carted(4000.0 * n, f"p{n}"))
        stream.advance(3950)
        del stream.reference.campaigns[one.campaign_id]
    assert len(many) - unwritten == len(stream.take("triggers"))
    stream.reference.campaigns["c0"] = many[0]
    stream.pipe(carted(4000.0 * len(many), "again"))
    stream.advance(3950)
    profile = stream.engine.state.profile("u1")

    assert (unwritten == 0) == len(stream.take("triggers"))
    assert MAX_SENT_TIMES == len(profile.sent_times)
    assert len(profile.campaign_day) <= DAY / 4000.0 + 1


def test_once_and_for_all_is_never_forgotten() -> None:
    """Where no more can be remembered, nothing new goes, rather than something again."""
    stream = driver(campaign(re_eligible_after_s="never"))
    for n in range(MAX_SENT_KEYS + 2):
        stream.pipe(carted(n * 4000.0, f"p{n}"))
        stream.advance(3950)
    stream.pipe(carted(1000 * HOUR, "p0"))
    stream.advance(DAY)

    assert MAX_SENT_KEYS == len(stream.take("triggers"))
    assert ["not_re_eligible"] * 3 == reasons(stream)


def test_what_is_not_worth_its_cost_is_not_sent_and_the_choice_is_logged() -> None:
    """Expected value p * 1 - 5 < 0: nothing, but for the explored share, whose propensity is logged."""
    stream = driver(campaign(value=1.0, cost=5.0, currency="EUR"), policy={"exploration": 0.1})
    for n in range(400):
        stream.pipe(carted(n / 10, user=f"u{n}"))
    stream.advance(DAY)
    decisions = [d for d in stream.take("decisions") if d.campaign_id == "c"]
    sent = [d for d in decisions if d.kind == "trigger"]

    assert 400 == len(decisions)
    assert 15 < len(sent) < 70  # 40 expected, standard deviation 6
    assert {(0.1, "expected_value")} == {(d.propensity, d.policy) for d in sent}
    assert {"nothing_chosen"} == {d.reason for d in decisions if d.kind == "suppression"}
    assert all(d.features is not None and d.features["expected_value"] < -4 for d in decisions)
    assert all(d.propensities == pytest.approx([0.1, 0.9]) for d in decisions)


def test_the_more_valuable_message_goes_where_there_is_room_for_one() -> None:
    """The cheap one is due first and waits; another currency is not compared, so there the first goes."""
    for currency, first in (("EUR", "dear"), ("USD", "cheap")):
        cheap = campaign("cheap", value=1.0, currency="EUR")
        dear = campaign("dear", value=9.0, currency=currency, delay_s=4000.0)
        stream = driver(cheap, dear, policy={"daily_cap": 1, "exploration": 0.0})
        stream.pipe(carted(0))
        stream.advance(DAY)

        assert [first] == [t.campaign_id for t in stream.take("triggers")]
        assert ["outranked" if first == "dear" else "frequency_capped"] == reasons(stream)


def test_a_message_waits_no_longer_than_the_decision_window() -> None:
    """A stronger one due later than that does not count."""
    stream = driver(
        campaign("a"),
        campaign("b", priority=1, delay_s=3 * HOUR),
        policy={"daily_cap": 1, "decision_window_s": HOUR},
    )
    stream.pipe(carted(0))
    stream.advance(DAY)

    assert ["a"] == [t.campaign_id for t in stream.take("triggers")]


def test_a_daily_budget_is_whole_again_the_next_day() -> None:
    """One message a UTC day."""
    stream = driver(campaign(budget=Budget(messages=1, per="day")))
    stream.pipe(carted(0, user="u1"), carted(1, user="u2"))
    stream.advance(DAY)
    stream.pipe(carted(DAY + HOUR, user="u3"))
    stream.advance(DAY)

    assert ["u1", "u3"] == [t.recipient.user_id for t in stream.take("triggers")]
    assert ["budget_exhausted"] == reasons(stream)


def test_a_score_arms_where_it_is_high_enough() -> None:
    """An untaught click model says one half at most; the model's version is on the decision."""
    stream = driver(
        campaign("low", "score_threshold", min_score=0.0), campaign("high", "score_threshold", min_score=1.0)
    )
    stream.pipe(event("Product Viewed", user="u1", at=0, product_id="p1"))
    stream.advance(DAY)

    [trigger] = stream.take("triggers")
    assert ("low", "0") == (trigger.campaign_id, trigger.decision.model_version)


def test_a_segments_change_arms_the_campaigns_that_wait_for_it() -> None:
    """Entry and exit are told apart; the segment is the key."""
    stream = driver(
        campaign("in", "segment_entry", segment="vip", immediate=True, delay_s=0.0),
        campaign("out", "segment_entry", segment="vip", segment_change="exit", immediate=True, delay_s=0.0),
        campaign("other", "segment_entry", segment="new", immediate=True, delay_s=0.0),
    )
    stream.pipe(event("Cart Viewed", user="u1", at=0))
    stream.flush()
    change = SegmentChange("u1", "vip", entered=True, time=EPOCH + 5, message_id="m", event="Order Completed")
    outputs, state = Outputs(), stream.engine.state
    stream.engine.campaigns.segment_changed(change, state.memory("u1"), "0", outputs)

    assert [("in", {"segment": "vip"})] == [(t.campaign_id, t.context) for t in outputs.triggers]


def test_a_watch_ends_when_its_time_is_up_and_when_the_product_is_bought() -> None:
    """Nobody is told of a price after ten days, nor of what they own."""
    items = [Item(item_id="p1", version=1, price=100.0)]
    stream = driver(campaign(kind="price_drop", watch_s=10 * DAY, delay_s=0.0), items=items)
    for user in ("u1", "u2"):
        stream.pipe(event("Product Viewed", user=user, at=0, product_id="p1"))
    stream.pipe(event("Order Completed", user="u2", at=60, products=[{"product_id": "p1"}]))
    stream.flush()
    assert ["u1"] == stream.engine.state.watchers("p1")
    stream.advance(11 * DAY)
    stream.reference.items["p1"] = Item(item_id="p1", version=2, price=50.0)
    stream.advance(DAY)

    assert [] == stream.engine.state.watched()
    assert ([], []) == (stream.take("triggers"), reasons(stream))


def test_who_waits_for_an_item_is_to_blame_only_while_looked_at() -> None:
    """The engine names whose watch it failed on, and nobody afterwards; who is given up is passed by."""
    items = [Item(item_id="p1", version=1, price=100.0)]
    stream = driver(campaign(kind="price_drop", delay_s=0.0), items=items)
    stream.pipe(event("Product Viewed", user="u1", at=0, product_id="p1"))
    stream.flush()
    engine = stream.engine
    stream.reference.items["p1"] = Item(item_id="p1", version=2, price=60.0)
    failing = mock.patch.object(Campaigns, "_look", side_effect=ZeroDivisionError)
    with failing, pytest.raises(ZeroDivisionError):
        engine.campaigns.look_at_items(Outputs())
    blamed = engine.state.in_hand
    assert blamed is not None
    assert ("u1", "p1") == (blamed.user, blamed.ref)

    stream.reference.items["p1"] = Item(item_id="p1", version=3, price=101.0)
    engine.campaigns.look_at_items(Outputs())
    assert engine.state.in_hand is None

    engine.state.given_up = frozenset([blamed])
    stream.reference.items["p1"] = Item(item_id="p1", version=4, price=50.0)
    stream.advance(DAY)
    assert [] == stream.take("triggers")

    engine.state.given_up = frozenset()
    stream.reference.items["p1"] = Item(item_id="p1", version=5, price=49.0)
    stream.advance(DAY)
    assert ["u1"] == [trigger.recipient.user_id for trigger in stream.take("triggers")]


@pytest.mark.parametrize(("sent", "told"), [("Asia/Kolkata", "Asia/Kolkata"), ("Mars/Olympus", "UTC")])
def test_a_trigger_tells_the_zone_that_was_used(sent: str, told: str) -> None:
    """Not what a browser said, which nobody may be able to load."""
    stream = driver(campaign())
    stream.pipe(event("Product Added", user="u1", at=0, product_id="p", context={"timezone": sent}))
    stream.advance(DAY)

    assert [told] == [trigger.time_zone for trigger in stream.take("triggers")]


def test_a_message_that_is_given_up_is_eligible() -> None:
    """What was due and was not sent is suppressed, so eligible is what was sent and what was suppressed."""
    stream = driver(campaign())
    stream.pipe(carted(0))
    stream.flush()
    state = stream.engine.state
    state.given_up = frozenset(due for due in state._due if due.kind == "campaign")
    stream.advance(DAY)

    of_campaign = {key[2:]: n for key, n in stream.counts.items() if key[:2] == ("campaign", "c")}
    assert {("armed",): 1, ("eligible",): 1, ("suppressed", "failed"): 1} == of_campaign
    assert ["failed"] == reasons(stream)


def test_a_price_that_fell_while_the_worker_was_away_is_found() -> None:
    """What is compared is the item as it is with what the timer noted, so no version has to be seen."""
    items = [Item(item_id="p1", version=1, price=100.0)]
    stream = driver(campaign(kind="price_drop", delay_s=0.0), items=items)
    stream.pipe(event("Product Viewed", user="u1", at=0, product_id="p1"))
    stream.flush()
    stream.reference.items["p1"] = Item(item_id="p1", version=7, price=60.0)
    stream.restart()
    stream.advance(600)
    [trigger] = stream.take("triggers")
    stream.restart()
    stream.advance(DAY)

    assert (100.0, 60.0) == (trigger.context["price_before"], trigger.context["price"])
    assert [] == stream.take("triggers")


@pytest.mark.parametrize(
    ("before", "after", "sends"),
    [
        ("EUR", "EUR", True),
        ("eur", "EUR", True),
        ("EUR", "eur", True),
        (None, None, True),
        ("USD", "GBP", False),
        (None, "EUR", False),
    ],
)
def test_a_price_drops_in_its_own_currency(before: str | None, after: str | None, *, sends: bool) -> None:
    """95 GBP are more than 100 USD; what has no currency may be of any."""
    items = [Item(item_id="p1", version=1, price=100.0, currency=before)]
    stream = driver(campaign(kind="price_drop", delay_s=0.0), items=items)
    stream.pipe(event("Product Viewed", user="u1", at=0, product_id="p1"))
    stream.flush()
    stream.reference.items["p1"] = Item(item_id="p1", version=2, price=95.0, currency=after)
    stream.advance(600)

    assert sends == bool(stream.take("triggers"))


def test_funnels_add_up_with_messages_that_wait() -> None:
    """Armed = cancelled + eligible + pending for each campaign, holds and watches included."""
    stream = driver(
        campaign("a", quiet_hours="21:00-08:00"),
        campaign("b", kind="browse_abandonment", priority=3),
        campaign("c", kind="price_drop", delay_s=0.0),
        campaign("d", kind="back_in_stock", delay_s=0.0),
        campaign("e", kind="win_back", delay_s=DAY),
        policy={"daily_cap": 1, "max_per_minute": 1.0},
        items=[Item(item_id=f"p{n}", version=1, price=100.0, stock=n % 2) for n in range(5)],
    )
    for n in range(300):
        user, product = f"u{n % 11}", f"p{n % 5}"
        name = ("Product Viewed", "Product Added", "Product Viewed", "Order Completed")[(n // 3) % 4]
        about = (
            {"products": [{"product_id": product}]} if name == "Order Completed" else {"product_id": product}
        )
        stream.pipe(event(name, user=user, at=n * 400.0, **about))
        if n % 50 == 25:
            item = Item(item_id=product, version=n, price=90.0 - n / 10, stock=n % 3)
            stream.reference.items[product] = item
    counts, pending = stream.counts, stream.engine.state.pending_timers()

    for name in "abcde":
        funnel = {key[2]: n for key, n in counts.items() if key[:2] == ("campaign", name) and len(key) == 3}
        suppressed = sum(n for key, n in counts.items() if key[:3] == ("campaign", name, "suppressed"))
        assert funnel["armed"] == funnel.get("cancelled", 0) + funnel.get("eligible", 0) + pending.get(
            name, 0
        ), name
        assert funnel.get("eligible", 0) == funnel.get("sent", 0) + suppressed, name
        assert funnel["armed"] > 3, name
