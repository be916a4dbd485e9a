"""What must hold of the logs after a run, recomputed from the input alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import orjson
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from stream.runtime.chunks import PART, Joiner
from stream.runtime.hearing import is_of_a_failed_producer
from stream.runtime.statecodec import HEADER_KEY, decode_header
from stream.runtime.transport import LogRecord
from tests.runtime.oracle import RULES, Effects, committed_rows, expected_effects
from tests.runtime.shop_stream import campaigns
from tests.simulation.batches import KeyedRecord
from tests.simulation.cluster import Cluster
from tests.simulation.history import History, committed, committed_batches


def check(cluster: Cluster, history: History) -> None:
    """Add what is wrong to the history's findings."""
    _check_workers(cluster, history)
    _check_commits(cluster, history)
    _check_owners(cluster, history)
    _check_effects(cluster, history)


def committed_lessons(cluster: Cluster, history: History | None = None) -> Counter[bytes]:
    """Return the deltas of the committed log, those left out that repeat what was learned."""
    lessons: Counter[bytes] = Counter()
    for number, records in enumerate(committed(cluster.broker, cluster.names.model_deltas)):
        joiner, covered = Joiner(), 0
        for record in records:
            headers = dict(record.headers)
            delta = joiner.add(record.value or b"", headers[PART])
            if delta is None:
                continue
            first, following = int(headers["nudge.first_offset"]), int(headers["nudge.next_offset"])
            if first < covered:
                if history is not None and cluster.settings.kafka.guarantee == "exactly_once":
                    history.found("learned twice", f"partition {number}: {first} again, {covered} is covered")
                continue
            lessons[delta] += 1
            covered = max(covered, following)
    return lessons


def _check_workers(cluster: Cluster, history: History) -> None:
    for error, times in Counter(map(repr, cluster.crashed)).items():
        history.found("worker failed", f"{error}, {times} times")
    for context in cluster.loop.errors:
        unseen = context.get("exception")
        if is_of_a_failed_producer(context):
            continue
        if isinstance(unseen, AssertionError | AttributeError | KeyError | TypeError | IndexError):
            history.found("unseen error", f"{context.get('message')}: {unseen!r}")


def _check_commits(cluster: Cluster, history: History) -> None:
    """State and offsets of a transaction are there together; nothing goes back, nothing is left."""
    group = cluster.broker.groups.group(cluster.settings.kafka.group)
    for number in range(cluster.settings.kafka.partitions):
        source = TopicPartition(cluster.names.events, number)
        nexts = list(_state_offsets(cluster, number))
        if cluster.settings.kafka.guarantee != "exactly_once":
            nexts.sort()  # a former owner may have written after its successor: restoring passes it by
        if nexts != sorted(nexts):
            history.found("goes back", f"partition {number}: states end at {nexts}")
        log = cluster.broker.log_of(source)
        assert log is not None
        committed_offset = group.offsets.get(source, (0, ""))[0]
        if (nexts or [0])[-1] != committed_offset:
            history.found(
                "torn", f"partition {number}: offset {committed_offset}, states end at {nexts[-3:]}"
            )
        if committed_offset != log.end:
            history.found("unfinished", f"partition {number}: {committed_offset} of {log.end}")


def _state_offsets(cluster: Cluster, number: int) -> Iterator[int]:
    for batch in committed_batches(cluster.broker, TopicPartition(cluster.names.user_state, number)):
        for record in batch.records():
            if record.key == HEADER_KEY and record.value:
                yield decode_header(record.value)[1]


def _check_owners(cluster: Cluster, history: History) -> None:
    """Whoever has committed to a partition after another owner, the other never does again."""
    if cluster.settings.kafka.guarantee != "exactly_once":
        return
    for number in range(cluster.settings.kafka.partitions):
        owners: list[tuple[int, int]] = []
        for batch in committed_batches(cluster.broker, TopicPartition(cluster.names.user_state, number)):
            owner = (batch.producer_id, batch.producer_epoch)
            if owners and owner != owners[-1] and owner in owners:
                history.found("two owners", f"partition {number}: {owner} commits again after {owners[-1]}")
                break
            if not owners or owner != owners[-1]:
                owners.append(owner)


