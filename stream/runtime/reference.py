"""Keep the read-only view of items, offers and campaigns up to date with the compacted topics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from aiokafka import TopicPartition

from schemas.campaigns import Campaign
from schemas.catalogue import Item, Offer
from schemas.segments import SEGMENT_KEY, Segment
from stream.runtime.consuming import POLL_MS, read_to_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stream.core.reference import Reference, Rows
    from stream.runtime.topics import TopicNames
    from stream.runtime.transport import LogRecord, Transport

__all__ = ["ReferenceReader"]

# Some ten milliseconds of work, and fewer than the changes that are remembered for those who follow them.
LOT_RECORDS: Final = 1024

logger = structlog.get_logger(__name__)


class ReferenceReader:
    """Reads the reference topics whole, then tails them.

    A record that cannot be read is counted and logged by topic and offset, and changes nothing: the last good
    version stays.
    ``on_applied`` is called after each lot of records, so that what follows from the view keeps up with it.
    """

    def __init__(
        self,
        transport: Transport,
        names: TopicNames,
        counts: Mapping[str, int],
        reference: Reference,
        on_bad: Callable[[str], None],
        on_applied: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._partitions = [TopicPartition(name, p) for name in names.reference for p in range(counts[name])]
        self._on_bad = on_bad
        self._on_applied = on_applied
        self._ready = asyncio.Event()
        self._segments = (reference.segments, msgspec.json.Decoder(Segment), "segment_id")
        self._targets: dict[str, tuple[Rows[Any], msgspec.json.Decoder[Any], str]] = {
            names.catalogue: (reference.items, msgspec.json.Decoder(Item), "item_id"),
            names.offers: (reference.offers, msgspec.json.Decoder(Offer), "offer_id"),
            names.campaigns: (reference.campaigns, msgspec.json.Decoder(Campaign), "campaign_id"),
        }

    async def run(self) -> None:
        """Read up to the end, then tail until cancelled."""
        async with self._transport.reader(self._partitions) as consumer:
            async for records in read_to_end(consumer):
                await self._apply_all(records)
            self._ready.set()
            while True:
                for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                    await self._apply_all(records)

    async def restored(self) -> None:
        """Wait until all reference records that existed at the start are applied."""
        await self._ready.wait()

    def _target_of(self, record: LogRecord) -> tuple[Rows[Any], msgspec.json.Decoder[Any], str]:
        """Segments stand on the campaigns' topic, under keys of their own."""
        is_segment = (record.key or b"").startswith(SEGMENT_KEY.encode())
        return self._segments if is_segment else self._targets[record.topic]

    async def _apply_all(self, records: Sequence[LogRecord]) -> None:
        for start in range(0, len(records), LOT_RECORDS):
            self.apply(records[start : start + LOT_RECORDS])
            await asyncio.sleep(0)

    def apply(self, records: Iterable[LogRecord]) -> None:
        """Apply records in order; an empty value deletes."""
        for record in records:
            rows, decoder, id_field = self._target_of(record)
            if not record.value:
                rows.drop((record.key or b"").decode(errors="replace").removeprefix(SEGMENT_KEY))
                continue
            try:
                row = decoder.decode(record.value)
            except Exception as error:  # noqa: BLE001  whatever a decoder raises: it would end every worker
                self._on_bad(record.topic)
                logger.warning(
                    "reference_record_skipped",
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    error=str(error),
                )
                continue
            rows[getattr(row, id_field)] = row
        self._on_applied()
