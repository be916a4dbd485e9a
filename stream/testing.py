"""Test a stream without a stream: the production engine on real bytes, with time moved by hand. Public.

>>> driver = Driver(campaigns=[cart_campaign(delay_s=600)], consent="allow")
>>> driver.pipe(event("Product Added", user="u1", at=0, product_id="p1"))
>>> driver.advance(2 * 3600)
>>> [trigger.context["product_id"] for trigger in driver.take("triggers")]
['p1']
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import orjson

from schemas.campaigns import Campaign
from schemas.catalogue import Item, Offer
from schemas.codec import decode, rfc3339
from schemas.events import Event
from schemas.ids import id_of
from schemas.segments import Segment
from stream.assembly import build_engine, build_models
from stream.core.records import Outputs, Record
from stream.core.reference import Reference
from stream.core.rows import Glance, Header, ModelMemory, Profile, glance_at
from stream.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream.core.engine import Engine
    from stream.core.rows import RowCodec

__all__ = ["EPOCH", "Driver", "cart_campaign", "event"]

EPOCH = 1_767_225_600.0
"""2026-01-01, UTC: the zero of :func:`event`'s ``at``."""

_row = msgspec.msgpack.Decoder(tuple[Profile, ModelMemory])

OutputKind = Literal["recommendations", "triggers", "decisions", "dead_letters", "segments"]


def event(
    name: str,
    /,
    *,
    user: str,
    at: float,
    message_id: str | None = None,
    anonymous: bool = False,
    **properties: Any,
) -> bytes:
    """Build a canonical event; ``at`` is seconds after :data:`EPOCH`.

    The ``messageId`` is a function of the content unless given. ``context`` among the properties becomes the
    envelope's context.
    """
    context = properties.pop("context", {})
    body = orjson.dumps([name, user, at, properties], option=orjson.OPT_SORT_KEYS)
    envelope = {
        "type": "track",
        "messageId": message_id or id_of(body.decode()),
        "anonymousId" if anonymous else "userId": user,
        "timestamp": rfc3339(EPOCH + at),
        "event": name,
        "properties": properties,
        "context": context,
    }
    return orjson.dumps(envelope)


def cart_campaign(campaign_id: str = "cart", **fields: Any) -> Campaign:
    """Build a cart abandonment campaign with the defaults of the schema, version 1, class marketing."""
    defaults: dict[str, Any] = {"version": 1, "kind": "cart_abandonment", "message_class": "marketing"}
    return Campaign(campaign_id=campaign_id, **(defaults | fields))


class _Rows:
    """Rows as plain MessagePack: the changelog's codec without what protects it."""

    def encode(self, profile: Profile, memory: ModelMemory) -> bytes:
        return msgspec.msgpack.encode((profile, memory))

    def decode(self, value: bytes) -> tuple[Profile, ModelMemory]:
        return _row.decode(value)

    def glance(self, value: bytes) -> Glance:
        return glance_at(*_row.decode(value))


class Driver:
    """One partition of the processor, without a broker.

    Parameters
    ----------
    settings : Settings, optional
        Defaults to small models, no holdout and the given consent.
    consent : {"allow", "deny"}
        What silence means, where no settings are given.
    batch_size : int
        Records of a batch; no result depends on it, and a test may prove so.
    codec : RowCodec, optional
        How rows are committed; defaults to plain MessagePack.
    broker_clock : bool
        Whether ``ingest_time`` is a broker's; without it jumps of event time need confirmation.

    Attributes
    ----------
    committed : dict of str to bytes
        Rows as committed.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        campaigns: Iterable[Campaign] = (),
        segments: Iterable[Segment] = (),
        items: Iterable[Item] = (),
        offers: Iterable[Offer] = (),
        consent: Literal["allow", "deny"] = "deny",
        batch_size: int = 1,
        codec: RowCodec | None = None,
        broker_clock: bool = True,
    ) -> None:
        self.settings = settings or Settings(
            max_items=1024,
            click_slots=2**12,
            consent={"when_unknown": consent},
            campaigns={"holdout_share": 0.0},
        )
        self.reference = Reference(
            {item.item_id: item for item in items},
            {offer.offer_id: offer for offer in offers},
            {campaign.campaign_id: campaign for campaign in campaigns},
            {segment.segment_id: segment for segment in segments},
        )
        self.models = build_models(self.settings)
        self._codec = codec or _Rows()
        self._config = self.settings.engine_config(replay=not broker_clock)
        self.engine: Engine = self._build()
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.revenue: dict[tuple[str, str], float] = {}
        self._batch_size = batch_size
        self._waiting: list[Record] = []
        self._offset = 0
        self._taken = Outputs()
        self.committed: dict[str, bytes] = {}
        self._committed_header = msgspec.msgpack.encode(Header())

    def pipe(self, *values: bytes, ingest_time: float | None = None) -> None:
        """Append records; they are processed when a batch is full, or when something is asked for.

        ``ingest_time`` defaults to the event's own time.
        """
        for value in values:
            decoded = decode(value)
            own = decoded.time if isinstance(decoded, Event) else EPOCH
            self._waiting.append(Record(value, own if ingest_time is None else ingest_time, self._offset))
            self._offset += 1
            if len(self._waiting) >= self._batch_size:
                self.flush()

    def flush(self) -> None:
        """Process what waits as one batch, and commit it."""
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        self.models.fold.begin()
        outputs = self.engine.process(batch)
        self.models.fold.keep()
        self._commit(outputs)

    def advance(self, seconds: float) -> None:
        """Let idle time pass, as a partition without lag sees it."""
        self.flush()
        self.models.fold.begin()
        outputs = self.engine.tick(seconds)
        self.models.fold.keep()
        self._commit(outputs)

    def tell(self, command: bytes) -> None:
        """Give an operator's command; it counts from the next record on."""
        self.flush()
        self._commit(self.engine.obey(Record(command, EPOCH, self._offset)))

    def crash(self) -> None:
        """Process what waits and lose it before the commit; then rebuild from what was committed.

        The lost records are read again, as after a restart.
        """
        batch, self._waiting = self._waiting, []
        self.models.fold.begin()
        self.engine.process(batch)
        self.models.fold.rollback()
        self.restart()
        self._waiting = batch

    def restart(self) -> None:
        """Rebuild from what was committed."""
        self.flush()
        self.engine = self._build()
        header = msgspec.msgpack.decode(self._committed_header, type=Header)
        self.engine.state.load(header, self.committed, self.settings.campaigns.lateness_s)

    def _build(self) -> Engine:
        return build_engine(
            self.settings, self.models, self.reference, config=self._config, codec=self._codec
        )

    def take(self, kind: OutputKind) -> list[Any]:
        """Outputs of a kind since the last time they were taken."""
        self.flush()
        found = getattr(self._taken, kind)
        setattr(self._taken, kind, [])
        return list(found)

    def _commit(self, outputs: Outputs) -> None:
        self.counts += outputs.counts
        for key, amount in outputs.revenue.items():
            self.revenue[key] = self.revenue.get(key, 0.0) + amount
        self._taken.recommendations += outputs.recommendations
        self._taken.triggers += outputs.triggers
        self._taken.decisions += outputs.decisions
        self._taken.dead_letters += outputs.dead_letters
        self._taken.segments += outputs.segments
        state = self.engine.state
        self.committed.update(state.encode())
        for user in state.forgotten:
            self.committed.pop(user, None)
        self._committed_header = msgspec.msgpack.encode(state.header)
        state.committed()
