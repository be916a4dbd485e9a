"""The rows of one partition: bounded, decoded while they are used, with what is due when.

Rows of users who are not active stay the bytes that were committed.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from heapq import heapify, heappop, heappush
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

import numpy as np
from msgspec import Struct

from stream.core.rows import NEVER, Glance, Header, ModelMemory, Profile, glance_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stream.core.rows import RowCodec

__all__ = ["Due", "PartitionState"]

MAX_SPARED: Final = 64  # rows looked at to find one that may go; keeps an eviction cheap when refusals abound
MAX_EXPIRED: Final = 4  # rows looked at for their age with each event; more than the one that it may add
_WAKE: Final = ""  # sorts before every other kind of the same user


class Due(Struct, frozen=True, order=True, gc=False):
    """Something that happens when the watermark passes ``at``; ordered, so the heap is deterministic."""

    at: float
    user: str
    kind: str
    ref: str


class PartitionState:
    """All users of one partition, bounded, with the set of rows that changed since the last commit.

    A row that was used lately is *hot*: decoded. Every row that was ever committed is also kept as its
    committed bytes, so a hot row that did not change since goes cold by being dropped. No result depends on
    which rows are hot.

    Parameters
    ----------
    max_users : int
        Beyond it the least recently active user is forgotten.
    ttl_s : float
        A user whose last event is further behind the watermark is forgotten, seconds of event time.
    codec : RowCodec, optional
        Without one every row stays hot and nothing can be committed as bytes or loaded.
    hot_users : int
        Rows that stay decoded after a commit.

    Attributes
    ----------
    in_hand : Due or None
        What comes due now; after a failure, what failed.
    given_up : frozenset of Due
        What must not be tried again.
    """

    def __init__(
        self,
        max_users: int = 1_000_000,
        *,
        ttl_s: float = NEVER,
        codec: RowCodec | None = None,
        hot_users: int = 4096,
    ) -> None:
        self.header = Header()
        self.dirty: set[str] = set()
        self.forgotten: set[str] = set()
        self.tracks_segments = False  # whether a row may hold memberships
        self.left_behind: dict[str, None] = {}  # keys of memberships whose users were forgotten
        self.in_hand: Due | None = None
        self.given_up: frozenset[Due] = frozenset()
        self._max_users = max_users
        self._ttl_s = ttl_s
        self._codec = codec
        self._hot_users = hot_users
        # Users, least recently active first, with the bytes last committed; none before the first commit.
        self._rows: OrderedDict[str, bytes] = OrderedDict()
        self._refusals: OrderedDict[str, bytes] = OrderedDict()  # shrunk rows, which go last and never expire
        self._hot: OrderedDict[str, tuple[Profile, ModelMemory]] = OrderedDict()
        self._encoded: dict[str, bytes] = {}  # waits for its commit
        self._due: list[Due] = []
        self._watchers: dict[str, dict[str, None]] = {}  # item -> users whose timers wait for it
        self._lateness_s = 0.0

    def __len__(self) -> int:
        return len(self._rows) + len(self._refusals)

    def __iter__(self) -> Iterator[str]:
        """All users: shrunk ones, then the others from the least recently active on."""
        return chain(self._refusals, self._rows)

    def __contains__(self, user: str) -> bool:
        return user in self._rows or user in self._refusals

    def profile(self, user: str) -> Profile:
        """The user's profile; a new user's is not stored before :meth:`touch`."""
        row = self._hot.get(user) or self._thaw(user)
        return row[0] if row is not None else Profile()

    def memory(self, user: str) -> ModelMemory:
        """The user's model memory; stored once asked for by :meth:`touch`."""
        row = self._hot.get(user) or self._thaw(user)
        return row[1] if row is not None else ModelMemory()

    def users(self) -> list[str]:
        """All users in no particular order: the linked list behind the order takes many times as long."""
        return [*dict.keys(self._refusals), *dict.keys(self._rows)]

    def committed_row(self, user: str) -> bytes:
        """The bytes of a user's row as last committed; empty if there are none."""
        return self._rows.get(user) or self._refusals.get(user, b"")

    def touch(self, user: str, profile: Profile, memory: ModelMemory) -> None:
        """Store an accepted event's profile as the most recently active; let go of who is too much."""
        header = self.header
        header.sequence += 1
        profile.touched = header.sequence
        self._rows.setdefault(user, self._refusals.pop(user, b""))
        self._rows.move_to_end(user)
        self._hot[user] = (profile, memory)
        self._hot.move_to_end(user)
        self.dirty.add(user)
        self.forgotten.discard(user)
        if header.watermark - self._ttl_s > float("-inf"):
            self._forget_expired()
        if len(self) > self._max_users:
            self._make_room()

    def _forget_expired(self) -> None:
        """Let go of a few of the least recently active users whose last event is too old.

        The order is that of activity and not of event time, so a user may go later than the TTL says, but
        never earlier. A row that still waits for a timer or a reward waits here, too.
        """
        horizon = self.header.watermark - self._ttl_s
        if self._last_seen(next(iter(self._rows))) >= horizon:
            return  # as good as always
        for user in list(islice(self._rows, min(MAX_EXPIRED, len(self._rows) - 1))):  # not who is active now
            if self._last_seen(user) >= horizon:
                break
            glance = self._glance(user)
            if glance.timers_due == glance.looks_due == NEVER:
                self._let_go(user)

    def _make_room(self) -> None:
        """Forget the least recently active user who refused nothing; refusals alone go when all others have.

        After so many refusals that had to be spared, the next event goes on: the state may then be larger
        than its bound by a part in ``MAX_SPARED``.
        """
        for _ in range(MAX_SPARED):
            self._let_go(next(iter(self._rows if len(self._rows) > 1 else self._refusals)))
            if len(self) <= self._max_users:
                break

    def _let_go(self, user: str) -> None:
        """Forget a user, but a refusal is kept, as a row of that alone.

        To forget who unsubscribed or denied a purpose could mean to write to somebody who said no.
        """
        if user in self._refusals or not self._glance(user).refuses:
            self.forget(user)
            return
        profile = self.profile(user)
        self._leave(user)
        self.header.sequence += 1
        shrunk = Profile(
            known=profile.known,
            touched=self.header.sequence,
            consent=profile.consent,
            unsubscribed=profile.unsubscribed,
            answered_at=profile.answered_at,
        )
        self._hot[user] = (shrunk, ModelMemory())
        self._refusals[user] = self._rows.pop(user)
        self.dirty.add(user)

    def forget(self, user: str) -> None:
        """Drop all that is known of a user and leave a tombstone; timers die when they come due."""
        self._leave(user)
        for rows in (self._rows, self._refusals, self._hot):
            rows.pop(user, None)
        self.dirty.discard(user)
        self.forgotten.add(user)

    def _leave(self, user: str) -> None:
        """Note which memberships of a user who is forgotten others may still hold."""
        if not self.tracks_segments or user not in self:
            return  # a look at a cold row costs its decoding
        for segment in self._peek(user).segments:
            self.left_behind[f"{user}|{segment}"] = None

    def encode(self) -> Iterator[tuple[str, bytes]]:
        """Encode the rows that changed since the last commit, in order of their users."""
        if self._codec is None:
            raise ValueError("rows cannot be encoded: this state was built without a codec")
        for user in sorted(self.dirty):
            value = self._encoded[user] = self._codec.encode(*self._hot[user])
            yield user, value

    def committed(self) -> None:
        """Note that what changed is committed, as :meth:`encode` gave it; let rows go cold."""
        if self._codec is not None:
            if len(self._encoded) != len(self.dirty):
                raise ValueError(f"{len(self.dirty)} rows changed, but {len(self._encoded)} were encoded")
            for user, value in self._encoded.items():
                rows = self._refusals if user in self._refusals else self._rows
                rows[user] = value
            while len(self._hot) > self._hot_users:
                self._hot.popitem(last=False)
        self._encoded.clear()
        self.dirty.clear()
        self.forgotten.clear()
        self.left_behind.clear()

    def schedule(self, at: float, user: str, kind: str, ref: str) -> None:
        """Remember to look again at ``ref`` of ``user`` when the watermark passes ``at``."""
        heappush(self._due, Due(at, user, kind, ref))

    def watch(self, item_id: str, user: str) -> None:
        """Remember that a timer of the user waits for a change of an item."""
        self._watchers.setdefault(item_id, {})[user] = None

    def unwatch(self, item_id: str, user: str) -> None:
        """Forget it: no timer of the user waits for the item any more."""
        users = self._watchers.get(item_id, {})
        users.pop(user, None)
        if not users:
            self._watchers.pop(item_id, None)

    def watchers(self, item_id: str) -> list[str]:
        """Users who wait for an item, in order; who was forgotten since is forgotten here, too."""
        users = sorted(self._watchers.get(item_id, ()))
        for user in users:
            if user not in self:
                self.unwatch(item_id, user)
        return [user for user in users if user in self]

    def watched(self) -> list[str]:
        """Items that somebody waits for, in order."""
        return sorted(self._watchers)

    def pop_due(self, watermark: float) -> Iterator[Due]:
        """All that is due, in order of (time, user, kind, ref); what it schedules may be due too."""
        while self._due and self._due[0].at <= watermark:
            self.in_hand = due = heappop(self._due)
            if due.kind != _WAKE:
                yield due
            elif due not in self.given_up:
                self._wake(due.user)
            self.in_hand = None

    def next_due(self) -> float:
        """Event time at which something may happen next; infinity if nothing waits."""
        return self._due[0].at if self._due else NEVER

    def pending_timers(self) -> dict[str, int]:
        """Live timers per campaign; only rows that wait for something are looked at."""
        counts: dict[str, int] = {}
        for user in dict.fromkeys(due.user for due in self._due if due.kind in {"campaign", _WAKE}):
            if user not in self or self._glance(user).timers_due == NEVER:
                continue
            for ref in self._peek(user).timers:
                campaign = ref.partition("\x1f")[0]
                counts[campaign] = counts.get(campaign, 0) + 1
        return counts

    def load(self, header: Header, rows: Mapping[str, bytes], lateness_s: float) -> None:
        """Take over restored rows, encoded: the order of activity and the heap follow from a glance at each.

        What waits in a row gets one entry on the heap; the row is decoded when that comes due.
        """
        if self._codec is None:
            raise ValueError("rows cannot be loaded: this state was built without a codec")
        self.header = header
        self.tracks_segments = True  # rows may hold memberships of segments that are gone
        self._lateness_s = lateness_s
        touched, shrunk = array("Q"), set[str]()
        for user, value in rows.items():
            glance = self._codec.glance(value)
            touched.append(glance.touched)
            if glance.shrunk:
                shrunk.add(user)
            if glance.watches:
                for timer in self._codec.decode(value)[0].timers.values():
                    if timer.watch:
                        self.watch(str(timer.context["product_id"]), user)
            at = min(glance.timers_due + lateness_s, glance.looks_due)
            if at < NEVER:
                self._due.append(Due(at, user, _WAKE, ""))
        heapify(self._due)
        users = list(rows)
        for n in np.argsort(np.frombuffer(touched, np.uint64), kind="stable").tolist():
            user = users[n]
            (self._refusals if user in shrunk else self._rows)[user] = rows[user]

    def _wake(self, user: str) -> None:
        """Put what a loaded row waits for on the heap, entry by entry."""
        if user not in self:
            return
        profile, memory = self.profile(user), self.memory(user)
        for ref, timer in profile.timers.items():
            self.schedule(timer.due + self._lateness_s, user, "campaign", ref)
        if profile.impressions_due_at:
            self.schedule(profile.impressions_due_at, user, "impressions", "")
        if memory.due_at:
            self.schedule(memory.due_at, user, "decisions", "")
        if profile.trials_due_at:
            self.schedule(profile.trials_due_at, user, "trials", "")
        if profile.segments_due_at:
            self.schedule(profile.segments_due_at, user, "segments", "")

    def _last_seen(self, user: str) -> float:
        row = self._hot.get(user)
        return row[0].last_seen if row is not None else self._glance(user).last_seen

    def _glance(self, user: str) -> Glance:
        row = self._hot.get(user)
        if row is not None:
            return glance_at(*row)
        assert self._codec is not None  # noqa: S101  only rows with a codec go cold
        return self._codec.glance(self.committed_row(user))

    def _peek(self, user: str) -> Profile:
        """The profile, without making its row hot."""
        row = self._hot.get(user)
        if row is None and self._codec is not None:
            row = self._codec.decode(self.committed_row(user))
        return row[0] if row is not None else Profile()

    def _thaw(self, user: str) -> tuple[Profile, ModelMemory] | None:
        value = self.committed_row(user)
        if not value or self._codec is None:
            return None
        row = self._hot[user] = self._codec.decode(value)
        return row
