"""Bytes to events, outputs to bytes. With ``schemas.mending``, for what is faulty, all that knows JSON.

:func:`decode` is total: for any bytes it returns an :class:`~schemas.events.Event` or a :class:`Rejected`,
it never raises. msgspec decodes and validates, orjson encodes.
"""

from __future__ import annotations

import base64
import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

import msgspec
import orjson
from msgspec import Struct

from schemas.aliases import TRANSLATED
from schemas.events import EVENT_NAMES, MAX_NUMBER, Event, Product, Properties, Rejected, Track
from schemas.ids import MAX_ID_LENGTH, is_good_id
from schemas.mending import read_what_can_be
from schemas.outputs import DeadLetter, Decision, Membership, Recommendation, Trigger
from schemas.reasons import ALWAYS_APPLIED, EventKind, RejectCode
from schemas.translation import translated

__all__ = [
    "MAX_DEPTH",
    "MAX_ID_LENGTH",
    "MAX_KEYS",
    "MAX_RECORD_BYTES",
    "UNREADABLE",
    "Rejected",
    "decode",
    "encode",
    "epoch_seconds",
    "headers_of",
    "parse_time",
    "rfc3339",
]

MAX_RECORD_BYTES = 65_536
MAX_DEPTH = 8
MAX_KEYS = 64
EARLIEST, LATEST = 0.0, 32_503_680_000.0  # 1970 and 3000: nobody's events, but calendars reach beyond them

_TRACK = msgspec.json.Decoder(Track)
_NO_PROPERTIES = Properties()
_PRODUCT_KINDS = frozenset(
    {
        EventKind.VIEW,
        EventKind.CLICK,
        EventKind.CART_ADD,
        EventKind.CART_REMOVE,
        EventKind.WISH_ADD,
        EventKind.WISH_REMOVE,
        EventKind.REVIEW,
    }
)
_DIGITS = bytes.maketrans(b"123456789+ED", b"0000000000ed")
# May hide a huge number or half a surrogate pair; looked for among digits that are all 0.
_SUSPICIOUS = (b"0000000000000", b"0e0", b"\\ud")
# What a decoder raises on bytes that are no JSON, no UTF-8, or nested beyond its stack.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ENCODER = msgspec.json.Encoder()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_PATHS = frozenset({"$.timestamp", "$.originalTimestamp", "$.sentAt", "$.receivedAt"})
_CONFLUENT_PREFIX = {0: 5, 1: 17}  # magic byte -> bytes of the schema registry's prefix
_OUTPUT_TYPES = {
    Recommendation: ("nudge.recommendation.v1", "id", "user_id", "produced_at"),
    Trigger: ("nudge.trigger.v1", "id", "", "send_at"),
    Decision: ("nudge.decision.v1", "decision_id", "user_id", "decided_at"),
    Membership: ("nudge.segment.v1", "id", "user_id", "changed_at"),
}


class _CloudEvent(Struct, frozen=True):
    """CloudEvents 1.0, JSON format; attributes that say nothing about the event itself are not read."""

    specversion: Literal["1.0"]
    id: str | None = None
    time: datetime | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")
    data_base64: str | None = None


_ANSWER = "Consent Changed"  # what is left of an event of which nothing else counts
_CLOUD = b'"specversion"'
_CLOUD_EVENT = msgspec.json.Decoder(_CloudEvent)


class EncodeError(ValueError):
    """An output holds a number that JSON cannot carry (NaN or an infinity)."""


def decode(raw: bytes) -> Event | Rejected:
    """Turn one record's value into an event, or say why not.

    What must count counts although its record is faulty: orders, refunds, cancellations, consent and
    unsubscribe are events with a ``fault``, as far as they can be read, and a rejection has the answers to
    questions of consent that came with it.

    >>> decode(b'{"messageId":"m","userId":"u","timestamp":"noon","event":"Cart Viewed"}').path
    '$.timestamp'
    >>> order = decode(b'{"messageId":"m","userId":"u","timestamp":"noon","event":"Order Completed"}')
    >>> order.kind.value, order.fault.code.value
    ('order', 'bad_time')
    """
    found = _decoded(raw)
    return _mended(raw, found) if isinstance(found, Rejected) else found


def _decoded(raw: bytes) -> Event | Rejected:
    if raw[:1] and raw[0] in _CONFLUENT_PREFIX:
        raw = raw[_CONFLUENT_PREFIX[raw[0]] :]
    if len(raw) > MAX_RECORD_BYTES:
        return Rejected(RejectCode.TOO_LARGE, "$", f"record of {len(raw)} bytes; limit {MAX_RECORD_BYTES}")
    try:
        track = _TRACK.decode(raw)
    except msgspec.ValidationError as error:
        return _invalid(raw, str(error))
    except UNREADABLE as error:
        return _unreadable(raw, str(error))
    if _needs_walk(raw) and (over := _over_limits(raw)):
        return over

    if not track.messageId and _CLOUD in raw:
        found = _unwrapped(raw)
        if isinstance(found, Rejected):
            return found
        track, raw = found
    return _event(track, raw)


