"""What one partition remembers: a profile per user, timers, and a header for what is nobody's.

All of it is model-free but :class:`ModelMemory`, which holds what a model told us about the user.
The two are encoded apart, so that the model-free part of a run can be compared byte for byte.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Due", "Header", "Impression", "ModelMemory", "OpenDecision", "PartitionState", "Profile", "Timer"]

MAX_SPARED = 64  # rows looked at to find one that may go; keeps an eviction cheap when refusals abound


class Timer(Struct, array_like=True):
    """A live campaign timer: one per (user, campaign, key)."""

    due: float
    message_id: str  # of the event that last moved it
    event: str
    event_time: float
    context: dict[str, str | float]


class Impression(Struct, array_like=True):
    """An item that was shown in a list, with the click model's features as they were then."""

    item_id: str
    slots: list[int]
    deadline: float


class OpenDecision(Struct, array_like=True):
    """A decision that may still be rewarded, with the features logged when it was made."""

    kind: str
    action: str
    deadline: float
    items: list[str] = field(default_factory=list)
    features: list[float] = field(default_factory=list)


class ModelMemory(Struct, array_like=True):
    """The model-dependent part of a profile."""

    factors: bytes = b""
    open: dict[str, OpenDecision] = field(default_factory=dict)
    due_at: float = 0.0  # when open decisions are looked at next; 0: nothing is scheduled


class Profile(Struct, array_like=True):
    """The model-free state of one user. Times are event time, seconds since the epoch."""

    known: bool = False
    touched: int = 0  # sequence number of the last accepted event in the partition; orders eviction
    first_seen: float = 0.0
    last_seen: float = float("-inf")
    session_start: float = 0.0
    n_events: int = 0
    n_views: int = 0
    n_adds: int = 0
    n_orders: int = 0
    revenue: dict[str, float] = field(default_factory=dict)
    time_zone: str | None = None
    consent: dict[str, bool] = field(default_factory=dict)
    unsubscribed: list[str] = field(default_factory=list)
    ring: list[str] = field(default_factory=list)  # distinct items, newest first
    views: dict[str, int] = field(default_factory=dict)
    bought: dict[str, float] = field(default_factory=dict)
    seen_ids: list[int] = field(default_factory=list)
    minute: int = 0
    minute_events: int = 0
    slot_times: dict[str, float] = field(default_factory=dict)
    timers: dict[str, Timer] = field(default_factory=dict)
    sent_times: dict[str, float] = field(default_factory=dict)
    cap_day: int = 0
    cap_count: int = 0
    campaign_day: dict[str, list[int]] = field(default_factory=dict)  # campaign -> [day, count]
    impressions: list[Impression] = field(default_factory=list)
    impressions_due_at: float = 0.0  # when they are looked at next; 0: nothing is scheduled

    @property
    def lets_learn(self) -> bool:
        """Whether models may learn from the user: unless the answer was no."""
        return self.consent.get("learn", True)

    @property
    def refuses(self) -> bool:
        """Whether the user unsubscribed from a channel or denied a purpose."""
        return bool(self.unsubscribed) or False in self.consent.values()


class Header(Struct, array_like=True):
    """What belongs to the partition and to nobody in it."""

    watermark: float = float("-inf")
    jump_time: float = float("-inf")  # an unconfirmed jump of the watermark, and who caused it
    jump_user: str = ""
    sequence: int = 0
    spend: dict[str, float] = field(default_factory=dict)  # offer -> spent here


class Due(Struct, frozen=True, order=True):
    """Something that happens when the watermark passes ``at``; ordered, so the heap is deterministic."""

    at: float
    user: str
    kind: str
    ref: str


class PartitionState:
    """All users of one partition, bounded, with the set of rows that changed since the last commit."""

    def __init__(self, max_users: int = 1_000_000) -> None:
        self.header = Header()
        self.profiles: OrderedDict[str, Profile] = OrderedDict()
        self.memories: dict[str, ModelMemory] = {}
        self.dirty: set[str] = set()
        self.forgotten: set[str] = set()
        self._max_users = max_users
        self._due: list[Due] = []

    def __len__(self) -> int:
        return len(self.profiles)

    def profile(self, user: str) -> Profile:
        """The user's profile; a new user's is not stored before :meth:`touch`."""
        return self.profiles.get(user) or Profile()

    def memory(self, user: str) -> ModelMemory:
        """The user's model memory; stored once asked for by :meth:`touch`."""
        return self.memories.get(user) or ModelMemory()

    def touch(self, user: str, profile: Profile, memory: ModelMemory) -> None:
        """Store an accepted event's profile as the most recently active, forgetting the least where full."""
        header = self.header
        header.sequence += 1
        profile.touched = header.sequence
        self.profiles[user] = profile
        self.profiles.move_to_end(user)
        self.memories[user] = memory
        self.dirty.add(user)
        self.forgotten.discard(user)
        if len(self.profiles) > self._max_users:
            self._make_room()

    def _make_room(self) -> None:
        """Forget the least recently active user, but first those who refused nothing.

        Who unsubscribed or denied a purpose keeps a row of that alone and moves to the end: forgetting a
        refusal could mean to write to somebody who said no.
        """
        for _ in range(MAX_SPARED):
            oldest, profile = next(iter(self.profiles.items()))
            if not profile.refuses:
                break
            self.header.sequence += 1
            self.profiles[oldest] = Profile(
                known=profile.known,
                touched=self.header.sequence,
                consent=profile.consent,
                unsubscribed=profile.unsubscribed,
            )
            self.memories[oldest] = ModelMemory()
            self.profiles.move_to_end(oldest)
            self.dirty.add(oldest)
        self.forget(next(iter(self.profiles)))

    def forget(self, user: str) -> None:
        """Drop all that is known of a user and leave a tombstone; timers die when they come due."""
        self.profiles.pop(user, None)
        self.memories.pop(user, None)
        self.dirty.discard(user)
        self.forgotten.add(user)

    def schedule(self, at: float, user: str, kind: str, ref: str) -> None:
        """Remember to look again at ``ref`` of ``user`` when the watermark passes ``at``."""
        heappush(self._due, Due(at, user, kind, ref))

    def pop_due(self, watermark: float) -> Iterator[Due]:
        """All that is due, in order of (time, user, kind, ref); what it schedules may be due too."""
        while self._due and self._due[0].at <= watermark:
            yield heappop(self._due)

    def next_due(self) -> float:
        """Event time at which something may happen next; infinity if nothing waits."""
        return self._due[0].at if self._due else float("inf")

    def pending_timers(self) -> dict[str, int]:
        """Live timers per campaign."""
        counts: dict[str, int] = {}
        for profile in self.profiles.values():
            for ref in profile.timers:
                campaign = ref.partition("\x1f")[0]
                counts[campaign] = counts.get(campaign, 0) + 1
        return counts

    def load(
        self, header: Header | None, rows: Iterable[tuple[str, Profile, ModelMemory]], lateness_s: float
    ) -> None:
        """Take over restored rows: the eviction order and the heap are derived from them."""
        if header is not None:
            self.header = header
        for user, profile, memory in sorted(rows, key=lambda row: row[1].touched):
            self.profiles[user] = profile
            self.memories[user] = memory
            for ref, timer in profile.timers.items():
                self._due.append(Due(timer.due + lateness_s, user, "campaign", ref))
            if profile.impressions_due_at:
                self._due.append(Due(profile.impressions_due_at, user, "impressions", ""))
            if memory.due_at:
                self._due.append(Due(memory.due_at, user, "decisions", ""))
        heapify(self._due)
