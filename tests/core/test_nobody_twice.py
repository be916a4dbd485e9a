"""Nobody is written to about what they have, have had, or were told: variants, carts, late news, dry runs."""

from __future__ import annotations

import time
from itertools import permutations
from typing import Any

import msgspec
import pytest

from schemas.catalogue import Item
from stream.core.caps import MAX_SENDS, MAX_SENT_KEYS
from stream.testing import EPOCH, event
from tests.core.agreed import DAY, added, campaign, driver, sent

HOUR = 3600.0


def bought(at: float, *products: dict[str, Any], **more: Any) -> bytes:
    """An order with lines of product p unless they name another."""
    lines = [{"product_id": "p"} | product for product in products]
    return event("Order Completed", user="u1", at=at, products=lines, **more)


BLACK: dict[str, Any] = {"variant": "black", "sku": "G-32"}


@pytest.mark.parametrize(
    ("in_cart", "line", "expected"),
    [
        (BLACK, {"sku": "G-32"}, []),
        (BLACK, {"variant": "black"}, []),
        (BLACK, {}, []),
        ({}, BLACK, []),
        ({"sku": "G-32"}, BLACK, []),
        ({"variant": "black"}, {"sku": "G-32"}, []),  # nobody knows: it may be the one
        (BLACK, {"variant": "white", "sku": "G-33"}, ["c"]),
        (BLACK, {"sku": "G-33"}, ["c"]),
        ({"variant": "black"}, {"variant": "white"}, ["c"]),
        (BLACK, {"product_id": "q", "sku": "G-32"}, ["c"]),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_who_bought_a_variant_is_not_asked_to(
    in_cart: dict[str, Any], line: dict[str, Any], expected: list[str], *, late: bool
) -> None:
    """A cart with a variant, an order whose line names it otherwise; also where the cart's event is late."""
    stream = driver(campaign(key="variant"))
    events = [added(0, **in_cart), bought(60, line)]
    stream.pipe(*(reversed(events) if late else events), ingest_time=EPOCH + 60)

    assert expected == sent(stream)


def test_a_variant_of_any_length_makes_a_row_of_bounded_length() -> None:
    """Texts that producers send without measure are known by their hash."""
    stream = driver(campaign(key="variant", delay_s=HOUR))
    names = [f"{n}" + "x" * 60_000 for n in range(80)]
    for n, name in enumerate(names):
        stream.pipe(added(n, variant=name), event("Product Viewed", user="u1", at=n, product_id="q"))
    stream.pipe(*(bought(100, {"variant": name}, order_id=name[:2]) for name in names[:79]))

    assert max(map(len, stream.committed.values())) < 50_000
    assert [] == sent(stream)


@pytest.mark.parametrize("beside", [False, True])
def test_what_is_counted_of_users_and_of_products_is_counted_apart(*, beside: bool) -> None:
    """Two searches of a user are no three, though another campaign remembers searches as well."""
    when = {"events": ["Products Searched"], "at_least": 3, "within_s": 600}
    of_user = campaign("sequence", when=when, cancel_on=["Order Completed"])
    of_products = campaign(campaign_id="a", cancel_on=["Products Searched"])
    stream = driver(of_user, *[of_products] * beside)
    stream.pipe(*(event("Products Searched", user="u1", at=n, query=f"q{n}") for n in range(2)))

    assert [] == sent(stream)


@pytest.mark.parametrize("beside", [False, True])
def test_a_campaign_about_a_product_does_not_change_with_one_about_users(*, beside: bool) -> None:
    """An order of q does not speak against a reminder of p that comes late, whoever else asks for orders."""
    of_user = campaign(campaign_id="user", key="user", audience={"fact": "user.n_orders", "at_least": 9})
    stream = driver(campaign(), *[of_user] * beside)
    stream.pipe(bought(100, {"product_id": "q"}), added(60), ingest_time=EPOCH + 101)

    assert ["c"] == sent(stream)


@pytest.mark.parametrize("cancel_on", [[], ["Checkout Started"], None])
@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "cart_abandonment"},
        {"kind": "event", "key": "product", "when": {"events": ["Product Added"]}},
    ],
)
def test_what_cancels_besides_a_purchase_does_not_take_its_place(
    kind: dict[str, Any], cancel_on: list[str] | None
) -> None:
    """Who bought is not reminded, whatever else a campaign names."""
    stream = driver(campaign(**kind, cancel_on=cancel_on))
    stream.pipe(added(0), bought(60, {}))

    assert [] == sent(stream)


