"""All topics in one table: key, partitions, cleanup, retention. ``nudge topics`` and AsyncAPI read it.

>>> TopicNames("marketing.").events
'marketing.events.v1'
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from stream.runtime.connecting import address_of, connection
from stream.runtime.errors import BrokerUnreachableError, TopicMismatchError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from stream.sections import KafkaSettings

__all__ = [
    "TOPICS",
    "Change",
    "TopicNames",
    "TopicSpec",
    "apply",
    "open_admin",
    "partition_counts",
    "plan",
    "require_partitions",
]

DAY_MS: Final = 86_400_000
VISIBLE_S: Final = 30.0

Kind = Literal["input", "reference", "output", "changelog", "log"]


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it must be.

    ``partitioned`` topics have the partition count of the events: partition p of the input writes partition p
    of each. The others are read whole, so one partition is enough.
    """

    name: str
    key: str
    kind: Kind
    purpose: str
    partitioned: bool
    config: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between the table and the cluster; ``apply`` makes those with action ``create``."""

    action: Literal["create", "partitions", "replicas", "config"]
    topic: str
    detail: str


def _delete(days: int, **more: str) -> Mapping[str, str]:
    config = {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}
    return MappingProxyType(config | {key.replace("_", "."): value for key, value in more.items()})


def _compact(**more: str) -> Mapping[str, str]:
    config = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.2",
        # An erased user is gone for good within a week; a reader that was away longer misses tombstones.
        "max.compaction.lag.ms": str(7 * DAY_MS),
        "delete.retention.ms": str(7 * DAY_MS),
    }
    return MappingProxyType(config | {key.replace("_", "."): value for key, value in more.items()})


# Retention must never follow the producers' clocks: what they write gets the broker's append time.
_APPEND_TIME = "LogAppendTime"

TOPICS: Final[tuple[TopicSpec, ...]] = (
    TopicSpec(
        "events.v1",
        "user",
        "input",
        "Behaviour events, keyed by userId, else anonymousId.",
        partitioned=True,
        config=_delete(7, message_timestamp_type=_APPEND_TIME),
    ),
    TopicSpec("catalogue.v1", "item", "reference", "Items.", partitioned=False, config=_compact()),
    TopicSpec("offers.v1", "offer", "reference", "Offers.", partitioned=False, config=_compact()),
    TopicSpec(
        "campaigns.v1",
        "campaign",
        "reference",
        "Campaigns and segments, versioned.",
        partitioned=False,
        config=_compact(),
    ),
    TopicSpec(
        "commands.v1",
        "user",
        "input",
        "Erase a user, freeze learning, kill switch; written to every partition.",
        partitioned=True,
        config=_delete(30, message_timestamp_type=_APPEND_TIME),
    ),
    TopicSpec(
        "recommendations.v1",
        "user|slot",
        "output",
        "Ranked lists.",
        partitioned=True,
        config=_compact(cleanup_policy="compact,delete", retention_ms=str(7 * DAY_MS)),
    ),
    TopicSpec("triggers.v1", "user", "output", "Messages to send.", partitioned=True, config=_delete(7)),
    TopicSpec(
        "triggers-dry-run.v1", "user", "output", "Messages of dry runs.", partitioned=True, config=_delete(7)
    ),
    TopicSpec(
        "segments.v1",
        "user|segment",
        "output",
        "Segment entry and exit.",
        partitioned=True,
        config=_compact(),
    ),
    TopicSpec(
        "decisions.v1",
        "user",
        "output",
        "Every decision and suppression, with reason and propensity.",
        partitioned=True,
        config=_delete(30),
    ),
    TopicSpec(
        "events.v1.dlq",
        "as input",
        "output",
        "Rejected records, byte for byte, with error headers.",
        partitioned=True,
        # A record as large as the input takes comes back with headers on top, and must still fit.
        config=_delete(14, max_message_bytes=str(2 << 20)),
    ),
    TopicSpec(
        "user-state.v1",
        "user",
        "changelog",
        "One row per user and a header per partition.",
        partitioned=True,
        # Rows of a batch count once its header is there (at_least_once): none may vanish before that.
        config=_compact(min_compaction_lag_ms="3600000"),
    ),
    TopicSpec(
        "model-deltas.v1",
        "partition",
        "log",
        "Additive model deltas; kept until a snapshot covers them.",
        partitioned=True,
        config=MappingProxyType({"cleanup.policy": "delete", "retention.ms": "-1"}),
    ),
    TopicSpec("model-snapshots.v1", "block", "log", "Model base.", partitioned=False, config=_compact()),
)


class TopicNames:
    """Full names under a prefix, one attribute for each topic that the code mentions."""

    def __init__(self, prefix: str) -> None:
        self.events = f"{prefix}events.v1"
        self.catalogue = f"{prefix}catalogue.v1"
        self.offers = f"{prefix}offers.v1"
        self.campaigns = f"{prefix}campaigns.v1"
        self.commands = f"{prefix}commands.v1"
        self.recommendations = f"{prefix}recommendations.v1"
        self.triggers = f"{prefix}triggers.v1"
        self.triggers_dry_run = f"{prefix}triggers-dry-run.v1"
        self.segments = f"{prefix}segments.v1"
        self.decisions = f"{prefix}decisions.v1"
        self.dead_letters = f"{prefix}events.v1.dlq"
        self.user_state = f"{prefix}user-state.v1"
        self.model_deltas = f"{prefix}model-deltas.v1"
        self.model_snapshots = f"{prefix}model-snapshots.v1"

    @property
    def partitioned(self) -> tuple[str, ...]:
        """What a worker writes or reads by partition number; the events come first."""
        return (
            self.events,
            self.commands,
            self.recommendations,
            self.triggers,
            self.triggers_dry_run,
            self.segments,
            self.decisions,
            self.dead_letters,
            self.user_state,
            self.model_deltas,
        )

    @property
    def reference(self) -> tuple[str, str, str]:
        """What a worker reads whole."""
        return (self.catalogue, self.offers, self.campaigns)


@asynccontextmanager
async def open_admin(cluster: KafkaSettings | str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect for administration.

    Raises
    ------
    BrokerUnreachableError
        Nobody answers.
    """
    admin = AIOKafkaAdminClient(**connection(cluster), request_timeout_ms=15_000)
    try:
        await admin.start()
    except (KafkaError, OSError) as error:
        await admin.close()
        raise BrokerUnreachableError(
            f"no Kafka at {address_of(cluster)} (NUDGE_KAFKA__BOOTSTRAP): {error}"
        ) from error
    try:
        yield admin
    finally:
        await admin.close()


