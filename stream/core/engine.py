"""The flow: decode -> clean -> profile -> attribute -> learn -> recommend -> offer -> campaign -> measure.

One engine serves one partition; engines of a worker share the models and the reference view.
There is no clock: records carry event time and ``ingest_time``, and an idle host calls :meth:`Engine.tick`.
Records are taken one by one, so the result does not depend on where a batch ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.codec import Rejected, decode
from schemas.commands import Switch
from schemas.reasons import EventKind
from stream.core import profiles
from stream.core.challenging import promotion
from stream.core.commands import is_stopped, obey
from stream.core.records import Outputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schemas.events import Event
    from stream.core.attribution import Attribution
    from stream.core.campaigns import Campaigns
    from stream.core.causes import SegmentChange
    from stream.core.cleaning import Cleaner
    from stream.core.learning import Learner, Models
    from stream.core.measuring import Measurer
    from stream.core.offers import OfferDesk
    from stream.core.recommending import Recommender
    from stream.core.records import Record
    from stream.core.reference import Reference
    from stream.core.segments import Segments
    from stream.core.state import Due, PartitionState

__all__ = ["Engine"]


@dataclass(slots=True)
class Engine:
    """Everything between records and the messages they cause. No I/O, no clock, no globals.

    ``model_version`` names what the models had folded when the batch began; every decision that read a
    model is stamped with it.
    """

    state: PartitionState
    models: Models
    reference: Reference
    cleaner: Cleaner
    attribution: Attribution
    learner: Learner
    recommender: Recommender
    desk: OfferDesk
    campaigns: Campaigns
    measurer: Measurer
    segments: Segments
    model_version: str = "0"

    def process(self, batch: Sequence[Record]) -> Outputs:
        """Process records of one partition in order; outputs keep that order."""
        outputs = Outputs()
        self.models.verdicts.clear()  # of a batch that failed
        self.campaigns.look_at_items(outputs)
        events = [decode(record.value) for record in batch]  # in one go, while caches hold the decoder
        for record, event in zip(batch, events, strict=True):
            self._process_one(record, event, outputs)
            if self.models.verdicts:
                self._announce(outputs)
        return outputs

    def obey(self, command: Record) -> Outputs:
        """Carry out an operator's command; it counts from the next record on."""
        outputs = Outputs()
        obey(command, self.state, outputs)
        return outputs

    def awaits(self, elapsed_s: float) -> bool:
        """Whether something may happen in so much idle time."""
        at = self.state.header.watermark + elapsed_s
        return self.state.next_due() <= at or self.campaigns.is_awaited()

    def tick(self, elapsed_s: float) -> Outputs:
        """Let idle time pass: the watermark advances by it, and what comes due on the way fires."""
        outputs, header = Outputs(), self.state.header
        self.models.verdicts.clear()
        self.campaigns.look_at_items(outputs)
        until = header.watermark + elapsed_s
        while self.state.next_due() <= until:
            header.watermark = max(header.watermark, self.state.next_due())
            self._fire_due(outputs)
        self._announce(outputs)
        header.watermark = until
        return outputs

    def _process_one(self, record: Record, event: Event | Rejected, outputs: Outputs) -> None:
        outputs.counts["read",] += 1
        if isinstance(event, Rejected):
            outputs.reject(record, event)
            if event.heard:
                self._hear(self._dated(event.heard, record))
            return

        state, user = self.state, event.user
        on_time = self.cleaner.judge(event, state.profile(user), state.header, record.ingest_time)
        if on_time is not True:
            event = self._dated(event, record)
        if isinstance(on_time, Rejected):
            outputs.reject(record, on_time)
            self._hear(event)
            return
        outputs.accept(record, event)
        if event.kind is EventKind.UNKNOWN:
            outputs.counts["unknown",] += 1
            self._hear(event)
            return

        if on_time:
            self.cleaner.advance(event, state.header, record.ingest_time, record.reached)
            self._fire_due(outputs)

        profile, memory = state.profile(user), state.memory(user)
        self._tell(self.segments.pass_time(user, profile, event.time, outputs), outputs)
        self.cleaner.remember(event, profile)
        learns = not is_stopped(state.header, Switch.LEARNING)
        moment = profiles.update(event, profile, on_time=on_time, learns=learns)
        state.touch(user, profile, memory)
        self.models.live.judge(moment, memory)
        for feedback in self.attribution.close(moment, memory):
            self.learner.feed(feedback)
        self.learner.learn(moment, memory)
        self.recommender.recommend(moment, memory, self.model_version, outputs)
        self.desk.offer(moment, memory, self.model_version, outputs)
        self.measurer.follow(moment, outputs)
        changes = self.segments.update(moment, outputs)
        self._tell(changes if on_time else (), outputs)
        self.campaigns.advance(moment, memory, self.model_version, outputs)
        self.measurer.note(outputs, event.time)

    def _dated(self, event: Event, record: Record) -> Event:
        return self.cleaner.dated(event, self.state.header, record.ingest_time, record.reached)

    def _hear(self, event: Event) -> None:
        """Let answers count that came with an event of which nothing else does: a no must not be lost."""
        if event.purposes:
            profile, memory = self.state.profile(event.user), self.state.memory(event.user)
            if profiles.hear(event, profile):
                self.state.touch(event.user, profile, memory)

    def _announce(self, outputs: Outputs) -> None:
        """Log that another model serves."""
        outputs.decisions += [promotion(*told, self.model_version) for told in self.models.verdicts]
        self.models.verdicts.clear()

    def _tell(self, changes: Iterable[SegmentChange], outputs: Outputs) -> None:
        """Let campaigns know who entered or left a segment."""
        for change in changes:
            memory = self.state.memory(change.user)
            self.campaigns.segment_changed(change, memory, self.model_version, outputs)
            self.measurer.note(outputs, change.time)

    def _fire_due(self, outputs: Outputs) -> None:
        watermark = self.state.header.watermark
        if self.state.next_due() > watermark:
            return
        for due in self.state.pop_due(watermark):
            if due.user in self.state:
                self._fire(due, outputs)

    def _fire(self, due: Due, outputs: Outputs) -> None:
        if due in self.state.given_up:
            self.campaigns.give_up(due, self.model_version, outputs)
        elif due.kind == "campaign":
            self.campaigns.fire(due, self.model_version, outputs)
            self.measurer.note(outputs, due.at)
        elif due.kind == "trials":
            self.measurer.close(due)
        elif due.kind == "segments":
            self._tell(self.segments.fire(due, outputs), outputs)
        else:
            learns = not is_stopped(self.state.header, Switch.LEARNING)
            for feedback in self.attribution.expire(due, teaches=learns):
                self.learner.feed(feedback)
