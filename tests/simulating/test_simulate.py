"""The simulated shop's records: order, vocabulary, rate, reference data, determinism."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from stream.simulating import Shop, catalogue, offers, simulate

START = 1_700_000_000.0
# Names of the Segment e-commerce spec that a visit can bring, and our own two.
EXPECTED_NAMES = {
    "Checkout Started",
    "Consent Changed",
    "Email Delivered",
    "Email Link Clicked",
    "Email Opened",
    "Order Completed",
    "Order Refunded",
    "Product Added",
    "Product Added to Wishlist",
    "Product Clicked",
    "Product List Viewed",
    "Product Removed",
    "Product Reviewed",
    "Product Viewed",
    "Products Searched",
    "Promotion Clicked",
    "Promotion Viewed",
    "Recommendations Requested",
    "Unsubscribed",
}


def decoded(records: Iterable[bytes]) -> list[dict[str, Any]]:
    """Decode records, all of which must be sound."""
    return [orjson.loads(record) for record in records]


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    """Half an hour of a shop without bad records."""
    return decoded(simulate(seed=7, start=START, duration_s=1200.0, events_per_s=25.0, hostile_share=0.0))


def test_events_are_canonical_ordered_and_unique(events: list[dict[str, Any]]) -> None:
    """Segment envelopes in order of time, each with an id of its own and exactly one kind of user id."""
    times = [event["timestamp"] for event in events]
    assert times == sorted(times)
    assert len({event["messageId"] for event in events}) == len(events)
    assert times[0] >= "2023-11-14T22:13:20.000Z"
    assert times[-1] < "2023-11-14T22:33:20.000Z"
    for event in events:
        assert event["type"] == "track"
        assert ("userId" in event) != ("anonymousId" in event)
        assert isinstance(event["properties"], dict)


def test_every_kind_of_event_happens_and_no_other(events: list[dict[str, Any]]) -> None:
    """The vocabulary is the spec's and ours; both known users and visitors, both answers to consent."""
    assert {event["event"] for event in events} == EXPECTED_NAMES
    kinds = Counter("userId" in event for event in events)
    assert 0.1 < kinds[False] / len(events) < 0.35
    answers = Counter(
        e["properties"]["purposes"]["contact"] for e in events if e["event"] == "Consent Changed"
    )
    assert 0.05 < answers[False] / answers.total() < 0.25


@pytest.mark.parametrize(("n_users", "events_per_s", "duration_s"), [(500, 500.0, 20.0), (300, 2.0, 4000.0)])
def test_the_rate_is_what_was_asked_for(n_users: int, events_per_s: float, duration_s: float) -> None:
    """Busy or quiet, the mean rate is within 15 % of the wanted one."""
    n = sum(
        1
        for _ in simulate(
            seed=3,
            n_users=n_users,
            start=START,
            duration_s=duration_s,
            events_per_s=events_per_s,
            hostile_share=0.0,
        )
    )
    assert n == pytest.approx(events_per_s * duration_s, rel=0.15)


def test_lists_come_before_their_clicks(events: list[dict[str, Any]]) -> None:
    """A click on a place of a list follows an impression of that item at that place, to the same shopper."""
    shown: set[tuple[str, str, str, int]] = set()
    n_clicks = 0
    for event in events:
        who = event.get("userId") or event["anonymousId"]
        properties = event["properties"]
        if event["event"] == "Product List Viewed":
            assert [p["position"] for p in properties["products"]] == list(
                range(1, len(properties["products"]) + 1)
            )
            shown |= {
                (who, properties["list_id"], product["product_id"], product["position"])
                for product in properties["products"]
            }
        elif event["event"] == "Product Clicked":
            n_clicks += 1
            assert (who, properties["list_id"], properties["product_id"], properties["position"]) in shown
    assert n_clicks > 1000


def test_orders_are_paid_in_full_and_refunds_take_back_an_order(events: list[dict[str, Any]]) -> None:
    """Totals are the sum of the lines, order ids do not repeat, each refund names an earlier order."""
    orders: dict[str, Any] = {}
    for event in events:
        order = event["properties"]
        if event["event"] == "Order Completed":
            assert order["order_id"] not in orders
            assert order["products"]
            assert order["total"] == pytest.approx(sum(p["price"] * p["quantity"] for p in order["products"]))
            orders[order["order_id"]] = order
        elif event["event"] == "Order Refunded":
            assert orders[order["order_id"]]["total"] == order["total"]
    assert len(orders) > 100


def test_unsubscribed_and_denying_users_get_no_newsletter(events: list[dict[str, Any]]) -> None:
    """After a no to contact, or an unsubscription, no e-mail is delivered until a yes."""
    silent: set[str] = set()
    for event in events:
        who = event.get("userId", "")
        if event["event"] == "Consent Changed":
            (silent.discard if event["properties"]["purposes"]["contact"] else silent.add)(who)
        elif event["event"] == "Unsubscribed":
            silent.add(who)
        elif event["event"] == "Email Delivered":
            assert who
            assert who not in silent
    assert silent


