"""What must count counts although its record is faulty, and nothing else does."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Rejected, decode
from schemas.events import Event
from schemas.mending import MAX_MENDED_BYTES
from schemas.reasons import ALWAYS_APPLIED, EventKind
from stream.core.records import Record
from stream.testing import EPOCH, Driver, cart_campaign, event

ENVELOPE: dict[str, Any] = {"messageId": "m", "userId": "u", "timestamp": "2026-01-01T00:00:00Z"}
NO_PRICE = {"product_id": "a", "price": "none"}


def record(name: Any, properties: Any, **envelope: Any) -> bytes:
    """A record; what is None in the envelope is left out."""
    fields = ENVELOPE | {"event": name, "properties": properties} | envelope
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()


def faulty(raw: bytes, code: str) -> Event:
    """The event of a faulty record that counts all the same."""
    found = decode(raw)
    assert isinstance(found, Event), found
    assert found.fault is not None
    assert (code, found.kind in ALWAYS_APPLIED) == (found.fault.code.value, True)
    return found


def order(**fields: Any) -> dict[str, Any]:
    """Properties of an order of one product."""
    return {"order_id": "o", "products": [{"product_id": "a"}]} | fields


@pytest.mark.parametrize(
    ("code", "raw"),
    [
        ("bad_shape", record("Order Completed", order(total="27.50 EUR"))),
        ("out_of_range", record("Order Completed", order(x=1e308))),
        ("out_of_range", record("Order Completed", order(x=2**64))),
        ("too_deep", record("Order Completed", order(x=[[[[[[[[[1]]]]]]]]]))),
        ("too_many_keys", record("Order Completed", order(x={str(n): n for n in range(100)}))),
        ("too_large", record("Order Completed", order(x="x" * 70_000))),
        ("bad_id", record("Order Completed", order(), messageId="m" * 129)),
        ("missing_message_id", record("Order Completed", order(), messageId=None)),
        ("missing_time", record("Order Completed", order(), timestamp=None)),
        ("bad_time", record("Order Completed", order(), timestamp="noon")),
        ("not_json", record("Order Completed", order(total=float("nan")))),
        ("not_json", record("Order Completed", order(x="?")).replace(b"?", b"\\ud800")),
        ("bad_utf8", record("Order Completed", order(x="?")).replace(b"?", b"\xe9")),
        ("bad_shape", b"\x00\x00\x00\x00\x07" + record("Order Completed", order(total=[]))),
        ("bad_shape", record("purchase", {"value": "x", "items": [{"item_id": "a", "price": "x"}]})),
        ("bad_shape", record("ecommerce.order_placed", {"total_value": "x", "products": [NO_PRICE]})),
        ("bad_shape", record("Completed Order", order(total={}))),
        ("bad_shape", record("Order Completed", order(), context=[])),
        ("bad_shape", record("Order Completed", order(), context={"timezone": 1, "campaign": "x"})),
    ],
)
def test_a_purchase_counts_whatever_else_its_record_holds(code: str, raw: bytes) -> None:
    """Its user and its product are there."""
    found = faulty(raw, code)

    assert ("u", True, EventKind.ORDER) == (found.user, found.known, found.kind)
    assert ["a"] == [item.product_id for item in found.items]


def test_the_envelope_is_read_as_always() -> None:
    """An empty user id is none, the time of the device counts, and what stands around an event does not."""
    anonymous = faulty(record("Order Completed", order(total="?"), userId="", anonymousId="a"), "bad_shape")
    own = {"timestamp": None, "originalTimestamp": "2025-12-31T00:00:00Z"}
    earlier = faulty(record("Order Completed", order(total="?"), **own), "bad_shape")
    around = {"specversion": "1.0", "id": "c", "data": {"userId": "x"}}
    own_id = faulty(record("Order Completed", order(total="?"), **around), "bad_shape")

    assert ("a", False) == (anonymous.user, anonymous.known)
    assert 1_767_139_200.0 == earlier.time
    assert ("u", "m") == (own_id.user, own_id.message_id)


def test_what_is_called_otherwise_is_no_order() -> None:
    """Whatever its fields say."""
    found = decode(record("Order Completed", order(total="?"), type="identify"))

    assert isinstance(found, Event)
    assert (EventKind.UNKNOWN, None) == (found.kind, found.fault)


def test_an_id_that_is_no_text_names_nobody() -> None:
    """A byte that is lost may be the one that tells two products apart; an escaped pair is not lost."""
    raw = record("Order Completed", {"products": [{"product_id": "a?"}]})
    pair = record("Order Completed", {"products": [{"product_id": "\U0001f6d2"}], "x": "?"})

    assert faulty(raw.replace(b"?", b"\xe9"), "bad_utf8").unnamed
    assert "\U0001f6d2" == faulty(pair.replace(b"?", b"\\ud800"), "not_json").item_id
    assert isinstance(decode(record("Order Completed", {}, userId="u?").replace(b"?", b"\xe9")), Rejected)


def test_numbers_and_times_in_text_are_read() -> None:
    """As many shops write them."""
    found = faulty(
        record(
            "Order Completed",
            order(
                total="27.50", currency="EUR", products=[{"product_id": "a", "price": "9.5", "quantity": "2"}]
            ),
            timestamp=1_767_225_600,
        ),
        "bad_time",
    )

    assert (27.5, 1_767_225_600.0) == (found.properties.total, found.time)
    assert [("a", 9.5, 2.0)] == [(item.product_id, item.price, item.quantity) for item in found.items]


@pytest.mark.parametrize(
    "products",
    [
        "a",
        {"product_id": "a"},
        [{"product_id": "a"}, "b"],
        [{"product_id": "a"}, {"product_id": ["b"]}],
        [{"product_id": "a"}, {"product_id": "b" * 129}],
        [{"product_id": "a"}, {"name": "b", "price": "?"}],
        [{"product_id": f"p{n}", "price": "?"} for n in range(2049)],
    ],
)
def test_what_cannot_be_named_may_be_any(products: Any) -> None:
    """What lists it, or nothing at all, ends every reminder; what is named besides is bought."""
    code = "too_large" if len(products) > 1000 else "bad_shape"
    found = faulty(record("Order Completed", order(products=products, total="?")), code)

    assert found.unnamed or not found.items
    assert {"a"} >= {item.product_id for item in found.items}


@pytest.mark.parametrize(
    ("name", "properties", "items"),
    [
        ("Order Completed", {"products": [{"product_id": "a"}, {"id": "b", "name": "mug"}]}, ["a"]),
        ("purchase", {"items": [{"item_id": "a"}, {"item_name": "mug"}]}, ["a"]),
        ("ecommerce.order_placed", {"products": [{"product_id": "a"}, {"variant_id": "b"}]}, ["a"]),
    ],
)
def test_a_sound_order_may_list_what_has_no_id(name: str, properties: Any, items: list[str]) -> None:
    """That is no fault, and it may be anything all the same."""
    found = decode(record(name, properties))

    assert isinstance(found, Event)
    assert (None, True, items) == (found.fault, found.unnamed, [item.product_id for item in found.items])


ODD_ANSWERS = {"email": "false", "sms": "yes", "push": "true", "post": 1, "fax": None}
MANY_ANSWERS = {f"p{n}": n % 2 == 0 for n in range(100)}


@pytest.mark.parametrize(
    ("purposes", "answers"),
    [
        (ODD_ANSWERS, {"email": False, "sms": False, "push": True, "post": True}),
        (["email"], {"*": False}),
        ("none", {"*": False}),
        (MANY_ANSWERS, {f"p{n}": n % 2 == 0 for n in (*range(1, 100, 2), *range(0, 28, 2))}),
    ],
)
def test_an_answer_that_cannot_be_read_is_a_refusal(purposes: Any, answers: dict[str, bool]) -> None:
    """Of everything, where not even the question can be read; of too many answers the refusals stay."""
    code = "too_many_keys" if len(purposes) > 64 else "bad_shape"
    consent = faulty(record("Consent Changed", {"purposes": purposes}), code)
    context = {"consent": {"categoryPreferences": purposes}}
    assert answers == consent.purposes
    for name in ("Product Viewed", ["Product Viewed"], None):
        heard = decode(record(name, NO_PRICE, context=context))
        assert isinstance(heard, Rejected)
        assert heard.heard is not None
        assert (answers, "u") == (heard.heard.purposes, heard.heard.user)


@pytest.mark.parametrize("purpose", ["contact", "Contact"])
@pytest.mark.parametrize("refused_in", ["properties", "context"])
def test_of_two_answers_in_one_record_the_refusal_stands(purpose: str, refused_in: str) -> None:
    """Wherever it stands, and however it is written."""
    answers = {"contact": refused_in != "properties"}, {purpose: refused_in != "context", "email": True}
    found = decode(
        record(
            "Consent Changed",
            {"purposes": answers[0]},
            context={"consent": {"categoryPreferences": answers[1]}},
        )
    )

    assert isinstance(found, Event)
    assert {"contact": False, "email": True} == found.purposes


@pytest.mark.parametrize(
    ("properties", "channel"),
    [({"channel": "sms", "price": "?"}, "sms"), ({"channel": ["sms"]}, "*"), ([], None)],
)
def test_who_leaves_has_left(properties: Any, channel: str | None) -> None:
    """From every channel, where it cannot be read from which."""
    assert channel == faulty(record("Unsubscribed", properties), "bad_shape").properties.channel


def test_a_cloud_event_around_it_changes_nothing() -> None:
    """Its id and time count, in either form of the data."""
    inner = {"userId": "u", "event": "Order Completed", "properties": order(total="?")}
    outer = {"specversion": "1.0", "id": "c1", "time": "2026-01-01T00:00:00Z"}
    encoded = base64.b64encode(json.dumps(inner).encode()).decode()
    for data in ({"data": inner}, {"data_base64": encoded}):
        found = faulty(json.dumps(outer | data).encode(), "bad_shape")
        assert ("c1", 1_767_225_600.0, "a") == (found.message_id, found.time, found.item_id)
    for field in ("timestamp", "originalTimestamp"):
        own_time = outer | {"data": inner | {field: "2025-12-31T00:00:00Z"}}
        assert 1_767_139_200.0 == faulty(json.dumps(own_time).encode(), "bad_shape").time


@pytest.mark.parametrize(
    "raw",
    [
        record("Order Completed", order(), userId=None),
        record("Order Completed", order(), userId="u" * 129),
        record("Order Completed", order(), userId={"id": "u"}, anonymousId="a"),
        record("Order Completed", order(), userId=True),
        record("Order Completed", order())[:-20],
        b"[" + record("Order Completed", order()) + b"]",
        record("Order Completed", order(x="x" * MAX_MENDED_BYTES)),
        record("Product Added", NO_PRICE),
        record("Product Added", NO_PRICE, context={"consent": {"categoryPreferences": {}}}),
        record("", order(total="?")),
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
    ],
)
def test_the_rest_is_rejected_as_it_was(raw: bytes) -> None:
    """Nobody is named, nothing can be read, or it says nothing that must count."""
    found = decode(raw)

    assert isinstance(found, Rejected)
    assert found.heard is None


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["u", "1", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = (
    "messageId",
    "userId",
    "anonymousId",
    "timestamp",
    "sentAt",
    "type",
    "context",
    "specversion",
    "data",
)
_PROPERTIES = ("products", "items", "purposes", "channel", "total", "currency", "order_id", "price", "coupon")


@given(
    name=st.sampled_from(
        ["Order Completed", "Consent Changed", "Unsubscribed", "refund", "ecommerce.order_cancelled"]
    ),
    envelope=st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=3),
    properties=st.dictionaries(st.sampled_from(_PROPERTIES), _JSON, max_size=4),
)
def test_nothing_breaks_it_and_what_it_holds_can_be_written(
    name: str, envelope: dict[str, Any], properties: dict[str, Any]
) -> None:
    """Whatever stands in the fields: an event or a rejection, and neither has text that no row takes."""
    found = decode(json.dumps(ENVELOPE | {"event": name, "properties": properties} | envelope).encode())

    assert msgspec.msgpack.encode(found)


_EXTREMES = (
    *("1" + "0" * 400, "-1" + "0" * 30, "1e309", "1.5e-400", "9223372036854775808", "18446744073709551616"),
    *("253402300800", "-62135596801", "1e18", "true", "[]", "{}", "null", "NaN", "-Infinity"),
    *(
        '"9999999999999999999"',
        '"1e999"',
        '"-"',
        '""',
        '"1e18"',
        '"0x10"',
        '"  5 "',
        '"\\u0000"',
        '"\\udfff"',
    ),
)
_ENVELOPE_FIELDS = (*_FIELDS, "originalTimestamp", "sentAt", "receivedAt", "data_base64", "properties")


@pytest.mark.parametrize("value", _EXTREMES)
def test_no_extreme_raises(value: str) -> None:
    """Wherever it stands: Python, and what reads JSON for it, have limits of their own."""
    for field in _ENVELOPE_FIELDS:
        fields = {key: json.dumps(given) for key, given in ENVELOPE.items()}
        fields |= {"event": '"Order Completed"', "properties": '{"total":"?"}'} | {field: value}
        raw = "{" + ",".join(f'"{key}":{given}' for key, given in fields.items()) + "}"
        assert msgspec.msgpack.encode(decode(raw.encode()))
    for field in (*_PROPERTIES, "price", "quantity", "rating", "position"):
        raw = record("Order Completed", {"x": "?"}).decode().replace('"x": "?"', f'"{field}": {value}')
        assert msgspec.msgpack.encode(decode(raw.encode()))


def test_a_buyer_is_not_reminded_and_a_refusal_stands() -> None:
    """In the engine: the cart's reminder ends, a no is heard, nothing is armed, and all of it is counted."""
    stream = Driver(campaigns=[cart_campaign()], consent="allow")
    for user in ("buyer", "bought again", "refuses", "leaves", "waits"):
        stream.pipe(event("Product Added", user=user, at=0, product_id="a"))
    bought = ENVELOPE | {"event": "Order Completed", "timestamp": "noon"}
    stream.pipe(
        json.dumps(bought | {"userId": "buyer", "properties": order(total="?")}).encode(),
        json.dumps(bought | {"userId": "bought again", "messageId": 7, "properties": "?"}).encode(),
        record("Product Viewed", NO_PRICE, userId="refuses", timestamp="?", context={"consent": "no"}),
        record("Unsubscribed", {"channel": 1}, userId="leaves", timestamp=None),
        ingest_time=EPOCH + 60,
    )
    stream.advance(7200.0)
    told = [trigger.recipient.user_id for trigger in stream.take("triggers")]

    assert ["waits"] == told
    assert {"*": EPOCH + 60} == stream.engine.state.profile("refuses").answered_at
    assert ({"bad_time": 1, "bad_shape": 2}, 1) == (
        {key[1]: n for key, n in stream.counts.items() if key[0] == "faulty"},
        stream.counts["rejected", "bad_time"] + stream.counts["rejected", "bad_shape"],
    )


def test_a_faulty_order_moves_no_time_and_is_applied_once() -> None:
    """It is a duplicate when it comes again, with or without an id of its own."""
    stream = Driver(consent="allow")
    stream.pipe(event("Product Viewed", user="u", at=0, product_id="a"))
    ahead = record("Order Completed", order(total="?"), messageId=None, timestamp="2026-01-01T05:00:00Z")
    for offset in range(2):
        stream.engine.process([Record(ahead, EPOCH + 10**9, offset)])

    assert EPOCH == stream.engine.state.header.watermark
    assert 1 == stream.engine.state.profile("u").n_orders
