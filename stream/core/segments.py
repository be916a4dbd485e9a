"""Segments: keep each user's memberships up to date, with every event and with every threshold of time.

A membership changes when an event changes what is known of the user, or when a threshold of time is passed
(lapsed after 90 days). The times at which a condition may change follow from the facts that it names, so only
they are looked at: one entry on the heap for a user, and none where no condition depends on time. A threshold
is applied at its own time, before any later event, whether a timer finds it or an event: so the result does
not depend on where a batch ends, and on ordered input not on the partition count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from schemas.codec import rfc3339
from schemas.ids import id_of
from schemas.outputs import Cause, Membership
from stream.core import lifecycle
from stream.core.causes import SegmentChange
from stream.core.conditions import Facts, compiled
from stream.core.nearest import nearest_tests

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.conditions import Condition
    from stream.core.conditions import Test
    from stream.core.config import CampaignPolicy
    from stream.core.profiles import Moment
    from stream.core.records import Outputs
    from stream.core.reference import Reference
    from stream.core.rows import Profile
    from stream.core.state import Due, PartitionState

    Boundaries = Callable[[Profile], Iterable[float]]

__all__ = ["MAX_SEGMENTS", "TIME_PASSED", "Segments"]

MAX_SEGMENTS: Final = 64  # in force at a time, the first by id; bounds what a user's row holds
GRAIN_S: Final = (
    0.001  # a threshold is applied so long after it, where both "at least" and "above" have changed
)
TIME_PASSED: Final = "Time Passed"
NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class _Rule:
    version: str
    test: Test


class Segments:
    """Memberships of one partition's users."""

    def __init__(self, policy: CampaignPolicy, reference: Reference, state: PartitionState) -> None:
        self._lateness_s = policy.lateness_s
        self._reference = reference
        self._state = state
        self._rules: dict[str, _Rule] = {}
        self._boundaries: list[Boundaries] = []  # of all rules, each once
        self._revision = -1

    def pass_time(self, user: str, profile: Profile, until: float, outputs: Outputs) -> list[SegmentChange]:
        """Apply the thresholds of time that a user has passed by then, each at its own time."""
        changes: list[SegmentChange] = []
        if not profile.segments_due_at:
            return changes
        while (at := self._next(profile)) <= until:
            changes += self._look(user, profile, at, None, outputs)
        return changes

    def update(self, moment: Moment, outputs: Outputs) -> list[SegmentChange]:
        """Look at a user after an event."""
        profile, event = moment.profile, moment.event
        if not self._current() and not profile.segments:
            return []
        cause = Cause(event.message_id, event.name, rfc3339(event.time))
        now = max(event.time, profile.segments_at)
        changes = self._look(event.user, profile, now, cause, outputs)
        self._wait(event.user, profile)
        return changes

    def fire(self, due: Due, outputs: Outputs) -> list[SegmentChange]:
        """Apply what has come due for a user, and wait for the next threshold."""
        profile = self._state.profile(due.user)
        if due.at != profile.segments_due_at:
            return []
        changes = self.pass_time(due.user, profile, due.at - self._lateness_s, outputs)
        profile.segments_due_at = 0.0
        self._wait(due.user, profile)
        self._state.dirty.add(due.user)
        return changes

    def _current(self) -> dict[str, _Rule]:
        segments = self._reference.segments
        if segments.changes.revision != self._revision:
            enabled = (segment for _, segment in sorted(segments.items()) if segment.enabled)
            active = list(islice(enabled, MAX_SEGMENTS))
            nearest = nearest_tests(active)
            self._rules = {
                one.segment_id: _Rule(str(one.version), nearest.get(one.segment_id) or compiled(one.when))
                for one in active
            }
            conditions = [one.when for one in active if one.when is not None]
            self._boundaries = list(
                {key: found for when in conditions for key, found in _boundaries(when)}.values()
            )
            self._revision = segments.changes.revision
            self._state.tracks_segments |= bool(self._rules)
        return self._rules

    def _look(
        self, user: str, profile: Profile, now: float, cause: Cause | None, outputs: Outputs
    ) -> list[SegmentChange]:
        """Compare what is with what was; ``now`` is the time of what changes."""
        rules, members, facts = self._current(), profile.segments, Facts(profile, now)
        profile.segments_at = now
        entered = [name for name, rule in rules.items() if name not in members and rule.test(facts)]
        left = [name for name in members if name not in rules or not rules[name].test(facts)]
        for name in left:
            del members[name]
        members.update(dict.fromkeys(entered, now))
        changes = [(name, False) for name in left] + [(name, True) for name in entered]
        found = []
        for name, member in changes:
            self._state.left_behind.pop(f"{user}|{name}", None)  # who was forgotten is back
            message_id, event = (cause.message_id, cause.event) if cause else (f"{now:.3f}", TIME_PASSED)
            change_id = id_of("segment", user, name, message_id, "entered" if member else "left")
            version = rules[name].version if name in rules else None
            outputs.segments.append(
                Membership(
                    id=change_id,
                    user_id=user,
                    segment=name,
                    segment_version=version,
                    member=member,
                    changed_at=rfc3339(now),
                    stage=lifecycle.stage(profile, now),
                    recency=lifecycle.recency(profile, now),
                    frequency=lifecycle.frequency(profile),
                    monetary=lifecycle.monetary(profile),
                    lifetime_value=dict(profile.revenue),
                    cause=cause,
                )
            )
            outputs.counts["segment", name, "entered" if member else "left"] += 1
            found.append(
                SegmentChange(user, name, member, now, cause.message_id if cause else change_id, event)
            )
        return found

    def _next(self, profile: Profile) -> float:
        """The first time after the last look at which a condition may change."""
        self._current()
        times = (at + GRAIN_S for boundaries in self._boundaries for at in boundaries(profile))
        return min((at for at in times if at > profile.segments_at), default=NEVER)

    def _wait(self, user: str, profile: Profile) -> None:
        """One entry a user, which may come too early: then nothing has changed, and it moves on."""
        at = self._next(profile) + self._lateness_s
        if at < NEVER and (not profile.segments_due_at or at < profile.segments_due_at):
            profile.segments_due_at = at
            self._state.schedule(at, user, "segments", "")


def _boundaries(condition: Condition) -> Iterable[tuple[object, Boundaries]]:
    """For each fact that time alone changes: when it may, by the profile; with what tells it from others."""
    for inner in condition.comparisons():
        bounds = [
            bound for bound in (inner.at_least, inner.at_most, inner.above, inner.below) if bound is not None
        ]
        if inner.fact == "user.stage":
            yield inner.fact, _stage_changes
        elif inner.fact == "user.recency":
            yield inner.fact, _after("last_order_at", lifecycle.RECENCY_S)
        elif inner.fact in _SINCE:
            yield (inner.fact, *bounds), _after(_SINCE[inner.fact], bounds)


_SINCE: Final = {
    "user.age_s": "first_seen",
    "user.order_age_s": "last_order_at",
    "user.active_age_s": "last_active",
}


def _stage_changes(profile: Profile) -> Iterable[float]:
    return (
        profile.first_seen + lifecycle.NEW_S,
        profile.last_active + lifecycle.ACTIVE_S,
        profile.last_active + lifecycle.LAPSED_S,
        profile.returned_at + lifecycle.WON_BACK_S,
    )


def _after(name: str, offsets: Iterable[float]) -> Boundaries:
    fixed = tuple(offsets)

    def changes(profile: Profile) -> Iterable[float]:
        since: float = getattr(profile, name)
        return [since + offset for offset in fixed]

    return changes