def test_reference_data_agree_with_the_events(events: list[dict[str, Any]]) -> None:
    """Every product and promotion of an event is in the catalogue and the offers, at the same price."""
    items = {item["item_id"]: item for item in decoded(catalogue(7, start=START))}
    offer_ids = {offer["offer_id"] for offer in decoded(offers(7, start=START))}

    assert len(items) == 300
    assert len(offer_ids) == 4
    assert list(items) == sorted(items)
    for item in items.values():
        assert item["price"] > 0
        assert item["stock"] > 0
        assert (item["version"], item["currency"]) == (1, "EUR")
        assert item["updated_at"] == "2023-11-14T22:13:20.000Z"
    seen = set()
    for event in events:
        properties = event["properties"]
        for product in [properties, *properties.get("products", [])]:
            if "product_id" in product:
                item = items[product["product_id"]]
                seen.add(item["item_id"])
                assert product.get("price", item["price"]) == item["price"]
                assert product.get("category", item["category"]) == item["category"]
        if "promotion_id" in properties:
            assert properties["promotion_id"] in offer_ids
    assert len(seen) > 250


def test_popularity_is_skewed_and_a_new_bestseller_appears_halfway(events: list[dict[str, Any]]) -> None:
    """A tenth of the items take over a fifth of the views; the second half's favourite was hardly known."""
    bestseller = f"p{Shop(7, start=START).goods.bestseller:04d}"
    halfway = "2023-11-14T22:23:20.000Z"
    shown: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    for event in events:
        if event["event"] == "Product List Viewed":
            shown[event["timestamp"] >= halfway].update(
                p["product_id"] for p in event["properties"]["products"]
            )
    for half in shown.values():
        assert sum(n for _, n in half.most_common(30)) > 0.2 * half.total()
    assert shown[True][bestseller] > 3 * shown[False][bestseller]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    """All of it, bad records included."""
    first, again, other = (
        list(simulate(seed=seed, n_users=50, start=START, duration_s=60.0, hostile_share=0.05))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert set(first).isdisjoint(other)
    assert list(catalogue(1)) == list(catalogue(1))
    assert list(catalogue(1)) != list(catalogue(2))


def test_where_calls_are_split_does_not_matter() -> None:
    """Many small steps and one large one give the same records."""
    whole = Shop(5, start=START, n_users=40).next_events(START + 100.0)
    shop = Shop(5, start=START, n_users=40)
    parts = [record for n in range(1, 1001) for record in shop.next_events(START + n / 10)]
    assert parts == whole
    assert whole


def test_bad_records_come_in_their_share_and_of_every_kind() -> None:
    """Re-sent, late, future, unknown, and eight ways of being broken; the good ones are untouched."""
    arguments: dict[str, Any] = {
        "seed": 9,
        "n_users": 200,
        "start": START,
        "duration_s": 100.0,
        "events_per_s": 200.0,
    }
    good = list(simulate(**arguments, hostile_share=0.0))
    records = list(simulate(**arguments, hostile_share=0.05))

    rest = iter(records)
    assert all(record in rest for record in good)  # the good ones, in order, are among all
    n_bad = len(records) - len(good)
    assert n_bad == pytest.approx(0.05 * len(good), rel=0.2)
    assert sum(n - 1 for n in Counter(records).values()) == pytest.approx(n_bad / 2, rel=0.2)
    kinds: Counter[str] = Counter()
    for record in set(records) - set(good):
        kinds[kind_of(record)] += 1
    assert set(kinds) == {
        "late",
        "future",
        "unknown",
        "not json",
        "not an object",
        "nobody",
        "bad time",
        "huge number",
        "deep",
    }


def kind_of(record: bytes) -> str:
    """Say what is wrong with a record."""
    try:
        event = orjson.loads(record)
    except orjson.JSONDecodeError:
        return "not json"
    if not isinstance(event, dict):
        return "not an object"
    faults = {
        "nobody": "userId" not in event and "anonymousId" not in event,
        "bad time": not event["timestamp"][0].isdigit(),
        "late": event["timestamp"] < "2023-11-14",
        "future": "2023-11-15" < event["timestamp"] < "3",
        "unknown": event["event"] == "Page Pondered",
        "huge number": event["properties"].get("price", 0) > 1e12,
        "deep": "deeper" in event["properties"],
    }
    return " and ".join(name for name, found in faults.items() if found)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("seed", -1),
        ("n_users", 0),
        ("n_items", 39),
        ("duration_s", 0.0),
        ("events_per_s", 0.0),
        ("hostile_share", 1.1),
        ("deny_share", float("nan")),
    ],
)
def test_impossible_shops_are_refused(argument: str, value: float) -> None:
    """The error names the argument and its value."""
    arguments: dict[str, Any] = {"seed": 1, "start": START, argument: value}
    with pytest.raises(ValueError, match=rf"{argument.partition('_')[0]}.*{value}"):
        Shop(arguments.pop("seed"), **arguments)
