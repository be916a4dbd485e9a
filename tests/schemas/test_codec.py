from __future__ import annotations

import math

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import EncodeError, Rejected, decode, encode, headers_of, parse_time, rfc3339
from schemas.events import EVENT_NAMES, Event
from schemas.outputs import Cause, Decision, Recipient, Trigger, TriggerDecision
from schemas.reasons import EventKind, RejectCode
from tests.hostile import GOOD, HOSTILE, _line

CLEANED_LATER = {"future", "late", "outlier", "accepted", "unknown"}


@pytest.mark.parametrize(("raw", "fate"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_lines_get_their_code(raw: bytes, fate: str) -> None:
    """Each hostile line ends with its own code, or decodes for a later stage to judge."""
    result = decode(raw)

    if fate in CLEANED_LATER:
        assert isinstance(result, Event)
    else:
        assert isinstance(result, Rejected)
        assert result.code == fate


def test_every_wire_code_has_a_hostile_line() -> None:
    """The closed set of reject codes and the list of hostile lines cover one another."""
    later = {RejectCode.DUPLICATE, RejectCode.BOT_RATE, RejectCode.POISON}

    assert {case[2] for case in HOSTILE} - {"accepted", "unknown"} == {
        code.value for code in RejectCode if code not in later
    }


def test_good_line_decodes_to_a_flat_event() -> None:
    """Envelope and properties arrive where the engine reads them."""
    event = decode(GOOD)

    assert isinstance(event, Event)
    assert ("h-0", "u-hostile", True, 1511571600.0) == (
        event.message_id,
        event.user,
        event.known,
        event.time,
    )
    assert (EventKind.VIEW, "p1", 3.5) == (event.kind, event.item_id, event.items[0].price)


def test_anonymous_user_and_numeric_ids() -> None:
    """Without a userId the anonymousId is the user; numeric ids become text."""
    raw = orjson.dumps(
        {
            "messageId": "m",
            "anonymousId": 17,
            "timestamp": "2017-11-25T01:00:00+01:00",
            "event": "Order Completed",
            "properties": {"products": [{"product_id": 5}, {"sku": "s"}, {"name": "no id"}]},
        }
    )
    event = decode(raw)

    assert isinstance(event, Event)
    assert ("17", False, 1511568000.0) == (event.user, event.known, event.time)
    assert ["5", "s"] == [item.product_id for item in event.items]


def test_time_is_corrected_by_segments_formula() -> None:
    """Timestamp = receivedAt - (sentAt - originalTimestamp), where timestamp is missing."""
    raw = orjson.dumps(
        {
            "messageId": "m",
            "userId": "u",
            "event": "Cart Viewed",
            "originalTimestamp": "2030-01-01T00:00:00Z",
            "sentAt": "2030-01-01T00:00:10Z",
            "receivedAt": "2026-01-01T00:00:10Z",
        }
    )
    event = decode(raw)

    assert isinstance(event, Event)
    assert parse_time("2026-01-01") == event.time


def test_decision_id_comes_back_by_property_or_utm_content() -> None:
    """properties.decision_id wins over context.campaign.content."""
    base = {"messageId": "m", "userId": "u", "timestamp": "2026-01-01T00:00:00Z", "event": "Cart Viewed"}
    by_utm = decode(orjson.dumps(base | {"context": {"campaign": {"content": "d1"}}}))
    by_both = decode(
        orjson.dumps(base | {"context": {"campaign": {"content": "d1"}}, "properties": {"decision_id": "d2"}})
    )

    assert ("d1", "d2") == (by_utm.decision_id, by_both.decision_id)  # type: ignore[union-attr]


def test_every_event_name_decodes_to_its_kind() -> None:
    """The table of names is what decode uses; Segment v1 names are aliases."""
    for name, kind in EVENT_NAMES.items():
        raw = orjson.dumps(
            {
                "messageId": "m",
                "userId": "u",
                "timestamp": "2026-01-01T00:00:00Z",
                "event": name,
                "properties": {"product_id": "p"},
            }
        )

        assert kind is decode(raw).kind  # type: ignore[union-attr]


@given(st.binary(max_size=300))
def test_decode_is_total_on_bytes(raw: bytes) -> None:
    """No bytes make decode raise."""
    assert isinstance(decode(raw), Event | Rejected)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["messageId", "userId", "anonymousId", "timestamp", "event", "properties", "context", "type", "sentAt"]
)


@given(st.dictionaries(FIELDS, JSON, max_size=9))
def test_decode_is_total_on_envelopes(envelope: dict[str, object]) -> None:
    """No values in the envelope make decode raise."""
    assert isinstance(decode(msgspec.json.encode(envelope)), Event | Rejected)


def _trigger(propensity: float = 1.0) -> Trigger:
    return Trigger(
        id="t",
        campaign_id="c",
        campaign_version="1",
        message_class="marketing",
        channel="email",
        recipient=Recipient(user_id="u"),
        context={"product_id": "p"},
        send_at="2026-01-01T00:00:00.000Z",
        expires_at="2026-01-02T00:00:00.000Z",
        time_zone="UTC",
        decision=TriggerDecision("d", "rules", propensity, explored=False),
        cause=Cause("m", "Product Added", "2026-01-01T00:00:00.000Z"),
        dry_run=False,
    )


def test_encode_leaves_out_none_and_keeps_nested() -> None:
    """Fields that are None do not appear; nested records are objects."""
    body = orjson.loads(encode(_trigger()))

    assert "offer_id" not in body
    assert {"user_id": "u"} == body["recipient"]
    assert "model_version" not in body["decision"]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_encode_refuses_numbers_json_cannot_carry(number: float) -> None:
    """Orjson would write null; we raise."""
    with pytest.raises(EncodeError):
        encode(_trigger(propensity=number))


def test_cloud_events_headers() -> None:
    """Binary content mode: every attribute is a ce_ header of text."""
    headers = dict(headers_of(_trigger()))

    assert {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": b"t",
        "ce_source": b"nudge",
        "ce_type": b"nudge.trigger.v1",
        "ce_time": b"2026-01-01T00:00:00.000Z",
        "ce_subject": b"u",
    } == headers


def test_decision_header_names_its_decision() -> None:
    """A decision's ce_id is its decision id."""
    decision = Decision(
        "d", "offer", "u", "nothing", 0.5, "thompson", Cause("m", "e", "t"), "2026-01-01T00:00:00.000Z", []
    )

    assert b"d" == dict(headers_of(decision))["ce_id"]


@given(st.integers(min_value=0, max_value=4_000_000_000_000))
def test_times_round_trip(milliseconds: int) -> None:
    """rfc3339 and parse_time are inverse to the millisecond."""
    assert milliseconds == round(parse_time(rfc3339(milliseconds / 1000)) * 1000)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
@pytest.mark.parametrize("name", ["Order Completed", "Unsubscribed", "Product Viewed"])
def test_times_at_the_edge_of_the_calendar_can_be_written(text: str, name: str) -> None:
    """What a producer sends for no time is far away, but a time: a year either way can be written."""
    event = decode(
        orjson.dumps(
            {"messageId": "m", "userId": "u", "timestamp": text, "event": name, "properties": {"sku": "p"}}
        )
    )

    assert isinstance(event, Event)
    assert rfc3339(event.time - 400 * 86_400.0) < rfc3339(event.time + 400 * 86_400.0)


@pytest.mark.parametrize(
    "properties",
    ['{"value":"high"}', '{"position":[0,10]}', '{"channel":5,"name":{}}', '{"products":"p"}', "[]"],
)
@pytest.mark.parametrize("name", [{"event": '"Form Submitted"'}, {"type": '"page"', "event": ""}])
def test_of_an_unknown_event_no_property_is_wrong(name: dict[str, str], properties: str) -> None:
    """It changes nothing, so nothing of it need be read; what it answers counts."""
    answer = '{"consent":{"categoryPreferences":{"email":false}}}'
    found = decode(_line(**name, properties=properties, context=answer))

    assert isinstance(found, Event)
    assert (EventKind.UNKNOWN, {"email": False}, None) == (found.kind, found.purposes, found.fault)


def test_an_unknown_event_has_a_time_all_the_same() -> None:
    """What is wrong with its envelope is no matter of its properties."""
    found = decode(_line(event='"Form Submitted"', timestamp='"noon"'))

    assert isinstance(found, Rejected)
    assert RejectCode.BAD_TIME == found.code


@pytest.mark.parametrize(
    ("name", "properties"),
    [
        ("Product Viewed", '{"product_id":"p","products":null,"purposes":null}'),
        ("view_item", '{"product_id":"p","items":null}'),
        ("ecommerce.product_viewed", '{"product_id":"p","products":null}'),
        ("Viewed Product", '{"product_id":"p","products":null}'),
        ("Order Completed", '{"products":null}'),
    ],
)
def test_null_is_absent(name: str, properties: str) -> None:
    """Many producers write what they do not have so."""
    context = '{"timezone":null,"campaign":null,"consent":{"categoryPreferences":null}}'
    found = decode(_line(type="null", event=f'"{name}"', properties=properties, context=context))

    assert isinstance(found, Event)
    assert (None, {}, name == "Order Completed") == (found.fault, found.purposes, not found.items)