def _check_effects(cluster: Cluster, history: History) -> None:
    names, broker, settings = cluster.names, cluster.broker, cluster.settings
    partitions = settings.kafka.partitions
    expected = expected_effects(settings, campaigns(), as_read(cluster, names.events), partitions)
    decisions = committed(broker, names.decisions)
    actual = Effects(
        triggers=_values(committed(broker, names.triggers)),
        dry_run=_values(committed(broker, names.triggers_dry_run)),
        rule_decisions=_values([[r for r in records if _field(r, "kind") in RULES] for records in decisions]),
        dead_letters={
            number: [(r.key, r.value) for r in records]
            for number, records in enumerate(committed(broker, names.dead_letters))
        },
        rows=committed_rows(_in_force(as_read(cluster, names.user_state))),
    )
    once = settings.kafka.guarantee == "exactly_once"
    for name in ("triggers", "dry_run", "rule_decisions", "dead_letters"):
        for number in range(partitions):
            _compare(
                history,
                f"{name} of partition {number}",
                getattr(expected, name)[number],
                getattr(actual, name)[number],
                once=once,
            )
    if expected.rows != actual.rows:
        wrong = [u for u in expected.rows.keys() | actual.rows if expected.rows.get(u) != actual.rows.get(u)]
        history.found("state differs", f"rows of {len(wrong)} users, {sorted(wrong)[:3]}")
    for what, field, found in (
        ("decisions", "decision_id", decisions),
        ("recommendations", "id", committed(broker, names.recommendations)),
    ):
        ids = Counter(_field(record, field) for records in found for record in records)
        twice = [name for name, count in ids.items() if count > 1]
        if twice and once:
            history.found("duplicate", f"{len(twice)} {what}, {twice[:3]}")


def _compare(
    history: History, what: str, expected: Sequence[Hashable], actual: Sequence[Hashable], *, once: bool
) -> None:
    if not once:  # repeats are allowed; what comes first counts
        actual = list(dict.fromkeys(actual))
        expected = list(dict.fromkeys(expected))
    if expected == actual:
        return
    wanted, got = Counter(expected), Counter(actual)
    more = got - wanted
    doubled = sum(n for value, n in more.items() if value in wanted)
    if lost := sum((wanted - got).values()):
        history.found("lost", f"{lost} of {len(expected)} {what}")
    if doubled:
        history.found("duplicate", f"{doubled} {what}")
    if invented := sum(more.values()) - doubled:
        history.found("invented", f"{invented} {what}")
    if wanted == got:
        history.found("order", f"{what}")


def as_read(cluster: Cluster, topic: str) -> Iterator[LogRecord]:
    """Committed records as a reader gets them."""
    for number, records in enumerate(committed(cluster.broker, topic)):
        for r in records:
            yield ConsumerRecord(
                topic, number, r.offset, r.timestamp, 1, r.key, r.value, None, 0, 0, r.headers
            )


def _in_force(changelog: Iterable[LogRecord]) -> Iterator[LogRecord]:
    """Leave out the states that an owner wrote after its successor had gone further."""
    reached: dict[int, int] = {}
    rows: list[LogRecord] = []
    for record in changelog:
        rows.append(record)
        if record.key == HEADER_KEY and record.value:
            following = decode_header(record.value)[1]
            if following >= reached.get(record.partition, 0):
                reached[record.partition] = following
                yield from rows
            rows = []


def _values(partitions: list[list[KeyedRecord]]) -> dict[int, list[bytes]]:
    return {number: [r.value or b"" for r in records] for number, records in enumerate(partitions)}


def _field(record: KeyedRecord, name: str) -> Any:
    return orjson.loads(record.value or b"{}")[name]