async def plan(admin: AIOKafkaAdminClient, kafka: KafkaSettings) -> list[Change]:
    """Compare the cluster with the table; changes nothing.

    Missing topics come as ``create``. A partition count that differs comes as ``partitions`` and is never
    changed: users would move to partitions that do not hold their state. Too few replicas (``replicas``) and
    settings that differ (``config``) are left to the operator.
    """
    existing = await _describe(admin)
    changes: list[Change] = []
    for spec in TOPICS:
        name, wanted = kafka.topic_prefix + spec.name, kafka.partitions if spec.partitioned else 1
        config = _config(spec, kafka)
        if name not in existing:
            changes.append(Change("create", name, f"{wanted} partitions, {_text(config)}"))
            continue
        count, replicas = existing[name]
        if replicas < kafka.replication:
            detail = f"has {replicas} replicas, {kafka.replication} wanted (NUDGE_KAFKA__REPLICATION)"
            changes.append(Change("replicas", name, detail))
        if spec.partitioned and count != wanted:
            detail = f"has {count} partitions, {wanted} wanted (NUDGE_KAFKA__PARTITIONS)"
            why = "refused: users would move away from their state; see `nudge topics grow`"
            changes.append(Change("partitions", name, f"{detail}; {why}"))
        actual = await _config_of(admin, name)
        different = {key: value for key, value in config.items() if not _equal(actual.get(key), value)}
        if different:
            now = {key: actual.get(key, "?") for key in different}
            changes.append(Change("config", name, f"has {_text(now)}, wanted {_text(different)}"))
    return changes


