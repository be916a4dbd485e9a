"""Follow a deployment's topics: input events, all that is published, and what the bandit learns from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec
import orjson

from online_models.delta import read_delta
from schemas.outputs import Decision, Recommendation, Trigger
from stream.assembly import build_models
from stream.console import FeedView, OfferBelief
from stream.runtime.chunks import PART, Joiner
from stream.runtime.consuming import open_reader
from stream.runtime.topics import TopicNames
from stream.settings import Settings

__all__ = ["Follower", "OfferLedger"]

POLL_MS: Final = 5
# The embedded broker answers an empty fetch at once, whatever the longest wait is: without a pause the reader
# asks a thousand times a second and takes half a core from the worker.
PAUSE_S: Final = 0.02


class OfferLedger:
    """The posteriors of the offers, as the fold of the committed model deltas.

    The worker's own code on the worker's own log: the numbers are those that its next choice reads.
    """

    def __init__(self, settings: Settings) -> None:
        models = build_models(settings)
        self._spec = models.fold.spec
        self._bandit = models.offers
        self._joiners: dict[int, Joiner] = {}

    def fold(self, partition: int, part: bytes, value: bytes) -> bool:
        """Learn a delta when its last part has come; return whether it said anything about offers."""
        delta = self._joiners.setdefault(partition, Joiner()).add(value, part)
        if delta is None:
            return False
        reader = read_delta(delta, self._spec)
        if not reader.columns(self._bandit.name):
            return False
        self._bandit.begin()
        self._bandit.fold(reader)
        self._bandit.keep()
        return True

    def beliefs(self) -> list[OfferBelief]:
        """What is known of each offer that has outcomes."""
        return [
            OfferBelief(known.offer, known.mean, known.deviation, known.pulls, known.rewards)
            for known in self._bandit.describe()
        ]


class _Record(Protocol):
    """What is read of a Kafka record."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def value(self) -> Any: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Follower:
    """Reads what is committed, hands it to the view, and what is published to those who react to it."""

    def __init__(
        self, settings: Settings, view: FeedView, ledger: OfferLedger, react: Callable[[dict[str, Any]], None]
    ) -> None:
        self._kafka = settings.kafka
        self._names = TopicNames(settings.kafka.topic_prefix)
        self._view = view
        self._ledger = ledger
        self._react = react
        self._consumer: Any = None
        self._recommendations = msgspec.json.Decoder(Recommendation)
        self._triggers = msgspec.json.Decoder(Trigger)
        self._decisions = msgspec.json.Decoder(Decision)

    async def run(self) -> None:
        """Follow until cancelled."""
        names = self._names
        outputs = [names.recommendations, names.triggers, names.decisions, names.dead_letters]
        async with open_reader(self._kafka, []) as consumer:
            consumer.subscribe([names.events, *outputs, names.model_deltas])
            self._consumer = consumer
            while True:
                consumer.resume(*consumer.assignment())
                for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                    seen = time.time()
                    for record in records:
                        self._take(record, seen)
                consumer.pause(*consumer.assignment())
                await asyncio.sleep(PAUSE_S)

    async def caught_up(self) -> bool:
        """Whether all that was committed by now has been read."""
        if self._consumer is None or not self._consumer.assignment():
            return False
        ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        positions = [await self._consumer.position(tp) for tp in ends]
        return all(position >= end for position, end in zip(positions, ends.values(), strict=True))

    def _take(self, record: _Record, seen: float) -> None:
        """Take one record that was in our hands at a time, s since the epoch."""
        view, names = self._view, self._names
        match record.topic:
            case names.events:
                view.event(_loads(record.value), record.timestamp / 1000)
            case names.recommendations:
                view.recommendation(self._recommendations.decode(record.value), seen)
                self._react(orjson.loads(record.value))
            case names.triggers:
                view.trigger(self._triggers.decode(record.value))
                self._react(orjson.loads(record.value))
            case names.decisions:
                decision = self._decisions.decode(record.value)
                view.decision(decision, seen)
                if decision.kind == "offer" and decision.campaign_id is None:  # a message brings its own
                    self._react(orjson.loads(record.value))
            case names.dead_letters:
                code = dict(record.headers).get("nudge.error.code", b"?")
                view.dead_letter(code.decode(errors="replace"))
            case _:
                if self._ledger.fold(record.partition, dict(record.headers)[PART], record.value):
                    view.believe(self._ledger.beliefs())


def _loads(value: bytes | None) -> object:
    """Read JSON; what is none is nothing."""
    try:
        return orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
