"""Look at everything a worker needs, from settings to topics, and say what to do about what is wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.campaigns import Campaign
from schemas.catalogue import Item, Offer
from schemas.codec import UNREADABLE
from schemas.segments import SEGMENT_KEY, Segment
from stream.misspelt import misspelt
from stream.runtime import topics
from stream.runtime.consuming import open_reader, read_to_end, read_topic
from stream.runtime.errors import WorkerError
from stream.runtime.kafka import KafkaTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stream.sections import KafkaSettings
    from stream.settings import Settings

__all__ = ["Finding", "diagnose"]

Verdict = Literal["ok", "warning", "fault"]
# What a difference of a topic means for a worker.
_OF_CHANGE: Final[dict[str, tuple[Verdict, str]]] = {
    "create": ("fault", "nudge topics apply"),
    "partitions": ("fault", "set NUDGE_KAFKA__PARTITIONS to what is there, or see `nudge topics grow`"),
    "replicas": ("fault", "add replicas with Kafka's own tools, or lower NUDGE_KAFKA__REPLICATION"),
    "config": ("warning", "alter the topic with Kafka's own tools, if this is not what you want"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do where it is not well."""

    verdict: Verdict
    what: str
    detail: str
    remedy: str = ""


async def diagnose(settings: Settings) -> AsyncIterator[Finding]:
    """Yield findings in the order in which a worker would meet them; without a broker it ends there."""
    for finding in _of_settings(settings):
        yield finding
    kafka = settings.kafka
    try:
        async with topics.open_admin(kafka) as admin:
            yield Finding("ok", "broker", f"{kafka.bootstrap} answers")
            changes = await topics.plan(admin, kafka)
    except WorkerError as error:
        yield Finding("fault", "broker", str(error), "start Kafka, or set NUDGE_KAFKA__BOOTSTRAP")
        return
    except KafkaError as error:
        yield Finding("fault", "topics", repr(error), "let this user describe topics and their settings")
        return
    for change in changes:
        verdict, remedy = _OF_CHANGE[change.action]
        yield Finding(verdict, f"topic {change.topic}", change.detail, remedy)
    missing = {change.topic for change in changes if change.action == "create"}
    if not changes:
        yield Finding("ok", "topics", "are as declared")
    yield await _writing(kafka)
    names = topics.TopicNames(kafka.topic_prefix)
    for topic in (*names.reference, names.events, names.commands, names.dead_letters):
        if topic not in missing:
            async for finding in _reading(kafka, topic, names):
                yield finding


def _of_settings(settings: Settings) -> Iterator[Finding]:
    if settings.consent.when_unknown is None:
        yield Finding(
            "warning",
            "consent",
            "what silence means is not set, so nobody who never answered is written to",
            "set NUDGE_CONSENT__WHEN_UNKNOWN to allow or deny",
        )
    for variable, near in misspelt(os.environ).items():
        remedy = f"did you mean {near}?" if near else "see `nudge config show`"
        yield Finding("warning", "settings", f"{variable} is no setting and says nothing", remedy)
    if settings.profile != "production":
        yield Finding(
            "warning", "settings", f"the profile is {settings.profile}", "set NUDGE_PROFILE=production"
        )
    else:
        yield Finding("ok", "settings", "are fit for production")


async def _writing(kafka: KafkaSettings) -> Finding:
    """Whether this user may write in transactions; the one that is opened sends nothing."""
    if kafka.guarantee != "exactly_once":
        return Finding("warning", "guarantee", kafka.guarantee, "outputs may repeat under the same id")
    producer = KafkaTransport(kafka).producer("nudge-doctor", f"{kafka.group}-doctor")
    try:
        await producer.start()
        await producer.begin_transaction()
        await producer.commit_transaction()
    except (KafkaError, OSError) as error:
        remedy = "let this user use transactional ids, or set NUDGE_KAFKA__GUARANTEE=at_least_once"
        return Finding("fault", "transactions", repr(error), remedy)
    finally:
        await producer.stop()
    return Finding("ok", "transactions", "can be opened")


async def _reading(kafka: KafkaSettings, topic: str, names: topics.TopicNames) -> AsyncIterator[Finding]:
    """Whether a topic can be read, and whether what it holds can."""
    try:
        if topic in names.reference:
            yield await _reference(kafka, topic, names)
            return
        most = await _held(kafka, topic)
    except (KafkaError, WorkerError, TimeoutError) as error:
        yield Finding("fault", f"topic {topic}", repr(error), "let this user read the topic")
        return
    if topic == names.dead_letters and most:
        yield Finding("warning", f"topic {topic}", f"holds up to {most} rejected records", "nudge dlq list")
    else:
        yield Finding("ok", f"topic {topic}", f"holds up to {most} records" if most else "holds no record")


async def _held(kafka: KafkaSettings, topic: str) -> int:
    """How many records a topic holds at most, marks of transactions counted; 0 if none can be read."""
    async with topics.open_admin(kafka) as admin:
        count = (await topics.partition_counts(admin))[topic]
    partitions = [TopicPartition(topic, number) for number in range(count)]
    async with open_reader(kafka, partitions) as reader:
        first: dict[TopicPartition, int] = await reader.beginning_offsets(partitions)
        last: dict[TopicPartition, int] = await reader.end_offsets(partitions)
        async for _ in read_to_end(reader):
            return sum(last.values()) - sum(first.values())
    return 0


async def _reference(kafka: KafkaSettings, topic: str, names: topics.TopicNames) -> Finding:
    """Whether all records of a reference topic are what they should be."""
    kinds: dict[str, Any] = {names.catalogue: Item, names.offers: Offer, names.campaigns: Campaign}
    newest = {record.key: record for record in await read_topic(kafka, topic)}
    faults = []
    for key, record in newest.items():
        kind = Segment if (key or b"").startswith(SEGMENT_KEY.encode()) else kinds[topic]
        try:
            msgspec.json.decode(record.value or b"", type=kind) if record.value else None
        except UNREADABLE as error:
            faults.append(f"{(key or b'').decode(errors='replace')}: {error}")
    alive = sum(bool(record.value) for record in newest.values())
    if faults:
        detail = f"{len(faults)} of {alive} records cannot be read: {'; '.join(faults[:3])}"
        return Finding("fault", f"topic {topic}", detail, "write them again as `nudge validate` accepts them")
    if not alive:
        return Finding(
            "warning", f"topic {topic}", "is empty", f"nudge produce FILE --topic {topic.split('.')[-2]}"
        )
    return Finding("ok", f"topic {topic}", f"{alive} records, all valid")
