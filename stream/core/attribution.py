"""Attribute: join feedback to the decisions and impressions it answers, with the features logged then.

Windows expire to reward 0. A refund or cancellation takes back the reward that its order gave to an offer: a
second example with reward 0 for the same context. Nothing answers what was not there yet, but where it echoes
the decision: then it is a clock that is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.ids import id_of
from schemas.reasons import EventKind
from stream.core.features import click_features
from stream.core.influence import Influence
from stream.core.rows import ROUNDING_S, Impression, OpenDecision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from schemas.events import Event
    from schemas.outputs import Trigger
    from stream.core.causes import Occasion
    from stream.core.config import AttributionConfig
    from stream.core.profiles import Moment
    from stream.core.rows import ModelMemory
    from stream.core.state import Due, PartitionState

__all__ = ["Attribution", "Feedback"]

_K = EventKind
SLATE = "recommendation"
_ITEM_RESPONSES = frozenset({_K.CLICK, _K.VIEW, _K.CART_ADD})
_OFFER_RESPONSES = frozenset({_K.PROMOTION_CLICK, _K.EMAIL_CLICK, _K.COUPON, _K.ORDER})
_REVERSALS = frozenset({_K.REFUND, _K.CANCEL})
MAX_CLICKED = 16  # of a user, still in their window; the oldest goes
REWARDED = "offer:rewarded"
UNANSWERED = "offer:unanswered"  # counted as a zero, but an answer may still come
SENT = "message"  # nobody has told what became of it
ARRIVED = "message:arrived"  # delivered or opened: who does not click now did not want to
_TEACHES_ZERO = frozenset({"offer", ARRIVED})  # without an answer by the deadline
_MESSAGE_REPORTS = frozenset({_K.EMAIL_DELIVERED, _K.EMAIL_OPEN, _K.EMAIL_CLICK, _K.EMAIL_BOUNCE})


@dataclass(frozen=True, slots=True)
class Feedback:
    """A decision or impression with its reward.

    Attributes
    ----------
    kind : {"click", "conversion", "offer"}
        Which learner it is for.
    action : str
        The item, or the offer.
    features : list of int or float
        As logged at decision time: slots for clicks, a context vector for offers.
    reward : float
        1 for a response, 0 for none.
    at : float
        Event time at which the reward is known, s since the epoch.
    category : str
        The offer's category when it was made.
    delayed : bool
        Whether zeros are learned before the last answer could have come, so that it needs a weight.
    logged : sequence of float
        What was kept beside the features: of an offer its weights for off-policy estimates, of an impression
        its features as a challenger hashes them.
    """

    kind: str
    action: str
    features: list[int] | list[float]
    reward: float
    at: float
    category: str = ""
    delayed: bool = False
    logged: Sequence[float] = field(default=(), repr=False)  # not part of what samples negatives


class Attribution:
    """Opens and closes what may still be rewarded, per user, bounded by time and count."""

    def __init__(
        self,
        config: AttributionConfig,
        state: PartitionState,
        slots_of: Callable[[Mapping[str, str]], list[int]],
        trial_slots_of: Callable[[Mapping[str, str]], list[int]] | None = None,
    ) -> None:
        self._config = config
        self._state = state
        self._slots_of = slots_of
        self._trial_slots_of = trial_slots_of
        self._influence = Influence(config, state)

    def close(self, moment: Moment, memory: ModelMemory) -> list[Feedback]:
        """Return feedback that an event gives, and open the impressions that it makes."""
        event = moment.event
        feedback: list[Feedback] = []
        if event.kind in _ITEM_RESPONSES:
            feedback += self._clicked(moment, memory)
            self._close_slate(event, memory)
        if event.kind in _OFFER_RESPONSES:
            feedback += self._responded(event, memory)
        if event.kind is _K.ORDER and memory.clicked:
            feedback += self._ordered(event, memory)
        if event.kind in _MESSAGE_REPORTS:
            feedback += self._reported(event, memory)
        if event.kind in _REVERSALS:
            feedback += _reversed(event, memory)
        if event.kind is _K.LIST_VIEW and moment.teaches:
            feedback += self._shown(moment)
        return self._influence.bounded(feedback, memory) if moment.teaches else []

    def sent(self, trigger: Trigger, features: Mapping[str, str], item_id: str, occasion: Occasion) -> None:
        """Remember a message that was sent: a click in it, or none, will teach the click model."""
        if not occasion.profile.lets_learn:
            return
        message = OpenDecision(
            SENT,
            item_id,
            occasion.now + self._config.decision_window_s,
            features=[float(slot) for slot in self._slots_of(features)],
            category=trigger.campaign_id,
            logged=[float(slot) for slot in self._trial_slots(features)],
        )
        self.open(trigger.id, message, occasion.user, occasion.memory)

    def open(self, decision_id: str, decision: OpenDecision, user: str, memory: ModelMemory) -> None:
        """Remember a decision until its deadline; when a user has too many the oldest is over at once.

        Slates have a bound of their own: they come with every page, and teach nothing when they are answered.
        """
        early, opened = self._config.offer_elapsed_s, decision.deadline - self._config.decision_window_s
        if decision.kind == "offer" and early is not None:
            decision.until, decision.deadline = decision.deadline, min(opened + early, decision.deadline)
        memory.open[decision_id] = decision
        due, is_slate = decision.deadline, decision.kind == SLATE
        most = self._config.max_slates if is_slate else self._config.max_open
        alike = [ref for ref, other in memory.open.items() if (other.kind == SLATE) is is_slate]
        for ref in alike[:-most]:
            oldest = memory.open[ref]
            if oldest.kind in _TEACHES_ZERO:
                oldest.deadline, oldest.until, due = opened, 0.0, opened
            else:
                del memory.open[ref]
        # Mostly one entry a user: the heap of a partition stays as small as its users are many.
        if not memory.due_at or due < memory.due_at:
            memory.due_at = due
            self._state.schedule(due, user, "decisions", "")

    def expire(self, due: Due, *, teaches: bool = True) -> list[Feedback]:
        """Close what was not answered in time: reward 0, if anything teaches and its user lets us learn."""
        profile, memory = self._state.profile(due.user), self._state.memory(due.user)
        feedback: list[Feedback] = []
        if due.kind == "impressions" and due.at == profile.impressions_due_at:
            late = [i for i in profile.impressions if i.deadline <= due.at]
            profile.impressions = [i for i in profile.impressions if i.deadline > due.at]
            profile.impressions_due_at = self._again(due, [i.deadline for i in profile.impressions])
            feedback = [_looked_at(i, 0.0, due.at) for i in late]
        elif due.kind == "decisions" and due.at == memory.due_at:
            overdue = {ref: d for ref, d in memory.open.items() if d.deadline <= due.at}
            feedback = [
                self._unanswered(decision, due.at)
                for decision in overdue.values()
                if decision.kind in _TEACHES_ZERO
            ]
            for ref, decision in overdue.items():
                if decision.until > due.at:
                    decision.deadline, decision.until = decision.until, 0.0
                    decision.kind = UNANSWERED if decision.kind == "offer" else decision.kind
                else:
                    del memory.open[ref]
            memory.due_at = self._again(due, [d.deadline for d in memory.open.values()])
        return self._influence.bounded(feedback, memory) if teaches and profile.lets_learn else []

    def _again(self, due: Due, deadlines: list[float]) -> float:
        """Schedule the next look at what is still open; return its time, 0 for none."""
        self._state.dirty.add(due.user)
        if not deadlines:
            return 0.0
        self._state.schedule(min(deadlines), due.user, due.kind, "")
        return min(deadlines)

    def _shown(self, moment: Moment) -> list[Feedback]:
        """Remember what a list shows; what there is no room for any more was looked at long enough: 0."""
        event, profile = moment.event, moment.profile
        deadline = event.time + self._config.click_window_s
        for place, product in enumerate(event.items[: self._config.max_impressions]):
            features = click_features(event, product, place, profile)
            item_id = str(product.product_id)
            slots, trial = self._slots_of(features), self._trial_slots(features)
            profile.impressions.append(Impression(item_id, slots, deadline, trial))
        if profile.impressions and not profile.impressions_due_at:
            profile.impressions_due_at = deadline
            self._state.schedule(deadline, event.user, "impressions", "")
        displaced = profile.impressions[: -self._config.max_impressions]
        del profile.impressions[: len(displaced)]
        return [_looked_at(impression, 0.0, event.time) for impression in displaced]

    def _trial_slots(self, features: Mapping[str, str]) -> list[int]:
        return self._trial_slots_of(features) if self._trial_slots_of is not None else []

    def _clicked(self, moment: Moment, memory: ModelMemory) -> list[Feedback]:
        profile, item_id, time = moment.profile, moment.event.item_id, moment.event.time
        if not profile.impressions:
            return []
        hits = [
            one
            for one in profile.impressions
            if one.item_id == item_id
            and _within(time, one.deadline, self._config.click_window_s)
            and not one.passed
        ]
        if not hits:
            return []
        *earlier, clicked = hits
        for impression in earlier:  # shown in vain: a zero when its time is over, like that of any other
            impression.passed = True
        profile.impressions = [one for one in profile.impressions if one is not clicked]
        return self._click(clicked, time, memory)

    def _click(self, hit: Impression, time: float, memory: ModelMemory) -> list[Feedback]:
        feedback = [_looked_at(hit, 1.0, time)]
        if window_s := self._config.conversion_window_s:
            # A zero at once, weighted for the order that may still come: nothing has to wait for the window.
            feedback.append(Feedback("conversion", hit.item_id, hit.slots, 0.0, time))
            clicked = [i for i in memory.clicked if i.deadline >= time]
            clicked.append(Impression(hit.item_id, hit.slots, time + window_s))
            memory.clicked = clicked[-MAX_CLICKED:]
        return feedback

    def _responded(self, event: Event, memory: ModelMemory) -> list[Feedback]:
        """The offer that an event answers within its window: the echoed one, else the newest it names."""
        if event.name in {"Coupon Denied", "Coupon Removed"}:
            return []
        if event.kind is _K.ORDER:
            _redeemed(event, memory)
        waiting = {ref: decision for ref, decision in memory.open.items() if _waits(decision, event.time)}
        # An order as such is no answer to an offer: people buy without one. Its coupon is.
        named, window_s = _named(event), self._config.decision_window_s
        touched = (
            decision
            for decision in reversed(waiting.values())
            if decision.action in named
            and _within(event.time, max(decision.deadline, decision.until), window_s)
        )
        decision = waiting.get(event.decision_id or "") or next(touched, None)
        if decision is None:
            return []
        decision.kind = REWARDED  # stays until its deadline, in case the order is refunded
        decision.order = _order_of(event) if event.kind is _K.ORDER else ""
        return [self._offered(decision, 1.0, event.time)]

    def _unanswered(self, decision: OpenDecision, at: float) -> Feedback:
        if decision.kind == ARRIVED:
            return _looked_at(_impression_of(decision), 0.0, at)
        return self._offered(decision, 0.0, at)

    def _reported(self, event: Event, memory: ModelMemory) -> list[Feedback]:
        """What the mail system tells of a message. Without a word of it nothing is learned: it may be silent.

        That a mail was opened is no answer, for mail programs open them too; it only says that it arrived.
        """
        ref = _message_named(event, memory)
        if ref is None:
            return []
        message = memory.open[ref]
        if event.kind in {_K.EMAIL_DELIVERED, _K.EMAIL_OPEN}:
            message.kind = ARRIVED
            return []
        del memory.open[ref]
        clicked = event.kind is _K.EMAIL_CLICK and event.time <= message.deadline
        return self._click(_impression_of(message), event.time, memory) if clicked else []

    def _ordered(self, event: Event, memory: ModelMemory) -> list[Feedback]:
        """The newest click on each ordered item has led to an order."""
        feedback, window_s = [], self._config.conversion_window_s
        for item_id in dict.fromkeys(str(product.product_id) for product in event.items):
            hits = [
                one
                for one in memory.clicked
                if one.item_id == item_id and _within(event.time, one.deadline, window_s)
            ]
            memory.clicked = [one for one in memory.clicked if one not in hits]
            feedback += [Feedback("conversion", item_id, one.slots, 1.0, event.time) for one in hits[-1:]]
        return feedback

    def _close_slate(self, event: Event, memory: ModelMemory) -> None:
        """Close the slate that an event answers: the echoed one, else the newest that has the item."""
        slates = [ref for ref, one in memory.open.items() if one.kind == SLATE and event.time <= one.deadline]
        if event.decision_id in slates:
            del memory.open[event.decision_id]
            return
        line, window_s = f"\n{event.item_id}\n", self._config.decision_window_s
        for ref in reversed(slates):
            slate = memory.open[ref]
            had = line in slate.action or event.item_id in slate.items
            if had and _within(event.time, slate.deadline, window_s):
                del memory.open[ref]
                return

    def _offered(self, decision: OpenDecision, reward: float, at: float) -> Feedback:
        delayed = self._config.offer_elapsed_s is not None
        return Feedback(
            "offer",
            decision.action,
            decision.features,
            reward,
            at,
            decision.category,
            delayed=delayed,
            logged=decision.logged,
        )


def _named(event: Event) -> set[str]:
    """What an event names that may be an offer."""
    names = (event.properties.promotion_id, event.properties.coupon, event.properties.coupon_id)
    return {str(name) for name in names if name is not None}


def _order_of(event: Event) -> str:
    """What names an order: its id, else that of its event."""
    return str(event.properties.order_id or event.message_id)


def _redeemed(event: Event, memory: ModelMemory) -> None:
    """An order with the coupon of an offer that was rewarded for it before: its refund counts, too."""
    named = _named(event)
    for decision in memory.open.values():
        if decision.kind == REWARDED and not decision.order and decision.action in named:
            decision.order = _order_of(event)


def _reversed(event: Event, memory: ModelMemory) -> list[Feedback]:
    """Take back what the order earned; where the refund names none, the newest that any order earned."""
    order_id = event.properties.order_id
    for ref in reversed(memory.open):
        one = memory.open[ref]
        if one.kind == REWARDED and one.order and (order_id is None or one.order == str(order_id)):
            del memory.open[ref]
            return [Feedback("offer", one.action, one.features, 0.0, event.time, one.category)]
    return []


def _looked_at(impression: Impression, reward: float, at: float) -> Feedback:
    return Feedback("click", impression.item_id, impression.slots, reward, at, logged=impression.trial)


def _within(time: float, deadline: float, window_s: float) -> bool:
    """Whether a time lies in the window that ends at a deadline."""
    return deadline - window_s - ROUNDING_S <= time <= deadline


def _waits(decision: OpenDecision, time: float) -> bool:
    """Whether a decision is an offer that may still be answered at a time."""
    return decision.kind in {"offer", UNANSWERED} and time <= max(decision.deadline, decision.until)


def _message_named(event: Event, memory: ModelMemory) -> str | None:
    """The open message that an event names: by an id of ours, else the newest of the campaign."""
    messages = [ref for ref, decision in memory.open.items() if decision.kind in {SENT, ARRIVED}]
    if not messages:
        return None
    for ref in messages:
        if event.decision_id in {ref, id_of("decision", ref), id_of("offer", ref)}:
            return ref
    campaign_id = str(event.properties.campaign_id)
    return next((ref for ref in reversed(messages) if memory.open[ref].category == campaign_id), None)


def _impression_of(message: OpenDecision) -> Impression:
    """A message is an impression of its item, in a list of one."""
    slots, trial = ([int(slot) for slot in hashed] for hashed in (message.features, message.logged))
    return Impression(message.action, slots, message.deadline, trial)
