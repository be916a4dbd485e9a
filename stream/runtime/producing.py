"""Write lines to a topic: events keyed by user, reference records keyed by id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from schemas.segments import SEGMENT_KEY
from stream.runtime.connecting import address_of, connection
from stream.runtime.errors import BrokerUnreachableError

if TYPE_CHECKING:
    from stream.sections import KafkaSettings

__all__ = ["KEY_OF_TOPIC", "MAX_NAMED", "ProduceReport", "key_of", "produce"]

MAX_IN_FLIGHT: Final = 2000  # records; bounds memory, and a broker that stops answering stops us
PROGRESS_EVERY: Final = 500
MAX_NAMED: Final = 5  # lines that a report names
LINGER_MS: Final = 5
AHEAD_S: Final = LINGER_MS / 1000  # a record that comes so early would only linger

KeyField = Literal["user", "item_id", "offer_id", "campaign_id"]
KEY_OF_TOPIC: Final[dict[str, KeyField]] = {
    "events": "user",
    "catalogue": "item_id",
    "offers": "offer_id",
    "campaigns": "campaign_id",
}


@dataclass(frozen=True, slots=True)
class ProduceReport:
    """What was written, and what not.

    Attributes
    ----------
    sent : int
        Records that the broker has.
    without_key : int
        Lines that name nobody and nothing: events among them were sent, reference records were not.
    too_large : tuple[int, ...]
        Numbers of the lines, 1-based, that no request takes (1 MiB), the first few of them.
    n_too_large : int
        How many there were.
    """

    sent: int
    without_key: int
    too_large: tuple[int, ...]
    n_too_large: int
    seconds: float


def key_of(line: bytes, field: KeyField = "user") -> bytes | None:
    """Return the key of a line: ``userId``, else ``anonymousId``, or the named field; ``None`` without.

    >>> key_of(b'{"anonymousId":"a1","event":"Cart Viewed"}')
    b'a1'
    """
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict):
        return None
    if field == "campaign_id" and isinstance(segment := fields.get("segment_id"), str):
        return f"{SEGMENT_KEY}{segment}".encode()
    value = (fields.get("userId") or fields.get("anonymousId")) if field == "user" else fields.get(field)
    return str(value).encode() if isinstance(value, str | int) and value != "" else None


async def produce(
    cluster: KafkaSettings | str,
    topic: str,
    lines: Iterable[bytes],
    *,
    key: KeyField = "user",
    rate: float | None = None,
    progress: Callable[[int], None] | None = None,
    headers: Iterable[tuple[str, bytes]] = (("content-type", b"application/json"),),
) -> ProduceReport:
    """Send lines in order, at most ``rate`` a second to 5 ms, and wait until the broker has all of them.

    An event without a key is sent all the same: what is wrong with it, the dead letter will say. A reference
    record without its id is left out and counted, and so is what is larger than a request may be.

    Raises
    ------
    BrokerUnreachableError
        Nobody answers, or the broker refuses a record.
    """
    producer = AIOKafkaProducer(
        **connection(cluster),
        acks="all",
        enable_idempotence=True,
        compression_type="snappy",
        linger_ms=LINGER_MS,
        max_batch_size=256 << 10,
    )
    started, sent, without_key, n_too_large = time.monotonic(), 0, 0, 0
    too_large: tuple[int, ...] = ()
    fixed_headers = list(headers)
    waiting: set[asyncio.Future[object]] = set()
    try:
        await producer.start()
        for number, line in enumerate(lines, 1):
            record_key = key_of(line, key)
            without_key += record_key is None
            if record_key is None and key != "user":
                continue  # a compacted topic takes no record without a key
            try:
                waiting.add(await producer.send(topic, value=line, key=record_key, headers=fixed_headers))
            except MessageSizeTooLargeError:
                n_too_large += 1
                too_large = (*too_large, number)[:MAX_NAMED]
                continue
            sent += 1
            waiting = await _with_room(waiting)
            if rate is not None and (ahead := sent / rate - (time.monotonic() - started)) > AHEAD_S:
                await asyncio.sleep(ahead)
            if progress is not None and sent % PROGRESS_EVERY == 0:
                progress(sent)
        await asyncio.gather(*waiting)
    except (KafkaError, OSError) as error:
        raise BrokerUnreachableError(
            f"record {sent} to {topic} at {address_of(cluster)}: {error!r}"
        ) from error
    finally:
        await producer.stop()
    if progress is not None:
        progress(sent)
    return ProduceReport(sent, without_key, too_large, n_too_large, time.monotonic() - started)


async def _with_room(waiting: set[asyncio.Future[object]]) -> set[asyncio.Future[object]]:
    """Wait until there is room for one more in flight; raise what the broker refused."""
    if len(waiting) < MAX_IN_FLIGHT:
        return waiting
    done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for future in done:
        future.result()
    return rest
