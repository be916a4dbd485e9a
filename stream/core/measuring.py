"""Measure: follow messages to what they lead to, and treated users against held-out ones.

Two questions, two units. The *funnel* counts messages: delivered, opened, clicked, and the order that
followed (last touch: an order belongs to the newest message within the window). It says what happened after
messages, not because of them. *Lift* counts users: each user's first message of a campaign, sent or held
out, opens a trial; when its window is over the user counts once, with an order or without. Treated and
held-out users are alike but for the message, for the holdout is checked last. So the difference is what the
messages caused.

A unit is counted when its window closes, never earlier, so that buyers and others are seen equally late; the
intervals of ``online_models.anytime`` need that.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from schemas.ids import bucket, token
from schemas.reasons import EventKind, SuppressionReason
from stream.core.rows import Message, Tally, Trial

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.events import Event
    from schemas.outputs import Decision, Trigger
    from stream.core.config import CampaignPolicy, LiftConfig
    from stream.core.profiles import Moment
    from stream.core.records import Outputs
    from stream.core.reference import Reference
    from stream.core.rows import Profile
    from stream.core.state import Due, PartitionState

__all__ = ["ALL", "CONTROL", "TREATED", "Measurer", "merged"]

TREATED, CONTROL = 0, 1
ALL: Final = "*"  # the trial of all campaigns together against the global holdout
MAX_MESSAGES: Final = 16  # of a user, still in their window; the oldest goes
MAX_TRIALS: Final = 64  # of a user, closed ones included; beyond, a user opens no more
MAX_TALLIES: Final = 256  # campaigns of a partition; beyond, lift is not measured
MAX_CURRENCIES: Final = 4  # of a tally; each has a sum and a sum of squares for both arms

_K = EventKind
# What the mail system reports about a message: the name in the funnel, and its bit in a message's record.
STAGES: Final[dict[EventKind, tuple[str, int]]] = {
    _K.EMAIL_DELIVERED: ("delivered", 1),
    _K.EMAIL_OPEN: ("opened", 2),
    _K.EMAIL_CLICK: ("clicked", 4),
    _K.EMAIL_BOUNCE: ("bounced", 8),
    _K.UNSUBSCRIBE: ("unsubscribed", 16),
}
CONVERTED: Final = 32


class Measurer:
    """Messages and trials of one partition's users."""

    def __init__(
        self, config: LiftConfig, policy: CampaignPolicy, reference: Reference, state: PartitionState
    ) -> None:
        self._config = config
        self._policy = policy
        self._reference = reference
        self._state = state

    def follow(self, moment: Moment, outputs: Outputs) -> None:
        """Let an accepted event answer the messages and trials of its user."""
        profile = moment.profile
        if not (profile.messages or profile.trials):
            return
        event = moment.event
        if event.kind in STAGES:
            self._report(event, profile, outputs)
        elif event.kind is _K.ORDER:
            self._convert(event, profile, outputs)

    def note(self, outputs: Outputs, now: float) -> None:
        """Remember the messages that were decided at ``now``, sent or held out, since the last call."""
        if len(outputs.decisions) == outputs.noted_decisions:
            return
        for trigger in islice(outputs.triggers, outputs.noted_triggers, None):
            if not trigger.dry_run:
                user = trigger.recipient.user_id or trigger.recipient.anonymous_id or ""
                self._sent(trigger, self._state.profile(user), now)
        for decision in islice(outputs.decisions, outputs.noted_decisions, None):
            if decision.kind in {"trigger", "holdout"} or decision.reason == SuppressionReason.NOTHING_CHOSEN:
                self._chosen(decision, now, outputs)
        outputs.noted_triggers, outputs.noted_decisions = len(outputs.triggers), len(outputs.decisions)

    def close(self, due: Due) -> None:
        """Count the trials whose window is over, and look again when the next one is."""
        profile = self._state.profile(due.user)
        if due.at != profile.trials_due_at:
            return
        until = due.at - self._policy.lateness_s
        for campaign_id, trial in profile.trials.items():
            if trial.open and trial.until <= until:
                trial.open = False
                self._count(campaign_id, trial)
                trial.revenue.clear()
        self._schedule(due.user, profile)
        self._state.dirty.add(due.user)

    def _report(self, event: Event, profile: Profile, outputs: Outputs) -> None:
        message = _named(event, profile)
        stage, bit = STAGES[event.kind]
        if message is not None and not message.seen & bit:
            message.seen |= bit
            outputs.counts["campaign", message.campaign_id, stage] += 1

    def _convert(self, event: Event, profile: Profile, outputs: Outputs) -> None:
        time, window_s = event.time, self._config.window_s
        amount, currency = _paid(event)
        touched = [m for m in profile.messages if m.sent_at <= time <= m.sent_at + window_s]
        if touched:
            newest = max(reversed(touched), key=lambda message: message.sent_at)
            if not newest.seen & CONVERTED:
                newest.seen |= CONVERTED
                outputs.counts["campaign", newest.campaign_id, "converted"] += 1
            if currency:
                key = newest.campaign_id, currency
                outputs.revenue[key] = outputs.revenue.get(key, 0.0) + amount
        for trial in profile.trials.values():
            if trial.open and trial.began <= time <= trial.until:
                trial.converted = True
                if currency and (currency in trial.revenue or len(trial.revenue) < MAX_CURRENCIES):
                    trial.revenue[currency] = trial.revenue.get(currency, 0.0) + amount

    def _sent(self, trigger: Trigger, profile: Profile, now: float) -> None:
        horizon = now - self._config.window_s
        kept = [message for message in profile.messages if message.sent_at >= horizon]
        ids = [token(trigger.decision.decision_id), token(trigger.id)]
        profile.messages = [*kept, Message(trigger.campaign_id, ids, now)][-MAX_MESSAGES:]

    def _chosen(self, decision: Decision, now: float, outputs: Outputs) -> None:
        """Count a message that no rule stopped, and open the trials of which it is the user's first."""
        campaign = self._reference.campaigns.get(decision.campaign_id or "")
        if campaign is None:
            return
        outputs.counts["campaign", campaign.campaign_id, "chosen"] += 1
        if campaign.message_class != "marketing" or campaign.dry_run:
            return
        user, share_of_all = decision.user_id, self._policy.holdout_share
        of_nobody = bucket(self._policy.holdout_salt, user) < share_of_all
        arm = CONTROL if decision.kind == "holdout" else TREATED
        self._open(ALL, share_of_all, CONTROL if of_nobody else TREATED, user, now)
        if campaign.holdout_share == 0.0:
            self._open(campaign.campaign_id, share_of_all, arm, user, now)
        elif not of_nobody:  # the campaign's holdout is drawn among those whom the global one leaves
            self._open(campaign.campaign_id, campaign.holdout_share, arm, user, now)

    def _open(self, name: str, share: float, arm: int, user: str, now: float) -> None:
        """Open a user's trial, unless this experiment had the user already; another split is another one."""
        tallies, profile = self._state.header.lift, self._state.profile(user)
        known = profile.trials.get(name)
        if share == 0.0 or (known.share == share if known else len(profile.trials) >= MAX_TRIALS):
            return
        tally = tallies.get(name)
        if tally is None or tally.share != share:
            if tally is None and len(tallies) >= MAX_TALLIES:
                return
            tally = tallies[name] = Tally(share)
        tally.assigned[arm] += 1
        profile.trials[name] = Trial(arm, now, now + self._config.window_s, share)
        if not profile.trials_due_at:
            self._schedule(user, profile)

    def _count(self, name: str, trial: Trial) -> None:
        tally = self._state.header.lift.get(name)
        if tally is None or tally.share != trial.share:
            return
        tally.users[trial.arm] += 1
        tally.converted[trial.arm] += trial.converted
        for currency, amount in trial.revenue.items():
            if currency in tally.revenue or len(tally.revenue) < MAX_CURRENCIES:
                sums = tally.revenue.setdefault(currency, [0.0] * 4)
                sums[2 * trial.arm] += amount
                sums[2 * trial.arm + 1] += amount * amount

    def _schedule(self, user: str, profile: Profile) -> None:
        """One entry a user: the first window that is still open."""
        ends = [trial.until for trial in profile.trials.values() if trial.open]
        profile.trials_due_at = min(ends) + self._policy.lateness_s if ends else 0.0
        if ends:
            self._state.schedule(profile.trials_due_at, user, "trials", "")