def test_what_an_order_arms_the_next_one_moves() -> None:
    """A message about a purchase is not ended by buying again, only by what it names."""
    stream = driver(
        campaign("event", key="product", when={"events": ["Order Completed"]}, cancel_on=["Order Refunded"])
    )
    stream.pipe(bought(0, {}), bought(60, {}))

    assert ["c"] == sent(stream)
    assert (1, 0) == (stream.counts["campaign", "c", "moved"], stream.counts["campaign", "c", "cancelled"])


def test_an_order_with_a_line_that_has_no_id_ends_every_reminder() -> None:
    """It may be what is in the cart; what is named is bought."""
    stream = driver(campaign())
    stream.pipe(added(0), added(1, product_id="q"), bought(60, {"product_id": "x"}, {"product_id": None}))

    assert [] == sent(stream)
    assert ["x"] == [*stream.engine.state.profile("u1").bought]


@pytest.mark.parametrize("late", [False, True])
def test_what_ends_a_cart_of_unknown_products_may_come_first(*, late: bool) -> None:
    """A checkout without products, and a coupon that ends it, in either order of arrival."""
    rule = campaign("event", key="cart", when={"events": ["Checkout Started"]}, cancel_on=["Coupon Applied"])
    stream = driver(rule)
    events = [
        event("Checkout Started", user="u1", at=0),
        event("Coupon Applied", user="u1", at=30, products=[{"product_id": "q"}]),
    ]
    stream.pipe(*(reversed(events) if late else events), ingest_time=EPOCH + 30)

    assert [] == sent(stream)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_an_order_without_products_takes_out_what_was_in_the_cart_by_then(order: tuple[int, ...]) -> None:
    """p1, the order, then p2: p2 alone is left, whatever came first."""
    stream = driver(campaign("checkout_abandonment"))
    steps = [
        event("Checkout Started", user="u1", at=0, products=[{"product_id": "p1"}]),
        event("Order Completed", user="u1", at=20),
        event("Checkout Started", user="u1", at=30, products=[{"product_id": "p2"}]),
    ]
    stream.pipe(*(steps[n] for n in order), ingest_time=EPOCH + 30)
    stream.advance(DAY)

    assert [["p2"]] == [trigger.context["product_ids"] for trigger in stream.take("triggers")]


@pytest.mark.parametrize("key", ["product", "variant", "cart", "user"])
@pytest.mark.parametrize("before", ["product", "variant", "cart", "user"])
def test_a_key_that_changes_sends_nothing_to_who_bought(before: str, key: str) -> None:
    """Timers that were armed under another key are sent to nobody, if nothing else ends them."""
    rule = {"when": {"events": ["Product Added"]}, "cancel_on": ["Order Completed"], "delay_s": HOUR}
    stream = driver(campaign("event", key=before, **rule))
    stream.pipe(added(0, **BLACK))
    stream.flush()
    stream.reference.campaigns["c"] = campaign("event", key=key, **rule | {"version": 2})
    stream.pipe(bought(60, {"sku": "G-32"}))

    assert [] == sent(stream)


