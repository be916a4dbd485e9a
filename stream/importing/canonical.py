"""Writing canonical records: what every importer counts, and how its facts become bytes.

An event is one Segment track envelope as a JSON line, a catalogue record one item as a JSON line.
Importers translate and do not judge: a record with an odd but readable time or amount passes, the engine's
cleaning stage decides about it. Only what cannot be translated is malformed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

__all__ = [
    "EARLIEST_MS",
    "LATEST_MS",
    "Intake",
    "Reason",
    "Timed",
    "encode_event",
    "encode_item",
    "epoch_ms",
    "number",
    "rfc3339",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST_MS = -(_EPOCH - datetime.min.replace(tzinfo=UTC)) // timedelta(milliseconds=1)
_LARGEST = 2**53  # whole numbers up to here are exact, and sums of products stay finite
LATEST_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


class Reason(StrEnum):
    """Why a line of a data set became no event."""

    BAD_NUMBER = "bad_number"
    """A quantity, price or rating is not a finite number."""
    BAD_QUOTING = "bad_quoting"
    """The quotes of a CSV line do not pair."""
    BAD_TIME = "bad_time"
    """The time is not a number or date, or lies outside the years 1 to 9999."""
    LINE_TOO_LONG = "line_too_long"
    """The line is longer than 1 MiB."""
    MISSING_FIELD = "missing_field"
    """A needed field is empty, or the line has fewer fields than the source's columns."""
    PRICE_NOT_POSITIVE = "price_not_positive"
    """An order line costs nothing or less: a stock correction or a gift, not a purchase."""
    QUANTITY_NOT_POSITIVE = "quantity_not_positive"
    """An order line takes nothing or less, without being a cancellation: a stock correction."""
    TOO_MANY_FIELDS = "too_many_fields"
    """The line has more fields than the source's columns, so none can be trusted."""
    UNKNOWN_BEHAVIOUR = "unknown_behaviour"
    """The behaviour is none of the source's."""


class Timed(NamedTuple):
    """One encoded event and its time in milliseconds since the epoch, not yet in order."""

    time_ms: int
    event: bytes


class _Content(NamedTuple):
    """What a catalogue record says of an item."""

    name: str | None
    category: str | None
    price: float | None
    currency: str | None


@dataclass(slots=True)
class _Item:
    content: _Content
    updated_ms: int
    seen_ms: int
    version: int = 1


@dataclass(slots=True)
class Intake:
    """What an importer has read: counts of lines, the window it keeps, the items it met.

    ``read == used + outside + sum(malformed.values())`` once the source is read.

    Parameters
    ----------
    source : str
        The prefix of every ``messageId``.
    from_s, to_s : float | None
        Events in ``[from_s, to_s)`` are kept, in seconds since the epoch; ``None`` is no bound.
    keeps_items : bool
        Whether `items` is filled; a catalogue needs it, events do not.
    """

    source: str
    from_s: float | None = None
    to_s: float | None = None
    keeps_items: bool = True
    read: int = 0
    used: int = 0
    outside: int = 0
    malformed: Counter[Reason] = field(default_factory=Counter)
    items: dict[str, _Item] = field(default_factory=dict)

    def reject(self, reason: Reason) -> None:
        """Count one line that became no event."""
        self.malformed[reason] += 1

    def admit(self, time_ms: int, n_lines: int = 1) -> bool:
        """Whether an event of `n_lines` lines lies in the window; counts them either way."""
        inside = (self.from_s is None or time_ms >= self.from_s * 1000) and (
            self.to_s is None or time_ms < self.to_s * 1000
        )
        if inside:
            self.used += n_lines
        else:
            self.outside += n_lines
        return inside

    def message_id(self, line_number: int) -> str:
        """Where the event comes from: unique within a source, and the same in every import."""
        return f"{self.source}:{line_number}"

    def see(
        self,
        item_id: str,
        time_ms: int,
        *,
        name: str | None = None,
        category: str | None = None,
        price: float | None = None,
        currency: str | None = None,
    ) -> None:
        """Remember what a kept event says of an item: the latest content wins, each change is a version."""
        if not self.keeps_items:
            return
        content = _Content(name, category, price, currency)
        item = self.items.get(item_id)
        if item is None:
            self.items[item_id] = _Item(content, time_ms, time_ms)
            return
        if content == item.content:
            # Not all sources are in order: the same content was there from its earliest sighting on.
            item.updated_ms = min(item.updated_ms, time_ms)
        elif time_ms >= item.seen_ms:
            item.content = content
            item.updated_ms = time_ms
            item.version += 1
        item.seen_ms = max(item.seen_ms, time_ms)


def encode_event(
    message_id: str,
    user: Mapping[str, str],
    time_ms: int,
    event: str,
    properties: Mapping[str, Any],
) -> bytes:
    """Encode one canonical event, a JSON line with its line end.

    Parameters
    ----------
    user : Mapping[str, str]
        ``{"userId": ...}`` or ``{"anonymousId": ...}``.
    event : str
        A name of the Segment e-commerce spec, version 2.
    """
    return _line(
        {
            "type": "track",
            "messageId": message_id,
            **user,
            "timestamp": rfc3339(time_ms),
            "event": event,
            "properties": properties,
        }
    )


def encode_item(
    item_id: str,
    version: int,
    updated_ms: int,
    *,
    name: str | None = None,
    category: str | None = None,
    price: float | None = None,
    currency: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> bytes:
    """Encode one catalogue record, a JSON line with its line end; what is unknown is left out."""
    known = {
        "item_id": item_id,
        "version": version,
        "name": name,
        "category": category,
        "price": price,
        "currency": currency,
        "attributes": attributes,
        "updated_at": rfc3339(updated_ms),
    }
    return _line({key: value for key, value in known.items() if value is not None})


def _line(record: Mapping[str, Any]) -> bytes:
    # The copy matters: orjson's own result holds on to its larger buffer, gigabytes in a long import.
    return orjson.dumps(record) + b"\n"


def rfc3339(time_ms: int) -> str:
    """UTC time with milliseconds.

    >>> rfc3339(1511571600000)
    '2017-11-25T01:00:00.000Z'
    """
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def number(text: str) -> float | None:
    """Read a decimal number, or nothing: no NaN, no infinity, nothing beyond ±2^53, no ``1_0``.

    >>> number("4.0"), number("nan"), number("1_0"), number("1e30")
    (4.0, None, None, None)
    """
    if "_" in text or not text.isascii():
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None  # false for NaN


def epoch_ms(text: str) -> int | None:
    """Read seconds since the epoch as whole milliseconds; nothing if there is no such date.

    >>> epoch_ms("1396437466.94"), epoch_ms("15"), epoch_ms("1e300")
    (1396437466940, 15000, None)
    """
    seconds = number(text)
    if seconds is None or not EARLIEST_MS <= seconds * 1000 <= LATEST_MS:
        return None
    return round(seconds * 1000)
