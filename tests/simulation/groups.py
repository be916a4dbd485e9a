"""The group coordinator: members, generations, eager rebalances, sessions, offsets.

As Apache Kafka's classic group protocol is, for what aiokafka sends: JoinGroup v5, SyncGroup v3, Heartbeat
v1, LeaveGroup v1. The assignment is the work of the leader among the members, as there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiokafka import TopicPartition

# Error codes of the protocol.
ILLEGAL_GENERATION: Final = 22
UNKNOWN_MEMBER: Final = 25
REBALANCING: Final = 27
MEMBER_ID_REQUIRED: Final = 79

State = Literal["empty", "joining", "syncing", "stable"]
Joined = tuple[int, int, str, str, str, list[tuple[str, str | None, bytes]]]
Offset = tuple[int, str]


@dataclass(slots=True)
class Member:
    """One member as the coordinator sees it."""

    member_id: str
    instance_id: str | None
    session_s: float
    rebalance_s: float
    protocols: list[tuple[str, bytes]]
    heard: float
    assignment: bytes = b""
    join: asyncio.Future[Joined] | None = None
    sync: asyncio.Future[tuple[int, bytes]] | None = None


@dataclass(slots=True)
class Group:
    """One group.

    Attributes
    ----------
    pending : dict
        Offsets by producer id whose transaction is open.
    """

    state: State = "empty"
    generation: int = 0
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    offsets: dict[TopicPartition, Offset] = field(default_factory=dict)
    pending: dict[int, dict[TopicPartition, Offset]] = field(default_factory=dict)
    join_round: int = 0


class GroupCoordinator:
    """Answers the requests of groups.

    Parameters
    ----------
    noted : callable
        Hears of each new generation and its member ids, and of members that were given up.
    """

    def __init__(self, noted: Callable[[str, str], None] = lambda _group, _what: None) -> None:
        self._groups: dict[str, Group] = {}
        self._last_member = 0
        self._noted = noted

    def group(self, name: str) -> Group:
        """State of a group, made when it is not there."""
        return self._groups.setdefault(name, Group())

    def join(
        self,
        name: str,
        member_id: str,
        instance_id: str | None,
        session_s: float,
        rebalance_s: float,
        protocols: list[tuple[str, bytes]],
    ) -> Joined | asyncio.Future[Joined]:
        """Take a member in; the answer comes when all have joined."""
        group, loop = self.group(name), asyncio.get_running_loop()
        if member_id and member_id not in group.members:
            return UNKNOWN_MEMBER, -1, "", "", member_id, []
        if not member_id:
            self._last_member += 1
            member_id = f"m{self._last_member}"
            predecessor = self._static(group, instance_id)
            if predecessor is not None:
                return self._replace(name, group, predecessor, member_id)
            member = Member(member_id, instance_id, session_s, rebalance_s, protocols, loop.time())
            group.members[member_id] = member
            self._watch(name, group, member)
            if instance_id is None:
                return MEMBER_ID_REQUIRED, -1, "", "", member_id, []
        member = group.members[member_id]
        member.protocols, member.heard = protocols, loop.time()
        member.session_s, member.rebalance_s = session_s, rebalance_s
        answer = member.join = loop.create_future()
        if group.state != "joining":
            self._rebalance(name, group)
        self._maybe_complete_join(name, group)
        return answer

    def sync(
        self, name: str, member_id: str, generation: int, assignments: list[tuple[str, bytes]]
    ) -> tuple[int, bytes] | asyncio.Future[tuple[int, bytes]]:
        """Give a member its assignment, when the leader has brought all."""
        group = self.group(name)
        code = self._check(group, member_id, generation)
        if code:
            return code, b""
        member = group.members[member_id]
        member.heard = asyncio.get_running_loop().time()
        if group.state == "joining":
            return REBALANCING, b""
        if group.state == "stable":
            return 0, member.assignment
        answer = member.sync = asyncio.get_running_loop().create_future()
        if member_id == group.leader:
            by_member = dict(assignments)
            group.state = "stable"
            self._noted(name, f"generation {group.generation} of {sorted(group.members)}")
            for other in group.members.values():
                other.assignment = by_member.get(other.member_id, b"")
                _answer(other.sync, (0, other.assignment))
                other.sync = None
        return answer

    def heartbeat(self, name: str, member_id: str, generation: int) -> int:
        """Note that a member lives; return an error code."""
        group = self.group(name)
        code = self._check(group, member_id, generation)
        if code:
            return code
        group.members[member_id].heard = asyncio.get_running_loop().time()
        return REBALANCING if group.state == "joining" else 0

    def leave(self, name: str, member_id: str) -> int:
        """Let a member go; return an error code."""
        group = self.group(name)
        if member_id not in group.members:
            return UNKNOWN_MEMBER
        self._remove(name, group, member_id, "left")
        return 0

    def commit(
        self, name: str, member_id: str, generation: int, offsets: dict[TopicPartition, Offset]
    ) -> int:
        """Move a group's offsets; return an error code."""
        group = self.group(name)
        if generation < 0 and not group.members:
            group.offsets.update(offsets)
            return 0
        code = self._check(group, member_id, generation)
        if not code and group.state == "syncing":
            code = REBALANCING
        if not code:
            group.members[member_id].heard = asyncio.get_running_loop().time()
            group.offsets.update(offsets)
        return code

    def commit_in_transaction(
        self, name: str, producer_id: int, offsets: dict[TopicPartition, Offset]
    ) -> None:
        """Keep offsets until their transaction ends."""
        self.group(name).pending.setdefault(producer_id, {}).update(offsets)

    def end_transaction(self, name: str, producer_id: int, commit: bool) -> None:
        """Let pending offsets count, or forget them."""
        group = self.group(name)
        offsets = group.pending.pop(producer_id, {})
        if commit:
            group.offsets.update(offsets)

    def committed(self, name: str, partition: TopicPartition) -> Offset:
        """Last offset that counts, -1 without; what is pending does not show (OffsetFetch before v7)."""
        return self.group(name).offsets.get(partition, (-1, ""))

    @staticmethod
    def _check(group: Group, member_id: str, generation: int) -> int:
        if member_id not in group.members:
            return UNKNOWN_MEMBER
        return 0 if generation == group.generation else ILLEGAL_GENERATION

    @staticmethod
    def _static(group: Group, instance_id: str | None) -> Member | None:
        if instance_id is None:
            return None
        return next((m for m in group.members.values() if m.instance_id == instance_id), None)

    def _replace(
        self, name: str, group: Group, old: Member, member_id: str
    ) -> Joined | asyncio.Future[Joined]:
        """Let a static member that restarted go on where its predecessor was, without a rebalance."""
        del group.members[old.member_id]
        for waiting in (old.join, old.sync):
            _answer(waiting, (UNKNOWN_MEMBER, -1, "", "", "", []) if waiting is old.join else (25, b""))
        old.member_id, old.join, old.sync = member_id, None, None
        old.heard = asyncio.get_running_loop().time()
        group.members[member_id] = old
        self._watch(name, group, old)
        was_leader = group.leader not in group.members
        if group.state == "stable":
            self._noted(name, f"static {old.instance_id} is {member_id}")
            # A leader that restarted must not assign anew: it hears of another leader.
            leader = "(gone)" if was_leader else group.leader
            if was_leader:
                group.leader = member_id
            return 0, group.generation, old.protocols[0][0], leader, member_id, []
        answer = old.join = asyncio.get_running_loop().create_future()
        if group.state != "joining":
            self._rebalance(name, group)
        self._maybe_complete_join(name, group)
        return answer

    def _rebalance(self, name: str, group: Group) -> None:
        group.state = "joining"
        group.join_round += 1
        for member in group.members.values():
            _answer(member.sync, (REBALANCING, b""))
            member.sync = None
        limit = max((member.rebalance_s for member in group.members.values()), default=0.0)
        asyncio.get_running_loop().call_later(limit, self._give_up_joining, name, group, group.join_round)

    def _give_up_joining(self, name: str, group: Group, join_round: int) -> None:
        if (group.state, group.join_round) != ("joining", join_round):
            return
        for member in list(group.members.values()):
            if member.join is None and member.instance_id is None:
                del group.members[member.member_id]
                self._noted(name, f"{member.member_id} did not rejoin")
        self._complete_join(group)

    def _maybe_complete_join(self, name: str, group: Group) -> None:
        if group.state == "joining" and all(member.join is not None for member in group.members.values()):
            self._complete_join(group)

    @staticmethod
    def _complete_join(group: Group) -> None:
        joined = [member for member in group.members.values() if member.join is not None]
        if not joined:
            if not group.members:
                group.state = "empty"
            return
        group.generation += 1
        group.state = "syncing"
        if group.leader not in {member.member_id for member in joined}:
            group.leader = joined[0].member_id
        protocol = joined[0].protocols[0][0]
        everyone = [(m.member_id, m.instance_id, dict(m.protocols)[protocol]) for m in group.members.values()]
        for member in joined:
            shown = everyone if member.member_id == group.leader else []
            _answer(member.join, (0, group.generation, protocol, group.leader, member.member_id, shown))
            member.join = None
            member.heard = asyncio.get_running_loop().time()

    def _remove(self, name: str, group: Group, member_id: str, why: str) -> None:
        member = group.members.pop(member_id)
        self._noted(name, f"{member_id} {why}")
        _answer(member.join, (UNKNOWN_MEMBER, -1, "", "", member_id, []))
        _answer(member.sync, (UNKNOWN_MEMBER, b""))
        if not group.members:
            group.state, group.join_round = "empty", group.join_round + 1
            return
        if group.state in ("stable", "syncing"):
            self._rebalance(name, group)
        self._maybe_complete_join(name, group)

    def _watch(self, name: str, group: Group, member: Member) -> None:
        """Look after a session's length whether the member was heard."""
        member_id = member.member_id

        def look() -> None:
            if group.members.get(member_id) is not member:
                return
            now = asyncio.get_running_loop().time()
            if member.join is not None:
                member.heard = now  # it waits for us, not we for it
            left = member.heard + member.session_s - now
            if left <= 1e-9:
                self._remove(name, group, member_id, "was silent too long")
                return
            asyncio.get_running_loop().call_later(left, look)

        asyncio.get_running_loop().call_later(member.session_s, look)


def _answer(future: asyncio.Future[Any] | None, answer: object) -> None:
    if future is not None and not future.done():
        future.set_result(answer)
