"""Whether to write at all: every check on current state, in a fixed order, then the message or its reason.

The order of the checks is the order of :class:`schemas.SuppressionReason`. A message that only has to wait
(quiet hours, the user's own hours, a stronger message, the send rate) is held and checked anew when its
time comes. The holdout comes after all that could have stopped the message, and a held-out message consumes
caps and cooldown like a sent one, else the lift that it measures is biased. Whether it is worth sending, and
with which offer, is drawn last, so nothing drops it later; to choose "nothing" for somebody consumes like a
message, too, for it is one of the treatments that are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from online_models.bandits import NOTHING
from schemas.codec import rfc3339
from schemas.commands import Switch
from schemas.ids import bucket, id_of
from schemas.outputs import Decision, Recipient, Trigger, TriggerDecision
from schemas.reasons import SuppressionReason
from stream.core import arbitration, offers
from stream.core.budgets import Budgets
from stream.core.caps import Caps
from stream.core.channels import channels_of, consents
from stream.core.commands import is_stopped
from stream.core.conditions import Facts
from stream.core.localtime import next_active_hour, quiet_until, zone_of
from stream.core.watching import holds

if TYPE_CHECKING:
    from online_models.bandits import Choice
    from schemas.campaigns import Campaign
    from stream.core.arbitration import Arbiter, Worth
    from stream.core.causes import Occasion
    from stream.core.config import CampaignPolicy
    from stream.core.offers import OfferDesk
    from stream.core.records import Outputs
    from stream.core.reference import Reference
    from stream.core.rules import Rule
    from stream.core.state import PartitionState, Timer

__all__ = ["POLICY", "Messenger", "Verdict"]

POLICY: Final = "rules"
SEPARATOR: Final = "\x1f"
NEVER_BEFORE: Final = float("-inf")
QUIET_HOURS, USERS_HOURS, OUTRANKED, SEND_RATE = "quiet_hours", "users_hours", "outranked", "send_rate"
_R = SuppressionReason


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checks say: send on a channel, do not for a reason, or look again ``until`` then."""

    reason: SuppressionReason | None = None
    channel: str = ""
    until: float | None = None
    held_for: str = ""


@dataclass(frozen=True, slots=True)
class _Message:
    """What is decided about."""

    rule: Rule
    campaign: Campaign
    key: str
    timer: Timer
    id: str
    occasion: Occasion

    @property
    def ref(self) -> str:
        return f"{self.campaign.campaign_id}{SEPARATOR}{self.key}"

    @property
    def first_due(self) -> float:
        return self.timer.first_due or self.occasion.now

    @property
    def expires_at(self) -> float:
        return self.first_due + self.campaign.expires_after_s


