"""Grow the number of partitions: move users, models and reference records to topics under a new prefix.

A partition's users are those whose keys the producers' partitioner puts there, so a topic that merely grew
would part users from their state. Instead everything moves, once, while nothing runs. The old topics stay as
they were: whoever changes their mind starts the workers on the old prefix again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zlib import crc32

from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2

from stream.core.headers import shared_out
from stream.core.uniting import unite
from stream.runtime.consuming import read_to_end, read_topic
from stream.runtime.errors import WorkerError
from stream.runtime.kafka import KafkaTransport
from stream.runtime.modellog import ModelLog
from stream.runtime.outbox import Outbox
from stream.runtime.restoring import restore
from stream.runtime.snapshots import SnapshotLog
from stream.runtime.statecodec import decode_row, encode_header, encode_row
from stream.runtime.topics import TopicNames, apply, open_admin, require_partitions
from stream.runtime.turns import ModelTurns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka.admin import AIOKafkaAdminClient

    from online_models.fold import ModelSet
    from stream.runtime.restoring import Restored
    from stream.runtime.transport import Producer, Transport
    from stream.sections import KafkaSettings

__all__ = ["PARTITIONERS", "Growth", "GrowthError", "grow"]

SLICE_ROWS: Final = 2000
START_S: Final = 60.0
PARTITIONERS: Final[Mapping[str, Callable[[bytes], int]]] = {
    "murmur2": lambda key: int(murmur2(key)) & 0x7FFFFFFF,  # the default of Java's clients and aiokafka
    "crc32": crc32,  # librdkafka's ``consistent``
}


class GrowthError(WorkerError):
    """The move cannot begin: something still runs, waits, or is there already."""

    exit_code = 78


@dataclass(frozen=True, slots=True)
class Growth:
    """What was moved."""

    users: int
    reference_records: int
    model_bytes: int


async def grow(
    old: KafkaSettings,
    models: ModelSet,
    *,
    prefix: str,
    partitions: int,
    partitioner: str = "murmur2",
    progress: Callable[[int], None] | None = None,
) -> Growth:
    """Move all that is under ``old.topic_prefix`` to new topics with another number of partitions.

    Parameters
    ----------
    models : ModelSet
        Without anything learned; takes the models' state on its way.
    partitioner : str
        How the producers choose a partition, by the names in :data:`PARTITIONERS`.
    progress : callable, optional
        Told how many users have been written.

    Raises
    ------
    GrowthError
        Workers run, events wait, or the new topics are not empty or have another number of partitions.
    """
    new = old.model_copy(update={"topic_prefix": prefix, "partitions": partitions})
    names, targets, transport = TopicNames(old.topic_prefix), TopicNames(prefix), KafkaTransport(old)
    async with open_admin(old) as admin:
        counts = await require_partitions(admin, old)
        await _require_no_members(admin, old.group)
        changelogs = [TopicPartition(names.user_state, p) for p in range(counts[names.events])]
        states = [await restore(transport, changelog) for changelog in changelogs]
        await _require_all_read(transport, names, states)
        _ = await apply(admin, new)
        there = (await require_partitions(admin, new))[targets.events]
    if there != partitions:
        raise GrowthError(
            f"{targets.events} has {there} partitions already, not {partitions}: say --partitions {there}, "
            "or take a prefix that is not in use"
        )
    await _require_empty(transport, targets, partitions)

    log = ModelLog(
        transport,
        names.model_deltas,
        ModelTurns(models),
        SnapshotLog(transport, names.model_snapshots),
        len(states),
    )
    await log.restore()
    nothing = [0] * partitions  # of the new delta log is in the snapshot
    snapshots = SnapshotLog(transport, targets.model_snapshots)
    n_bytes, _ = await snapshots.write(models.snapshot(), nothing, nothing)

    producer = transport.producer("nudge-growth")
    async with asyncio.timeout(START_S):
        await producer.start()
    try:
        copied = 0
        for source, target in zip(names.reference, targets.reference, strict=True):
            copied += await _copy(producer, old, source, target)
        outboxes = [Outbox(producer, p) for p in range(partitions)]
        place = PARTITIONERS[partitioner]
        users = await _move_users(outboxes, targets.user_state, states, place, progress)
    finally:
        await producer.stop()
    return Growth(users, copied, n_bytes)


async def _move_users(
    outboxes: Sequence[Outbox],
    topic: str,
    states: Sequence[Restored | None],
    place: Callable[[bytes], int],
    progress: Callable[[int], None] | None,
) -> int:
    """Write each user's row where the user's events will be, the least recently active first, then headers.

    Who has rows in several partitions, for events came under several keys, has one from here on: the one that
    was active last, with what the others say against messages.
    Rows of several partitions meet in one, so their sequence numbers, which order eviction, are given anew in
    order of the last event.
    """
    found = [state for state in states if state is not None]
    rows = [(*decode_row(value), user) for state in found for user, value in state.rows.items()]
    rows.sort(key=lambda row: (row[0].last_seen, row[2]))
    newest = {user: n for n, (_, _, user) in enumerate(rows)}
    for n, (older, _, user) in enumerate(rows):
        if n != newest[user]:
            unite(rows[newest[user]][0], older)
    rows = [row for n, row in enumerate(rows) if n == newest[row[2]]]
    sequences = [0] * len(outboxes)
    for n, (profile, memory, user) in enumerate(rows):
        partition = place(user.encode()) % len(outboxes)
        sequences[partition] += 1
        profile.touched = sequences[partition]
        outboxes[partition].add(topic, user.encode(), encode_row(profile, memory))
        if n % SLICE_ROWS == SLICE_ROWS - 1:
            _ = [await outbox.send() for outbox in outboxes]
            if progress is not None:
                progress(n + 1)
    headers = shared_out([state.header for state in found], len(outboxes))
    for outbox, sequence, header in zip(outboxes, sequences, headers, strict=True):
        header.sequence = sequence
        outbox.add(topic, *encode_header(header, 0))
        _ = await outbox.send()
    if progress is not None:
        progress(len(rows))
    return len(rows)


async def _copy(producer: Producer, cluster: KafkaSettings, source: str, target: str) -> int:
    outbox, records = Outbox(producer, 0), await read_topic(cluster, source)
    for record in records:
        outbox.add(target, record.key, record.value, list(record.headers))
    _ = await outbox.send()
    return len(records)


async def _require_no_members(admin: AIOKafkaAdminClient, group: str) -> None:
    """A worker that runs would go on writing what is being moved."""
    for response in await admin.describe_consumer_groups([group]):
        for _, name, state, *_ in response.groups:  # type: ignore[attr-defined]  # set by the schema
            if state not in {"Empty", "Dead"}:
                raise GrowthError(
                    f"group {name} is {state}: stop all workers, and wait until their sessions have expired"
                )


async def _require_empty(transport: Transport, targets: TopicNames, partitions: int) -> None:
    taken = [TopicPartition(targets.user_state, p) for p in range(partitions)]
    taken += [TopicPartition(targets.model_deltas, p) for p in range(partitions)]
    taken += [TopicPartition(topic, 0) for topic in (*targets.reference, targets.model_snapshots)]
    async with transport.reader(taken) as reader:
        ends = await reader.end_offsets(taken)
    if full := sorted({tp.topic for tp, end in ends.items() if end}):
        raise GrowthError(f"{', '.join(full)} hold records already; choose a prefix that nobody has used")


async def _require_all_read(
    transport: Transport, names: TopicNames, states: Sequence[Restored | None]
) -> None:
    """An event that no state holds would be left behind, and so would an order to forget somebody."""
    for p, state in enumerate(states):
        events, commands = TopicPartition(names.events, p), TopicPartition(names.commands, p)
        if waiting := await _waiting(transport, events, state.next_offset if state is not None else 0):
            raise GrowthError(
                f"{waiting} records of {events.topic} partition {p} wait: stop the producers, let the "
                "workers read all of them, then stop the workers"
            )
        obeyed = state.header.next_command if state is not None else 0
        if waiting := await _waiting(transport, commands, obeyed):
            raise GrowthError(
                f"{waiting} commands for partition {p} wait on {commands.topic}: start the workers until "
                "they have obeyed them, then stop them"
            )


async def _waiting(transport: Transport, source: TopicPartition, position: int) -> int:
    """How many records a partition holds from a position on."""
    async with transport.reader([source]) as reader:
        first = (await reader.beginning_offsets([source]))[source]
        reader.seek(source, max(position, first))
        return sum([len(records) async for records in read_to_end(reader)])