def _event(  # noqa: C901, PLR0911, PLR0912  one guard clause per reject code
    track: Track, raw: bytes, given: dict[str, Any] | None = None
) -> Event | Rejected:
    """Make an event of an envelope; ``given`` are its properties where they cannot be read whole."""
    if not (message_id := track.messageId):
        return Rejected(RejectCode.MISSING_MESSAGE_ID, "$.messageId", "messageId is required")
    if not is_good_id(message_id):
        return _bad_id("$.messageId")
    known = track.userId is not None and track.userId != ""
    user = _text(track.userId if known else track.anonymousId)
    if not user:
        return Rejected(RejectCode.MISSING_USER, "$.userId", "userId or anonymousId is required")
    if not is_good_id(user):
        return _bad_id("$.userId" if known else "$.anonymousId")
    name = track.event if track.type in {"track", None} else track.type
    if not name:
        return Rejected(RejectCode.MISSING_EVENT, "$.event", "event is required")
    if len(name) > MAX_ID_LENGTH:
        return Rejected(RejectCode.BAD_ID, "$.event", f"longer than {MAX_ID_LENGTH} characters")
    if (time := _event_time(track)) is None:
        return Rejected(RejectCode.MISSING_TIME, "$.timestamp", "timestamp is required")

    time = min(max(time, EARLIEST), LATEST)

    kind = EVENT_NAMES.get(name, EventKind.UNKNOWN)
    properties = track.properties or _NO_PROPERTIES
    is_cart = False
    if name in TRANSLATED:
        try:
            meant, properties, is_cart = translated(name, properties, raw if given is None else given)
        except msgspec.ValidationError as error:
            return _invalid(raw, str(error))
        kind = EVENT_NAMES[meant]
    items: tuple[Product, ...] = ()
    unnamed = False
    if kind in _PRODUCT_KINDS and not (name in TRANSLATED and properties.products) and not is_cart:
        product = _product(properties)
        if product is None:
            return Rejected(
                RejectCode.MISSING_PRODUCT, "$.properties.product_id", f"{name} needs a product_id or sku"
            )
        items = (product,)
    elif properties.products:
        items = tuple(p for p in map(_product, properties.products) if p is not None)
        unnamed = len(items) < len(properties.products)
    elif kind is EventKind.REQUEST and (page := _product(properties)) is not None:
        items = (page,)  # the item of the page that asks
    for item in items:
        if not is_good_id(item.product_id):  # type: ignore[arg-type]  # _product made it text
            return _bad_id("$.properties.product_id")
    context = track.context
    decision_id, time_zone, purposes = properties.decision_id, None, properties.purposes or {}
    if context is not None:
        time_zone = context.timezone
        if decision_id is None and context.campaign is not None:
            decision_id = context.campaign.content
        if context.consent is not None:
            purposes = _together(context.consent.categoryPreferences or {}, purposes)
    return Event(
        message_id=message_id,
        user=user,
        known=known,
        time=time,
        name=name,
        kind=kind,
        properties=properties,
        items=items,
        unnamed=unnamed,
        is_cart=is_cart,
        decision_id=decision_id if decision_id and is_good_id(decision_id) else None,
        time_zone=time_zone if time_zone and len(time_zone) <= MAX_ID_LENGTH else None,
        purposes=purposes,
    )


def _together(one: dict[str, bool], other: dict[str, bool]) -> dict[str, bool]:
    """Answers from two places of a record; where both speak, a refusal stands."""
    answers: dict[str, bool] = {}
    for name, given in (*one.items(), *other.items()):
        answers[name.casefold()] = given and answers.get(name.casefold(), True)
    return answers


def _mended(raw: bytes, fault: Rejected) -> Event | Rejected:
    """Return what counts of a faulty record: an event, or a rejection with answers, or the fault itself."""
    if raw[:1] and raw[0] in _CONFLUENT_PREFIX:
        raw = raw[_CONFLUENT_PREFIX[raw[0]] :]
    mended = read_what_can_be(raw)
    if mended is None:
        return fault
    track = mended.track
    name = track.event if track.type == "track" else track.type
    if name and name not in EVENT_NAMES and fault.path.startswith("$.properties"):
        unknown = _event(track, raw)  # nothing is read of its properties but answers
        return fault if isinstance(unknown, Rejected) else unknown
    if EVENT_NAMES.get(name or "") in ALWAYS_APPLIED:
        event = _event(track, raw, mended.properties)
        return fault if isinstance(event, Rejected) else msgspec.structs.replace(event, fault=fault)
    heard = _event(msgspec.structs.replace(track, type="track", event=_ANSWER), raw)
    if isinstance(heard, Rejected) or not heard.purposes:
        return fault
    return msgspec.structs.replace(fault, heard=heard)