def test_a_campaign_that_becomes_a_milestone_forgets_its_timers() -> None:
    """What was armed for another reason has no threshold to be told of."""
    stream = driver(campaign("event", when={"events": ["Order Completed"]}, cancel_on=["Order Refunded"]))
    stream.pipe(bought(0, {}))
    stream.flush()
    stream.reference.campaigns["c"] = campaign("milestone", counter="n_orders", thresholds=[1.0], version=2)

    assert [] == sent(stream)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("win_back", {"delay_s": 30 * DAY}),
        ("replenishment", {"delay_s": 30 * DAY}),
        ("replenishment", {"delay_s": 30 * DAY, "key": "user"}),
    ],
)
def test_an_order_that_comes_days_late_puts_a_reminder_off(kind: str, fields: dict[str, Any]) -> None:
    """Orders on day 0 and 24, the second imported on day 26: the message is due on day 54."""
    stream = driver(campaign(kind, **fields))
    stream.pipe(bought(0, {}), event("Product Viewed", user="u2", at=26 * DAY, product_id="q"))
    stream.pipe(bought(24 * DAY, {}), ingest_time=EPOCH + 26 * DAY)

    assert [] == sent(stream, 20 * DAY)
    expected = {"c"}  # u2 is asked back, too, where everybody is
    stream.advance(7 * DAY)
    assert expected & {t.campaign_id for t in stream.take("triggers") if t.recipient.user_id == "u1"} == set()
    stream.advance(1.01 * DAY)
    assert expected == {t.campaign_id for t in stream.take("triggers") if t.recipient.user_id == "u1"}


def test_an_upload_of_hours_ago_is_read_to_its_end_before_anything_is_sent() -> None:
    """A device that was off the net tells of a cart and of its order at once: its user bought."""
    stream = driver(campaign(delay_s=1800.0))
    stream.pipe(event("Product Viewed", user="u2", at=10 * HOUR, product_id="q"))
    stream.pipe(added(2 * HOUR), bought(2.2 * HOUR, {}), ingest_time=EPOCH + 10 * HOUR)

    assert [] == sent(stream)


def test_what_is_due_late_keeps_the_quiet_hours_of_the_moment() -> None:
    """A cart of 15:00 that is told of at 23:30 is written to at eight, or not at all if that is too late."""
    for expires_after_s, expected in ((DAY, ["2026-01-02T08:00:00.000Z"]), (HOUR, [])):
        rule = campaign(delay_s=1800.0, expires_after_s=expires_after_s)
        stream = driver(rule, policy={"quiet_hours": "21:00-08:00"})
        stream.pipe(event("Product Viewed", user="u2", at=23.5 * HOUR, product_id="q"))
        stream.pipe(added(15 * HOUR), ingest_time=EPOCH + 23.5 * HOUR)
        stream.advance(DAY)

        assert expected == [trigger.send_at for trigger in stream.take("triggers")]


def test_an_immediate_message_takes_the_place_of_one_that_is_held() -> None:
    """The first waits for the morning, the second comes from where it is day: one goes out."""
    rule = campaign("event", when={"events": ["Products Searched"]}, immediate=True, delay_s=0.0)
    stream = driver(rule, policy={"quiet_hours": "21:00-08:00"})
    for at, zone in ((22 * HOUR, "UTC"), (23 * HOUR, "America/Los_Angeles")):
        stream.pipe(event("Products Searched", user="u1", at=at, query="x", context={"timezone": zone}))

    assert ["c"] == sent(stream)


def test_a_milestone_of_revenue_is_reached_once() -> None:
    """Sums of money are compared as they are kept: no cent is lost between two orders."""
    stream = driver(campaign("milestone", counter="revenue", thresholds=[100.0], currency="EUR"))
    for day, total in enumerate((33.33, 66.67, 92.03)):
        stream.pipe(
            event("Order Completed", user="u1", at=day * DAY, order_id=f"{day}", total=total, currency="EUR")
        )

    assert ["c"] == sent(stream, 10 * DAY)


def test_a_milestone_that_was_refunded_is_not_told() -> None:
    """A hundred were reached, and refunded before the message was due."""
    stream = driver(campaign("milestone", counter="revenue", thresholds=[100.0], currency="EUR"))
    paid: dict[str, Any] = {"order_id": "o1", "total": 110.0, "currency": "EUR"}
    stream.pipe(event("Order Completed", user="u1", at=0, **paid))
    stream.pipe(event("Order Refunded", user="u1", at=60, **paid))

    assert [] == sent(stream)