class Messenger:
    """Turns fired timers into triggers, suppressions or waiting, and keeps caps, cooldowns and budgets."""

    def __init__(
        self,
        policy: CampaignPolicy,
        reference: Reference,
        state: PartitionState,
        desk: OfferDesk,
        arbiter: Arbiter,
    ) -> None:
        self._policy = policy
        self._reference = reference
        self._state = state
        self._desk = desk
        self._arbiter = arbiter
        self._caps = Caps(policy, reference)
        self._budgets = Budgets(policy, state)

    def decide(
        self, rule: Rule, key: str, timer: Timer, trigger_id: str, occasion: Occasion, outputs: Outputs
    ) -> Verdict:
        """Decide about one due message; unless it has to wait, log the decision either way."""
        campaign = rule.campaign
        message = _Message(rule, campaign, key, timer, trigger_id, occasion)
        verdict = self._judge(message)
        if verdict.until is not None:
            return verdict
        reason = verdict.reason
        count_of = ("campaign", campaign.campaign_id)
        outputs.counts[*count_of, "eligible"] += 1
        marketing = campaign.message_class == "marketing"
        if marketing and reason in {None, _R.HOLDOUT}:
            self._caps.consume(campaign, message.ref, verdict.channel, occasion)
        choice: Choice | None = None
        worth: Worth | None = None
        decision_id = id_of("decision", trigger_id)
        offer_decision_id = id_of("offer", trigger_id)
        if reason is None and campaign.offers and self._reference.offers:
            choice = self._desk.choose(offer_decision_id, occasion, outputs, campaign_id=campaign.campaign_id)
            if choice.offer == NOTHING:
                reason = _R.NOTHING_CHOSEN
        elif reason is None and marketing and self._arbiter.weighs(campaign):
            worth = self._arbiter.worth(
                campaign, str(timer.context.get("product_id", "")), occasion, decision_id
            )
            if not worth.sends:
                reason = _R.NOTHING_CHOSEN
        # What comes back from the message names the decision that waits for its reward: the offer's, if any.
        decision = _decision_of(message, decision_id if choice is None else offer_decision_id, choice, worth)
        if reason is None:
            self._budgets.consume(campaign, occasion.now)
            outputs.triggers.append(
                self._trigger(message, verdict.channel, decision, None if choice is None else choice.offer)
            )
            outputs.counts[*count_of, "sent"] += 1
        else:
            outputs.counts[*count_of, "suppressed", reason.value] += 1
        outputs.decisions.append(_logged(message, decision, decision_id, reason, worth))
        return Verdict(reason, verdict.channel)

    def _judge(self, message: _Message) -> Verdict:
        """Run the checks in their order."""
        campaign, occasion = message.campaign, message.occasion
        if (reason := self._standing(message)) is not None:
            return Verdict(reason)
        open_to = [
            name
            for name in channels_of(campaign, occasion.profile)
            if name not in occasion.profile.unsubscribed
        ]
        if not open_to:
            return Verdict(_R.UNSUBSCRIBED)
        unknown = self._policy.consent_when_unknown
        allowed = [name for name in open_to if consents(campaign, name, occasion.profile, unknown)]
        if not allowed:
            return Verdict(_R.NO_CONSENT)
        if campaign.message_class == "transactional":
            return Verdict(channel=allowed[0])
        return self._later(message) or self._often(message, allowed)

    def _standing(  # noqa: PLR0911  one guard per reason, in their order
        self, message: _Message
    ) -> SuppressionReason | None:
        """What speaks against the message whoever it is to and whatever they got before."""
        campaign, occasion = message.campaign, message.occasion
        if is_stopped(self._state.header, Switch.MESSAGES, campaign.campaign_id):
            return _R.STOPPED
        if not _runs(campaign, occasion.now):
            return _R.CAMPAIGN_INACTIVE
        if occasion.now < self._policy.go_live:
            return _R.BACKFILL
        if self._state.header.watermark > message.expires_at or occasion.now > message.expires_at:
            return _R.EXPIRED
        if not self._still_true(message):
            return _R.INELIGIBLE
        item = self._reference.items.get(message.key) if message.rule.key == "product" else None
        if not message.rule.audience(Facts(occasion.profile, occasion.now, item=item)):
            return _R.NOT_IN_AUDIENCE
        return None

    def _still_true(self, message: _Message) -> bool:
        """Whether nothing was bought since, and what is written about can be had."""
        rule, timer, profile = message.rule, message.timer, message.occasion.profile
        if rule.key == "cart":
            return not timer.products or bool(self._products(message))
        if rule.key == "user":
            return not (rule.ends_by_order and profile.last_order_at >= timer.event_time)
        if rule.ends_by_order and profile.bought.get(message.key, NEVER_BEFORE) >= timer.event_time:
            return False
        if rule.waits_for_item and not holds(timer, rule, self._reference.items.get(message.key)):
            return False
        return not rule.advertises or self._reference.may_show(message.key)

    def _products(self, message: _Message) -> list[str]:
        """Products of a cart that were not bought since they came into it and can be had, oldest first."""
        bought, products = message.occasion.profile.bought, message.timer.products
        left = [
            (time, item_id)
            for item_id, time in products.items()
            if not (message.rule.ends_by_order and bought.get(item_id, NEVER_BEFORE) >= time)
            and (not message.rule.advertises or self._reference.may_show(item_id))
        ]
        return [item_id for _, item_id in sorted(left)]

    def _later(self, message: _Message) -> Verdict | None:
        """Whether this is a time to write to somebody: their own hours, and never their quiet ones."""
        campaign, occasion, timer = message.campaign, message.occasion, message.timer
        if campaign.send_time == "users_hours" and not timer.first_due:
            until = next_active_hour(occasion.profile.hours, occasion.now)
            if until is not None and until <= message.expires_at:
                return Verdict(until=until, held_for=USERS_HOURS)
        zone = zone_of(occasion.profile.time_zone, self._policy.default_time_zone)
        until = quiet_until(campaign.quiet_hours or self._policy.quiet_hours, occasion.now, zone)
        if until is None:
            return None
        return (
            Verdict(_R.EXPIRED) if until > message.expires_at else Verdict(until=until, held_for=QUIET_HOURS)
        )

    def _often(self, message: _Message, allowed: list[str]) -> Verdict:
        """Whether not too much was written, this is the one to send, and who is held out."""
        campaign, occasion, profile = message.campaign, message.occasion, message.occasion.profile
        policy, now = self._policy, occasion.now
        last = profile.sent_times.get(campaign.campaign_id, NEVER_BEFORE)
        if policy.cooldowns and now - last < campaign.cooldown_s:
            return Verdict(_R.COOLDOWN)
        if not self._caps.re_eligible(campaign, message.ref, profile, now):
            return Verdict(_R.NOT_RE_ELIGIBLE)
        rooms = {name: self._caps.room(campaign, name, occasion) for name in allowed}
        channel = next((name for name in allowed if rooms[name]), None)
        if channel is None:
            waited = message.timer.held_for == OUTRANKED
            return Verdict(_R.OUTRANKED if waited else _R.FREQUENCY_CAPPED)
        until = self._arbiter.yields_until(campaign, message.key, occasion, rooms[channel], message.first_due)
        if until is not None and until <= message.expires_at:
            return Verdict(until=until, held_for=OUTRANKED)
        return self._spent(message) or Verdict(self._held_out(campaign, occasion.user), channel)

    def _spent(self, message: _Message) -> Verdict | None:
        """Whether the budget is used up, or the send rate makes the message wait."""
        campaign, now = message.campaign, message.occasion.now
        if not self._budgets.allows(campaign, now):
            return Verdict(_R.BUDGET_EXHAUSTED)
        if message.timer.held_for != SEND_RATE and not campaign.dry_run:
            at = self._budgets.slot(now, message.expires_at)
            if at is None:
                return Verdict(_R.EXPIRED)
            if at > now:
                return Verdict(until=at, held_for=SEND_RATE)
        return None

    def _held_out(self, campaign: Campaign, user: str) -> SuppressionReason | None:
        policy = self._policy
        if bucket(policy.holdout_salt, user) < policy.holdout_share:
            return _R.HOLDOUT
        if bucket(f"{policy.holdout_salt}:{campaign.campaign_id}", user) < campaign.holdout_share:
            return _R.HOLDOUT
        return None

    def _trigger(
        self, message: _Message, channel: str, decision: TriggerDecision, offer_id: str | None
    ) -> Trigger:
        campaign, occasion = message.campaign, message.occasion
        profile, user = occasion.profile, occasion.user
        context = dict(message.timer.context)
        item = self._reference.items.get(str(context.get("product_id", "")))
        if item is not None:
            for name in ("name", "category", "price", "currency"):
                if (value := getattr(item, name)) is not None:
                    context[name] = value
        if message.timer.products:
            context["product_ids"] = self._products(message)
        return Trigger(
            id=message.id,
            campaign_id=campaign.campaign_id,
            campaign_version=str(campaign.version),
            message_class=campaign.message_class,
            channel=channel,
            recipient=Recipient(user_id=user) if profile.known else Recipient(anonymous_id=user),
            context=context,
            send_at=rfc3339(occasion.now),
            expires_at=rfc3339(message.expires_at),
            time_zone=profile.time_zone or self._policy.default_time_zone,
            decision=decision,
            cause=occasion.cause,
            dry_run=campaign.dry_run,
            offer_id=offer_id,
        )


