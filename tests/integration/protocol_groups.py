"""Steps about groups and their members."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import OffsetAndMetadata

from tests.integration.protocol_client import Client, membership, outcome


async def commits_keep_metadata(c: Client) -> object:
    """Offsets and their note are kept by group; an unknown group has none."""
    partition = c.partition("plain", 1)
    async with c.consumer(group_id=c.name("g1")) as consumer:
        consumer.assign([partition])
        await consumer.commit({partition: OffsetAndMetadata(5, "note")})
    async with c.consumer(group_id=c.name("g1")) as again, c.consumer(group_id=c.name("g2")) as other:
        again.assign([partition])
        other.assign([partition])
        position = await again.position(partition)
        return position, await again.committed(partition), await other.committed(partition)


async def groups_share_partitions(c: Client) -> object:
    """A second member takes over some partitions, and all of them again go to the one that stays."""
    group = {"group_id": c.name("g3"), "heartbeat_interval_ms": 200}
    async with c.consumer("plain", **group) as first:
        alone = len(first.assignment())
        async with c.consumer("plain", **group) as second:
            while not first.assignment() or len(first.assignment()) + len(second.assignment()) != 3:
                await asyncio.gather(first.getmany(timeout_ms=50), second.getmany(timeout_ms=50))
            shared = sorted((len(first.assignment()), len(second.assignment())))
        while len(first.assignment()) < 3:
            await first.getmany(timeout_ms=50)
        return alone, shared, len(first.assignment())


async def generations_count_rebalances(c: Client) -> object:
    """A member alone, a second one, and the first alone again: three generations, revoked before assigned."""
    calls: list[tuple[str, int]] = []

    class Listener(ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
            calls.append(("revoked", len(revoked)))

        def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
            calls.append(("assigned", len(assigned)))

    group = {"group_id": c.name("g4"), "heartbeat_interval_ms": 200}
    assignors = {"partition_assignment_strategy": (RangePartitionAssignor,)}
    generations = []
    async with c.consumer(**group, **assignors) as first:
        first.subscribe([c.name("plain")], listener=Listener())
        while len(first.assignment()) < 3:
            await first.getmany(timeout_ms=50)
        generations.append(membership(first)[0])
        async with c.consumer("plain", **group, **assignors) as second:
            while len(first.assignment()) + len(second.assignment()) != 3 or not second.assignment():
                await asyncio.gather(first.getmany(timeout_ms=50), second.getmany(timeout_ms=50))
            generations.append(membership(first)[0])
        while len(first.assignment()) < 3:
            await first.getmany(timeout_ms=50)
        generations.append(membership(first)[0])
    return generations, [name for name, _ in calls], calls[0], calls[1], calls[-1]


async def stale_generations_cannot_commit(c: Client) -> object:
    """A commit that names an older generation, or a member that is gone, is refused."""
    source = c.partition("plain", 0)
    # The member that was spoiled cannot say goodbye, so its session has to run out before the next one joins.
    group: dict[str, Any] = {
        "group_id": c.name("g5"),
        "heartbeat_interval_ms": 200,
        "session_timeout_ms": 1500,
    }
    refused = []
    for field, wrong in (("generation", 0), ("member_id", "nobody")):
        async with c.consumer("plain", **group) as consumer:
            while source not in consumer.assignment():
                await consumer.getmany(timeout_ms=50)
            ok = await outcome(consumer.commit({source: 1}))
            setattr(consumer._coordinator, field, wrong)
            refused.append((ok, await outcome(consumer.commit({source: 0}))))
    return refused, await c.committed("g5", source)


async def static_members_come_back_to_their_place(c: Client) -> object:
    """A static member that restarts within its session gets its partitions in the same generation."""
    options: dict[str, Any] = {
        "group_id": c.name("g6"),
        "heartbeat_interval_ms": 200,
        "session_timeout_ms": 6000,
        "group_instance_id": "static",
    }
    generations, members = [], []
    for _ in range(2):
        async with c.consumer("plain", **options) as consumer:
            while len(consumer.assignment()) < 3:
                await consumer.getmany(timeout_ms=50)
            generation, member_id = membership(consumer)
            generations.append(generation)
            members.append(member_id)
    return generations, members[0] == members[1]


async def silent_members_are_given_up(c: Client) -> object:
    """A static member that stops says nothing; after its session the other one has all partitions."""
    group: dict[str, Any] = {
        "group_id": c.name("g7"),
        "heartbeat_interval_ms": 200,
        "session_timeout_ms": 1500,
    }
    async with c.consumer("plain", **group) as stays:
        async with c.consumer("plain", group_instance_id="silent", **group) as leaves:
            while not leaves.assignment() or len(stays.assignment()) + len(leaves.assignment()) != 3:
                await asyncio.gather(stays.getmany(timeout_ms=50), leaves.getmany(timeout_ms=50))
            shared = len(stays.assignment()) < 3
        async with asyncio.timeout(10):
            while len(stays.assignment()) < 3:
                await stays.getmany(timeout_ms=50)
    return shared, "given up"