@pytest.mark.parametrize(
    ("kind", "key", "fields"),
    [
        ("milestone", "product", {"counter": "n_orders", "thresholds": [1.0]}),
        ("segment_entry", "product", {"segment": "s"}),
        ("win_back", "product", {"delay_s": 30 * DAY}),
        ("score_threshold", "user", {"min_score": 0.5}),
        ("score_threshold", "cart", {"min_score": 0.5}),
        ("price_drop", "variant", {}),
        ("back_in_stock", "user", {}),
    ],
)
def test_a_key_that_a_kind_cannot_mean_is_refused(kind: str, key: str, fields: dict[str, Any]) -> None:
    """Else thresholds were never asked about, or a campaign said one thing and did another."""
    with pytest.raises(msgspec.ValidationError, match=rf"key: a {kind} campaign is about one .* a {key}"):
        campaign(kind, key=key, **fields)


def test_a_dry_run_takes_nobodys_place() -> None:
    """Cap 1 a day, one rolling; a dry run of more priority before and beside the real campaign."""
    rolling = [{"max_messages": 1, "window": "rolling", "window_s": 7 * DAY}]
    stream = driver(
        campaign(campaign_id="dry", dry_run=True, priority=9),
        campaign(campaign_id="real", delay_s=1200.0),
        policy={"daily_cap": 1, "caps": rolling, "decision_window_s": HOUR},
    )
    stream.pipe(added(0))

    assert ["dry", "real"] == sent(stream)


def test_a_dry_run_leaves_no_trace_when_it_goes_live() -> None:
    """Cooldown, re-eligibility and budget of the dry run were its own; it kept them, too."""
    fields: dict[str, Any] = {
        "re_eligible_after_s": "never",
        "cooldown_s": 30 * DAY,
        "budget": {"messages": 1},
    }
    stream = driver(campaign(dry_run=True, **fields), policy={"cooldowns": True})
    for n in range(3):
        stream.pipe(added(n * DAY))
    assert ["c"] == sent(stream)
    stream.reference.campaigns["c"] = campaign(**fields, version=2)
    stream.pipe(added(4 * DAY))

    assert ["c"] == sent(stream)


def test_what_a_dry_run_remembers_makes_room() -> None:
    """A user's sixty-four remembered messages are of a dry run: a real one goes out, and is remembered."""
    fields: dict[str, Any] = {"re_eligible_after_s": "never"}
    stream = driver(campaign(campaign_id="dry", dry_run=True, **fields))
    n = max(MAX_SENT_KEYS, MAX_SENDS) + 5
    for k in range(n):
        stream.pipe(added(k * 2 * HOUR, product_id=f"p{k}"))
    stream.advance(HOUR)
    assert MAX_SENT_KEYS == len(stream.take("triggers"))
    stream.reference.campaigns["real"] = campaign(campaign_id="real", **fields)
    for day in range(2):
        stream.pipe(added(n * 2 * HOUR + day * DAY))

    assert ["real"] == sent(stream)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_a_start_without_a_zone_is_in_utc_wherever_the_worker_runs(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """A campaign that starts at noon is not running at eleven, and is at one."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        stream = driver(campaign(starts_at="2026-01-01T12:00:00"))
        stream.pipe(added(11 * HOUR), added(13 * HOUR, product_id="q"))
        stream.advance(DAY)
    finally:
        monkeypatch.undo()
        time.tzset()

    assert ["q"] == [trigger.context["product_id"] for trigger in stream.take("triggers")]


def test_idle_time_in_which_an_item_changes_is_a_batch_of_its_own() -> None:
    """A change of an item that somebody waits for may send a message, so it is not passed over."""
    item = Item(item_id="p", version="1", name="P", category="c", price=10.0, currency="EUR")
    stream = driver(
        campaign("price_drop", delay_s=0.0), items=[item, msgspec.structs.replace(item, item_id="q")]
    )
    stream.pipe(event("Product Viewed", user="u1", at=0, product_id="p"))
    stream.advance(60)
    awaited = []
    for item_id, price in (("p", 10.0), ("q", 5.0), ("p", 5.0)):
        stream.reference.items[item_id] = msgspec.structs.replace(item, item_id=item_id, price=price)
        awaited.append(stream.engine.awaits(1.0))
        stream.advance(1.0)

    assert [True, False, True] == awaited
    assert ["c"] == sent(stream, 600.0)
