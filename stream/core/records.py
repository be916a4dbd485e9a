"""What enters and leaves the engine: records in, effects as values out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.outputs import DeadLetter, Decision, Membership, Recommendation, Trigger
from schemas.reasons import RejectCode

if TYPE_CHECKING:
    from schemas.events import Event, Rejected

__all__ = ["Outputs", "Record"]


@dataclass(frozen=True, slots=True)
class Record:
    """One input record. ``ingest_time`` is the broker's append time, seconds since the epoch.

    ``reached`` is the event time that a recording without a broker's clock has reached with it, for what
    follows is known there and tells a real gap from a clock that is ahead; ``None`` where nobody looked.
    """

    value: bytes
    ingest_time: float
    offset: int = -1
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    reached: float | None = None


@dataclass(slots=True)
class Outputs:
    """The effects of a batch, in order, and what was counted on the way.

    ``counts`` keys are tuples: ``("read",)``, ``("rejected", code)``, ``("campaign", id, "sent")`` and so on;
    the shell turns them into metrics and reports. ``revenue`` is that of orders that followed a message, by
    campaign and currency.
    """

    recommendations: list[Recommendation] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    segments: list[Membership] = field(default_factory=list)
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    revenue: dict[tuple[str, str], float] = field(default_factory=dict)
    noted_triggers: int = 0  # how many of them the measuring stage has seen
    noted_decisions: int = 0

    def accept(self, record: Record, event: Event) -> None:
        """Count an accepted record, what is wrong with it, and whether its key is not its user.

        Who has two keys has two rows.
        """
        self.counts["accepted",] += 1
        if event.fault is not None:
            self.counts["faulty", event.fault.code.value] += 1
        if record.key != event.user.encode():
            self.counts["foreign_key",] += 1

    def reject(self, record: Record, rejected: Rejected) -> None:
        """Dead-letter a record; a duplicate is only counted, for its first sight was accepted."""
        if rejected.code is RejectCode.DUPLICATE:
            self.counts["duplicate",] += 1
            return
        self.counts["rejected", rejected.code.value] += 1
        self.dead_letter(record, rejected)

    def dead_letter(self, record: Record, rejected: Rejected) -> None:
        """Send a record back with what is wrong with it."""
        self.dead_letters.append(
            DeadLetter(
                code=rejected.code.value,
                path=rejected.path,
                message=rejected.message,
                key=record.key,
                value=record.value,
                headers=record.headers,
                offset=record.offset,
            )
        )