def _decision_of(
    message: _Message, decision_id: str, choice: Choice | None, worth: Worth | None
) -> TriggerDecision:
    reasons: list[str] = [message.campaign.kind]
    if message.timer.held_for:
        reasons.append(message.timer.held_for)
    reads_model = choice is not None or worth is not None or message.campaign.min_score is not None
    policy, propensity, explored = POLICY, 1.0, False
    if choice is not None:
        policy, propensity, explored = offers.POLICY, choice.propensity, choice.explored
    elif worth is not None:
        policy, explored = arbitration.POLICY, worth.explored
        propensity = worth.propensity if worth.sends else 1.0 - worth.propensity
    return TriggerDecision(
        decision_id=decision_id,
        policy=policy,
        propensity=propensity,
        explored=explored,
        model_version=message.occasion.model_version if reads_model else None,
        reasons=reasons,
    )


def _logged(
    message: _Message,
    decision: TriggerDecision,
    decision_id: str,
    reason: SuppressionReason | None,
    worth: Worth | None,
) -> Decision:
    campaign, occasion = message.campaign, message.occasion
    return Decision(
        decision_id=decision_id,
        kind="trigger" if reason is None else "holdout" if reason is _R.HOLDOUT else "suppression",
        user_id=occasion.user,
        campaign_id=campaign.campaign_id,
        campaign_version=str(campaign.version),
        eligible=["send", "suppress"],
        action="send" if reason is None else "suppress",
        propensity=decision.propensity,
        propensities=None if worth is None else [worth.propensity, 1.0 - worth.propensity],
        policy=decision.policy,
        model_version=decision.model_version,
        features=None if worth is None else worth.features,
        reason=None if reason is None else reason.value,
        explanation=None if worth is None else worth.explanation,
        cause=occasion.cause,
        decided_at=rfc3339(occasion.now),
    )


def _runs(campaign: Campaign, now: float) -> bool:
    if not campaign.enabled:
        return False
    if campaign.starts_at is not None and now < campaign.starts_at.timestamp():
        return False
    return campaign.ends_at is None or now < campaign.ends_at.timestamp()