async def apply(admin: AIOKafkaAdminClient, kafka: KafkaSettings) -> list[Change]:
    """Create what is missing, and return what :func:`plan` had found. Deletes, grows and alters nothing."""
    changes = await plan(admin, kafka)
    missing = {change.topic for change in changes if change.action == "create"}
    new = [
        NewTopic(
            name=kafka.topic_prefix + spec.name,
            num_partitions=kafka.partitions if spec.partitioned else 1,
            replication_factor=kafka.replication,
            topic_configs=_config(spec, kafka),
        )
        for spec in TOPICS
        if kafka.topic_prefix + spec.name in missing
    ]
    if not new:
        return changes
    response = await admin.create_topics(new)
    for topic, code, message in response.topic_errors:  # type: ignore[attr-defined]  # set by the schema
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # somebody else may have been faster
            raise TopicMismatchError(f"topic {topic} could not be created: {error.__name__}: {message}")
    await _wait_until_visible(admin, {topic.name for topic in new})
    return changes


async def require_partitions(admin: AIOKafkaAdminClient, kafka: KafkaSettings) -> dict[str, int]:
    """Return the partition counts of the topics a worker needs; those of the partitioned ones are equal.

    Raises
    ------
    TopicMismatchError
        A topic is missing, counts differ, or a topic has fewer replicas than the settings ask for.
    """
    names = TopicNames(kafka.topic_prefix)
    existing = await _describe(admin)
    counts = {name: count for name, (count, _) in existing.items()}
    needed = (*names.partitioned, *names.reference, names.model_snapshots)
    if missing := [name for name in needed if name not in counts]:
        raise TopicMismatchError(f"topics are missing: {', '.join(missing)}; run `nudge topics apply`")
    wanted = counts[names.events]
    if wrong := [f"{name} has {counts[name]}" for name in names.partitioned if counts[name] != wanted]:
        raise TopicMismatchError(
            f"{names.events} has {wanted} partitions but {', '.join(wrong)}; partition p of the input writes "
            "partition p of each, so the counts must be equal: use a new NUDGE_KAFKA__TOPIC_PREFIX"
        )
    if weak := [
        f"{name} has {existing[name][1]}" for name in needed if existing[name][1] < kafka.replication
    ]:
        raise TopicMismatchError(
            f"{kafka.replication} replicas are wanted (NUDGE_KAFKA__REPLICATION) but {', '.join(weak)}: with "
            "its broker a topic would lose what was committed; add replicas with Kafka's own tools"
        )
    return {name: counts[name] for name in needed}


async def partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Return how many partitions each topic of the cluster has."""
    return {name: count for name, (count, _) in (await _describe(admin)).items()}


async def _describe(admin: AIOKafkaAdminClient) -> dict[str, tuple[int, int]]:
    """Partitions of each topic, and the replicas of the one that has fewest."""
    # Asking for a topic by name makes some brokers create it, so existence is read off the full list.
    existing = await admin.list_topics()
    described = await admin.describe_topics(list(existing)) if existing else []
    return {
        topic["topic"]: (len(topic["partitions"]), min(len(p["replicas"]) for p in topic["partitions"]))
        for topic in described
        if topic["partitions"]  # a broker that has just heard of a topic may not know them yet
    }


def _config(spec: TopicSpec, kafka: KafkaSettings) -> dict[str, str]:
    """Settings of a topic; with three replicas a committed record outlives any one broker."""
    if kafka.replication < 3:
        return dict(spec.config)
    return {**spec.config, "min.insync.replicas": "2", "unclean.leader.election.enable": "false"}


async def _wait_until_visible(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    """A broker confirms a new topic before it lists it; a worker that starts at once would miss it."""
    async with asyncio.timeout(VISIBLE_S):
        while not names <= set(await partition_counts(admin)):  # noqa: ASYNC110  the broker sends no event
            await asyncio.sleep(0.05)


async def _config_of(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    found: dict[str, str] = {}
    for response in responses:
        for code, message, _, _, entries in response.resources:  # type: ignore[attr-defined]  # set by the schema
            if code:
                raise for_code(code)(f"the settings of {name} cannot be read: {message}")
            found.update((entry[0], entry[1]) for entry in entries)
    return found


def _equal(actual: str | None, wanted: str) -> bool:
    if actual is None:
        return False
    return sorted(actual.split(",")) == sorted(wanted.split(","))


def _text(config: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(config.items()))
