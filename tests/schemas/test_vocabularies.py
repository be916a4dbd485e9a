"""Events of GA4 and Braze, and CloudEvents around any: the same event as in Segment's own words."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from schemas.aliases import ALIASES
from schemas.campaigns import Campaign
from schemas.codec import Rejected, decode
from schemas.events import EVENT_NAMES, Event
from schemas.reasons import EventKind, RejectCode
from stream.core.rules import rule_of
from stream.testing import Driver, cart_campaign

ENVELOPE = {"type": "track", "messageId": "m1", "userId": "u1", "timestamp": "2026-01-01T00:00:00Z"}
PRODUCT = {"product_id": "p1", "name": "Bread", "variant": "dark", "price": 3.5, "quantity": 2}
GA4_ITEM = {"item_id": "p1", "item_name": "Bread", "item_variant": "dark", "price": 3.5, "quantity": 2}
BRAZE_PRODUCT = {
    "product_id": "p1",
    "product_name": "Bread",
    "variant_id": "dark",
    "price": 3.5,
    "quantity": 2,
}


def raw(name: str, properties: dict[str, Any]) -> bytes:
    """A record."""
    return json.dumps(ENVELOPE | {"event": name, "properties": properties}).encode()


def event(name: str, properties: dict[str, Any]) -> Event:
    """What the record says."""
    found = decode(raw(name, properties))
    assert isinstance(found, Event), found
    return found


SAME: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    (
        "Viewed Product",
        {"id": "p1", "name": "Bread"},
        "Product Viewed",
        {"product_id": "p1", "name": "Bread"},
    ),
    ("Added Product", PRODUCT | {"id": 7}, "Product Added", PRODUCT | {"product_id": 7}),
    (
        "Completed Order",
        {"orderId": "o1", "total": 7, "products": [{"id": 7, "sku": "G-32", "price": 3.5}, PRODUCT]},
        "Order Completed",
        {"order_id": "o1", "total": 7, "products": [{"product_id": 7, "sku": "G-32", "price": 3.5}, PRODUCT]},
    ),
    ("view_item", {"items": [GA4_ITEM]}, "Product Viewed", PRODUCT),
    ("add_to_cart", {"currency": "EUR", "value": 7, "items": [GA4_ITEM]}, "Product Added", PRODUCT),
    ("remove_from_cart", {"items": [GA4_ITEM]}, "Product Removed", PRODUCT),
    ("add_to_wishlist", {"items": [GA4_ITEM]}, "Product Added to Wishlist", PRODUCT),
    (
        "view_item_list",
        {"item_list_id": "l", "items": [GA4_ITEM | {"index": 3}]},
        "Product List Viewed",
        {"list_id": "l", "products": [PRODUCT | {"position": 3}]},
    ),
    (
        "purchase",
        {"transaction_id": "o1", "currency": "EUR", "value": 7, "coupon": "c", "items": [GA4_ITEM]},
        "Order Completed",
        {"order_id": "o1", "currency": "EUR", "total": 7, "coupon": "c", "products": [PRODUCT]},
    ),
    (
        "refund",
        {"transaction_id": "o1", "currency": "EUR", "value": 7},
        "Order Refunded",
        {"order_id": "o1", "currency": "EUR", "total": 7},
    ),
    (
        "select_promotion",
        {"items": [{"promotion_id": "ten", "creative_slot": "top"}]},
        "Promotion Clicked",
        {"promotion_id": "ten", "position": "top"},
    ),
    ("search", {"search_term": "rye"}, "Products Searched", {"query": "rye"}),
    ("ecommerce.product_viewed", BRAZE_PRODUCT, "Product Viewed", PRODUCT),
    (
        "ecommerce.cart_updated",
        {"cart_id": "k", "products": [BRAZE_PRODUCT]},
        "Product Added",
        PRODUCT,
    ),
    (
        "ecommerce.cart_updated",
        {"cart_id": "k", "action": "remove", "products": [BRAZE_PRODUCT]},
        "Product Removed",
        PRODUCT,
    ),
    (
        "ecommerce.order_placed",
        {"order_id": "o1", "currency": "EUR", "total_value": 7, "products": [BRAZE_PRODUCT]},
        "Order Completed",
        {"order_id": "o1", "currency": "EUR", "total": 7, "products": [PRODUCT]},
    ),
]


@pytest.mark.parametrize(("name", "properties", "segments_name", "segments"), SAME)
def test_other_words_say_the_same(
    name: str, properties: dict[str, Any], segments_name: str, segments: dict[str, Any]
) -> None:
    """Kind, products and all that is read of the properties; the name stays the producer's."""
    ours, theirs = event(segments_name, segments), event(name, properties)
    read = ("order_id", "total", "list_id", "query", "promotion_id", "position", "coupon")

    assert name == theirs.name
    assert ours.kind is theirs.kind
    assert ours.items == theirs.items
    asked = [field for field in read if field != "position" or "products" not in segments]
    assert [getattr(ours.properties, field) for field in asked] == [
        getattr(theirs.properties, field) for field in asked
    ]