def merged(headers: Iterable[Mapping[str, Tally]]) -> dict[str, Tally]:
    """Add up the experiments of several partitions; where splits differ, the one with more users stays."""
    by_split: dict[tuple[str, float], Tally] = {}
    for tallies in headers:
        for name, tally in tallies.items():
            total = by_split.setdefault((name, tally.share), Tally(tally.share))
            for ours, theirs in (
                (total.assigned, tally.assigned),
                (total.users, tally.users),
                (total.converted, tally.converted),
            ):
                ours[:] = [a + b for a, b in zip(ours, theirs, strict=True)]
            for currency, sums in tally.revenue.items():
                known = total.revenue.get(currency, [0.0] * 4)
                total.revenue[currency] = [a + b for a, b in zip(known, sums, strict=True)]
    ordered = sorted(by_split.items(), key=lambda entry: sum(entry[1].assigned))
    return {name: tally for (name, _), tally in ordered}


def _named(event: Event, profile: Profile) -> Message | None:
    """The message that an event names: by our id that it echoes, else the newest of its campaign."""
    if event.decision_id is not None:
        echoed = token(event.decision_id)
        found = next((message for message in profile.messages if echoed in message.ids), None)
        if found is not None:
            return found
    campaign_id = event.properties.campaign_id
    if campaign_id is None:
        return None
    of_campaign = (m for m in reversed(profile.messages) if m.campaign_id == str(campaign_id))
    return next(of_campaign, None)


def _paid(event: Event) -> tuple[float, str]:
    """What an order brought, and its currency; none if it does not say both."""
    properties = event.properties
    amount = properties.total if properties.total is not None else properties.revenue
    if amount is None or amount < 0 or not properties.currency:
        return 0.0, ""
    return amount, properties.currency[:3].upper()