def encode(output: Struct) -> bytes:
    """Write an output as JSON; fields that are ``None`` are left out.

    Raises
    ------
    EncodeError
        A float is not finite: orjson would silently write ``null``.
    """
    # All their other fields are text, or left out by the struct itself.
    if type(output) is Recommendation:
        if not math.isfinite(sum([item.score for item in output.items])):
            message = "a score of a recommendation is not finite; JSON has no such number"
            raise EncodeError(message)
        return _ENCODER.encode(output)
    if type(output) is Decision and math.isfinite(output.propensity):
        return _ENCODER.encode(output)
    try:
        return orjson.dumps(_as_dict(output), default=_as_dict)
    except orjson.JSONEncodeError as error:
        if isinstance(error.__cause__, EncodeError):
            raise error.__cause__ from None
        raise


def headers_of(
    output: Recommendation | Trigger | Decision | Membership, source: str = "nudge"
) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0 headers, Kafka protocol binding, binary content mode."""
    kind, id_field, subject_field, time_field = _OUTPUT_TYPES[type(output)]
    if isinstance(output, Trigger):
        subject = output.recipient.user_id or output.recipient.anonymous_id or ""
    else:
        subject = getattr(output, subject_field)
    return [
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", getattr(output, id_field).encode()),
        ("ce_source", source.encode()),
        ("ce_type", kind.encode()),
        ("ce_time", getattr(output, time_field).encode()),
        ("ce_subject", subject.encode()),
    ]


@lru_cache(maxsize=1024)  # what an event causes names its time again and again
def rfc3339(time: float) -> str:
    """Seconds since the epoch as RFC 3339 UTC with milliseconds.

    >>> rfc3339(1511544070.0)
    '2017-11-24T17:21:10.000Z'
    """
    minutes, milliseconds = divmod(round(time * 1000), 60_000)
    return f"{_minute(minutes)}{milliseconds // 1000:02d}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=4096)  # most of what is written is of the last few minutes, or a fixed time ahead of them
def _minute(minutes: int) -> str:
    days, minutes = divmod(minutes, 1440)
    date = (_EPOCH + timedelta(days=days)).date().isoformat()
    return f"{date}T{minutes // 60:02d}:{minutes % 60:02d}:"


def parse_time(text: str) -> float:
    """RFC 3339 text, or a date, as seconds since the epoch; without a zone it is UTC.

    >>> parse_time("2017-11-24")
    1511481600.0
    """
    return epoch_seconds(datetime.fromisoformat(text))


def _unwrapped(raw: bytes) -> tuple[Track, bytes] | Rejected:
    """Take an event out of a CloudEvent (structured content mode), with the bytes it stands in.

    Where the event has no ``messageId`` or time of its own, the CloudEvent's ``id`` and ``time`` count.
    """
    try:
        cloud = _CLOUD_EVENT.decode(raw)
        if cloud.data_base64 is None:
            data = bytes(cloud.data)
        else:
            data = base64.b64decode(cloud.data_base64, validate=True)
        track = _TRACK.decode(data)
    except msgspec.ValidationError as error:
        return _invalid(raw, str(error))
    except (ValueError, RecursionError) as error:
        return _unreadable(raw, str(error))
    if cloud.data_base64 is not None and (over := _over_limits(data)):
        return over
    return msgspec.structs.replace(
        track,
        messageId=track.messageId or cloud.id,
        timestamp=cloud.time if _event_time(track) is None else track.timestamp,
    ), data


def _as_dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, Struct):
        message = f"cannot encode {type(value).__name__}"
        raise TypeError(message)
    fields = {}
    for name in value.__struct_fields__:
        field = getattr(value, name)
        if field is None:
            continue
        if isinstance(field, float) and not math.isfinite(field):
            message = f"{type(value).__name__}.{name} is {field}; JSON has no such number"
            raise EncodeError(message)
        fields[name] = field
    return fields


def _text(value: str | int | None) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _bad_id(path: str) -> Rejected:
    return Rejected(RejectCode.BAD_ID, path, f"ids are 1 to {MAX_ID_LENGTH} printable characters")


def _product(source: Product | Properties) -> Product | None:
    """Bring a product to text ids; ``None`` where it has neither a product id nor a sku."""
    item_id = _text(source.product_id) or _text(source.sku)
    if not item_id:
        return None
    if type(source) is Product and source.product_id is item_id:
        return source
    return Product(
        product_id=item_id,
        sku=_text(source.sku),
        variant=source.variant,
        category=source.category,
        name=source.name,
        brand=source.brand,
        price=source.price,
        quantity=source.quantity,
        position=None if isinstance(source.position, str) else source.position,
    )


def epoch_seconds(moment: datetime) -> float:
    """Seconds since the epoch of a moment; one without a zone is in UTC, whatever the host's is."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _event_time(track: Track) -> float | None:
    """Segment's corrected time: ``timestamp``, else ``receivedAt - (sentAt - originalTimestamp)``."""
    if track.timestamp is not None:
        return epoch_seconds(track.timestamp)
    if track.originalTimestamp is None:
        return None
    if track.receivedAt is None or track.sentAt is None:
        return epoch_seconds(track.originalTimestamp)
    return epoch_seconds(track.receivedAt) - (
        epoch_seconds(track.sentAt) - epoch_seconds(track.originalTimestamp)
    )