@pytest.mark.parametrize(
    ("fields", "kind", "is_cart"),
    [
        ({}, EventKind.CART_ADD, True),
        ({"action": "replace"}, EventKind.CART_ADD, True),
        ({"action": "add"}, EventKind.CART_ADD, False),
        ({"action": "remove"}, EventKind.CART_REMOVE, False),
        ({"products": []}, EventKind.CART_REMOVE, True),
        ({"action": "replace", "products": []}, EventKind.CART_REMOVE, True),
    ],
)
def test_brazes_cart_is_a_whole_unless_it_says_what_was_done(
    fields: dict[str, Any], kind: EventKind, *, is_cart: bool
) -> None:
    """An empty one was emptied."""
    told = event("ecommerce.cart_updated", {"cart_id": "k", "products": [BRAZE_PRODUCT]} | fields)
    assert (kind, is_cart) == (told.kind, told.is_cart)


def test_every_alias_is_of_a_known_kind() -> None:
    """And a campaign that names an event means what it is called elsewhere, too."""
    fields = {"campaign_id": "c", "version": 1, "kind": "event", "message_class": "marketing"}
    campaign = msgspec.convert(fields | {"when": {"events": ["Order Completed"]}}, Campaign)
    names = rule_of(campaign).arming.names_of(EventKind.ORDER)

    assert {EVENT_NAMES[alias] for alias in ALIASES} == {EVENT_NAMES[name] for name in ALIASES.values()}
    assert {"Order Completed", "Completed Order", "purchase", "ecommerce.order_placed"} == set(names or ())


def test_what_cannot_be_read_says_where() -> None:
    """A product event without a product, and a property of the wrong type."""
    nothing, wrong = decode(raw("view_item", {})), decode(raw("add_to_cart", {"items": [{"item_id": []}]}))

    assert isinstance(nothing, Rejected)
    assert isinstance(wrong, Rejected)
    assert (RejectCode.MISSING_PRODUCT, RejectCode.BAD_SHAPE) == (nothing.code, wrong.code)
    assert "$.properties.items[0].item_id" == wrong.path


def test_a_purchase_of_either_vocabulary_ends_a_cart_of_the_other() -> None:
    """GA4's cart, Braze's order; the other user's cart stays."""
    stream = Driver(campaigns=[cart_campaign()], consent="allow")
    for user, at in (("u1", "00:00"), ("u2", "00:01")):
        cart = ENVELOPE | {"messageId": f"m-{user}", "userId": user, "timestamp": f"2026-01-01T{at}:00Z"}
        stream.pipe(json.dumps(cart | {"event": "add_to_cart", "properties": {"items": [GA4_ITEM]}}).encode())
    order = {"event": "ecommerce.order_placed", "properties": {"products": [BRAZE_PRODUCT]}}
    stream.pipe(json.dumps(ENVELOPE | order | {"timestamp": "2026-01-01T00:05:00Z"}).encode())
    stream.advance(86_400.0)

    assert ["u2"] == [trigger.recipient.user_id for trigger in stream.take("triggers")]


CLOUD = {
    "specversion": "1.0",
    "id": "c1",
    "source": "/shop",
    "type": "com.example.track",
    "time": "2026-01-02T00:00:00Z",
    "datacontenttype": "application/json",
}


def cloud(**fields: Any) -> bytes:
    """A CloudEvent in structured mode."""
    return json.dumps(CLOUD | fields).encode()


def test_a_cloud_event_holds_an_event() -> None:
    """As JSON or as base64, in any vocabulary; its id and time count where the event has none."""
    inner = ENVELOPE | {"event": "view_item", "properties": {"items": [GA4_ITEM]}}
    bare = {key: value for key, value in inner.items() if key not in {"messageId", "timestamp"}}
    packed = base64.b64encode(json.dumps(inner).encode()).decode()
    plain = decode(json.dumps(inner).encode())
    named = decode(cloud(data=bare))

    assert isinstance(plain, Event)
    assert isinstance(named, Event)
    assert plain == decode(cloud(data=inner)) == decode(cloud(data_base64=packed))
    assert ("c1", plain.time + 86_400.0) == (named.message_id, named.time)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"data": {"event": "Cart Viewed"}}, RejectCode.MISSING_USER),
        ({}, RejectCode.MISSING_USER),
        ({"data": [1]}, RejectCode.BAD_SHAPE),
        ({"specversion": "0.3", "data": {}}, RejectCode.BAD_SHAPE),
        ({"data_base64": "!"}, RejectCode.NOT_JSON),
        ({"data_base64": "e30x"}, RejectCode.NOT_JSON),
        ({"data_base64": base64.b64encode(b'{"a":' * 9 + b"1" + b"}" * 9).decode()}, RejectCode.TOO_DEEP),
    ],
)
def test_a_cloud_event_without_an_event_is_rejected(fields: dict[str, Any], code: RejectCode) -> None:
    """With the code that its content would have."""
    found = decode(cloud(**fields))

    assert isinstance(found, Rejected), found
    assert code is found.code
