"""What still counts of a record that cannot be read whole: a purchase, a refund, an answer to consent.

Nobody who bought is to be reminded of the cart, and no refusal is to be lost, because a price was text or one
byte was not UTF-8. So each field that can be read is, numbers and times in text included.
"""

from __future__ import annotations

import base64
import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from schemas.events import Consent, Context, Properties, Track, UtmCampaign
from schemas.ids import is_good_id

__all__ = ["MAX_MENDED_BYTES", "Mended", "read_fields", "read_what_can_be"]

MAX_MENDED_BYTES: Final = 1 << 20
"""Larger records are not looked into: no request to a broker takes them."""
MAX_PRODUCTS: Final = 2048  # as many as fit into a record that is read whole
MAX_ANSWERS: Final = 64
MAX_INTEGER: Final = 2**63 - 1  # Python reads longer ones, and no row holds them
REPLACED: Final = "\ufffd"  # stands for what is no text: nobody is called so
EVERYTHING: Final = "*"  # the purpose or channel of a refusal that cannot be read
UNKNOWN_TIME: Final = datetime(2999, 1, 1, tzinfo=UTC)  # the future: it happened when the broker got it

_PAIR_OR_LONE = re.compile(r"(?i)(?P<pair>\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})|\\ud[89a-f][0-9a-f]{2}")
_IDS = frozenset({"product_id", "sku", "item_id", "id"})
_TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
_Read = TypeVar("_Read", bound=Struct)


class Mended(NamedTuple):
    """What was read: the envelope; and its properties as they came, for vocabularies with other names."""

    track: Track
    properties: dict[str, Any]


def read_what_can_be(raw: bytes) -> Mended | None:
    """Read the fields of a record that can be read; nothing where it is no JSON object, or names no user.

    - What has no id gets one from its bytes, so the same bytes are the same event.
    - A time that cannot be read is one far ahead, which counts as of when the broker got the record.
    - A list of products that cannot be read is empty, for what names no product means every one.
    - An answer to a question of consent that cannot be read is a refusal; such a channel is every one.
    """
    if len(raw) > MAX_MENDED_BYTES or (root := _object(raw)) is None:
        return None
    root = _unwrapped(root)
    known = root.get("userId") not in (None, "")
    user = _identifier(root.get("userId" if known else "anonymousId"))
    if user is None:
        return None
    kind, name = root.get("type"), root.get("event")
    times = {field: _converted(root.get(field), datetime) for field in _TIMES}
    if times["timestamp"] is None and times["originalTimestamp"] is None:
        times["timestamp"] = UNKNOWN_TIME
    properties = root.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    return Mended(
        Track(
            type=kind if isinstance(kind, str) else "track",
            messageId=_identifier(root.get("messageId")) or blake2b(raw, digest_size=16).hexdigest(),
            userId=user if known else None,
            anonymousId=None if known else user,
            event=name if isinstance(name, str) else None,
            properties=_properties(properties),
            context=_context(root.get("context")),
            **times,
        ),
        properties,
    )


def read_fields(kind: type[_Read], source: Any) -> _Read:
    """Make a struct of the fields that can be read, and so of each struct in a list."""
    values: dict[str, Any] = {}
    given = source if isinstance(source, dict) else {}
    for name, wire_name, wanted, element in _fields(kind):
        if given.get(wire_name) is None:
            continue
        if element is not None:
            values[name] = _products(element, given[wire_name])
        elif name in _IDS:
            values[name] = _identifier(given[wire_name])
        elif (value := _converted(given[wire_name], wanted)) is not None:
            values[name] = value
    return kind(**values)


@cache
def _fields(kind: type[Struct]) -> list[tuple[str, str, Any, type[Struct] | None]]:
    """Name, name on the wire and type of each field; of a list of structs also theirs."""
    found = []
    for field in msgspec.structs.fields(kind):
        lists = [one for one in (field.type, *get_args(field.type)) if get_origin(one) is list]
        found.append((field.name, field.encode_name, field.type, get_args(lists[0])[0] if lists else None))
    return found


def _properties(source: dict[str, Any]) -> Properties:
    read = read_fields(Properties, source)
    channel = EVERYTHING if read.channel is None and source.get("channel") is not None else read.channel
    return msgspec.structs.replace(read, channel=channel, purposes=_answers(source.get("purposes")))


def _products(kind: type[_Read], source: Any) -> list[_Read]:
    if not isinstance(source, list) or len(source) > MAX_PRODUCTS:
        return []
    return [read_fields(kind, one) for one in source]


def _object(raw: bytes) -> dict[str, Any] | None:
    text = raw.decode(errors="replace")
    try:
        root = json.loads(_PAIR_OR_LONE.sub(lambda found: found[0] if found["pair"] else "\\ufffd", text))
    except (ValueError, RecursionError):
        return None
    return root if isinstance(root, dict) else None


def _unwrapped(root: dict[str, Any]) -> dict[str, Any]:
    """Take an event out of a CloudEvent in structured mode."""
    if root.get("messageId") or "specversion" not in root:
        return root
    data = root.get("data")
    if isinstance(encoded := root.get("data_base64"), str):
        with suppress(ValueError):
            data = _object(base64.b64decode(encoded, validate=True))
    if not isinstance(data, dict):
        return root
    timed = any(data.get(field) is not None for field in _TIMES[:2])
    return {"messageId": root.get("id")} | ({} if timed else {"timestamp": root.get("time")}) | data


def _context(source: Any) -> Context | None:
    if not isinstance(source, dict):
        return None
    read = read_fields(Context, {"timezone": source.get("timezone")})
    consent, campaign = source.get("consent"), source.get("campaign")
    answers = consent.get("categoryPreferences") if isinstance(consent, dict) else consent
    return msgspec.structs.replace(
        read,
        consent=Consent(_answers(answers)),
        campaign=read_fields(UtmCampaign, campaign),
    )


def _answers(source: Any) -> dict[str, bool]:
    """Purpose -> granted; of too many the refusals first."""
    if source is None:
        return {}
    if not isinstance(source, dict):
        return {EVERYTHING: False}
    answers = {name: _converted(given, bool) is True for name, given in source.items() if given is not None}
    return dict(sorted(answers.items(), key=lambda answer: answer[1])[:MAX_ANSWERS])


def _identifier(value: Any) -> str | None:
    """Return an id as text, if it is a good one."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return None
    text = str(value)
    return text if is_good_id(text) and REPLACED not in text else None


def _converted(value: Any, kind: Any) -> Any:
    if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        return None
    try:
        return msgspec.convert(value, kind, strict=False)
    except (msgspec.ValidationError, ValueError):  # the latter of times beyond the year 9999
        return None