def _invalid(raw: bytes, message: str) -> Rejected:
    """Well-formed JSON of the wrong shape: find the code from what msgspec says."""
    path = message.rpartition(" - at `")[2].rstrip("`") if " - at `" in message else "$"
    if path in _TIME_PATHS:
        return Rejected(RejectCode.BAD_TIME, path, message)
    if over := _over_limits(raw):
        return over
    if "<=" in message or ">=" in message or "out of range" in message.lower():
        return Rejected(RejectCode.OUT_OF_RANGE, path, message)
    return Rejected(RejectCode.BAD_SHAPE, path, message)


def _needs_walk(raw: bytes) -> bool:
    """Whether the record could break a limit in a part that the typed decoder skips.

    Most records are small and plain; for them this costs four scans and no second parse.
    """
    return (
        raw.count(b"{") + raw.count(b"[") > MAX_DEPTH
        or raw.count(b":") > MAX_KEYS
        or not raw.isascii()
        or _suspicious(raw.translate(_DIGITS))
    )


def _suspicious(plain: bytes) -> bool:
    digits, exponent, surrogate = _SUSPICIOUS
    return digits in plain or exponent in plain or surrogate in plain


def _unreadable(raw: bytes, message: str) -> Rejected:
    """Bytes that are not JSON, or JSON that no parser takes: find the code."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return Rejected(RejectCode.BAD_UTF8, "$", f"byte {error.start} is not UTF-8")
    if "depth" in message or "recursion" in message:
        return Rejected(RejectCode.TOO_DEEP, "$", f"nested deeper than {MAX_DEPTH}")
    if "infinity" in message or "out of range" in message:
        return Rejected(RejectCode.OUT_OF_RANGE, "$", f"number beyond {MAX_NUMBER:.0e}")
    return Rejected(RejectCode.NOT_JSON, "$", message)


def _over_limits(raw: bytes) -> Rejected | None:
    """Depth, key and number limits over the whole record, the parts we do not read included.

    A whole number of 64 bits may be an id or a time in milliseconds; what we read as a number has bounds, and
    a longer one comes out of the parser as a float.
    """
    try:
        root = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return _unreadable(raw, str(error))
    stack: list[tuple[Any, int]] = [(root, 1)]
    while stack:
        value, depth = stack.pop()
        if isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                return Rejected(RejectCode.TOO_DEEP, "$", f"nested deeper than {MAX_DEPTH}")
            if isinstance(value, dict) and len(value) > MAX_KEYS:
                return Rejected(
                    RejectCode.TOO_MANY_KEYS, "$", f"an object of {len(value)} keys; limit {MAX_KEYS}"
                )
            inner = value.values() if isinstance(value, dict) else value
            stack.extend((v, depth + 1) for v in inner)
        elif isinstance(value, float) and not -MAX_NUMBER <= value <= MAX_NUMBER:
            return Rejected(RejectCode.OUT_OF_RANGE, "$", f"number beyond {MAX_NUMBER:.0e}")
    return None


def dead_letter_line(letter: DeadLetter) -> bytes:
    """Write a dead letter for a file: the original value as text where it is UTF-8, else base64."""
    fields: dict[str, Any] = {"code": letter.code, "path": letter.path, "message": letter.message}
    if letter.offset >= 0:
        fields["line"] = letter.offset + 1
    try:
        fields["value"] = letter.value.decode()
    except UnicodeDecodeError:
        fields["value_base64"] = base64.b64encode(letter.value).decode()
    return orjson.dumps(fields)
