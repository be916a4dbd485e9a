"""What is due becomes a message, or a decision not to send one with its reason.

The checks come first (:mod:`stream.core.checks`). A held-out message consumes caps and cooldown like a sent
one, else the lift that it measures is biased. Whether it is worth sending, and with which offer, is drawn
last, so nothing drops it later; to choose "nothing" for somebody consumes like a message, too, for it is one
of the treatments that are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from online_models.bandits import NOTHING
from schemas.codec import rfc3339
from schemas.ids import id_of
from schemas.outputs import Decision, Recipient, Trigger, TriggerDecision
from schemas.reasons import SuppressionReason
from stream.core import arbitration
from stream.core.budgets import Budgets
from stream.core.caps import Caps
from stream.core.checks import Checks, DueMessage, Verdict
from stream.core.localtime import known_zone

if TYPE_CHECKING:
    from online_models.bandits import Choice
    from schemas.campaigns import Campaign
    from stream.core.arbitration import Arbiter, Worth
    from stream.core.attribution import Attribution
    from stream.core.causes import Occasion
    from stream.core.config import CampaignPolicy
    from stream.core.offers import OfferDesk
    from stream.core.records import Outputs
    from stream.core.reference import Reference
    from stream.core.state import PartitionState

__all__ = ["POLICY", "Messenger"]

POLICY: Final = "rules"
_R = SuppressionReason


class Messenger:
    """Turns fired timers into triggers, suppressions or waiting, and keeps caps, cooldowns and budgets."""

    def __init__(
        self,
        policy: CampaignPolicy,
        reference: Reference,
        state: PartitionState,
        desk: OfferDesk,
        arbiter: Arbiter,
        attribution: Attribution,
    ) -> None:
        self._policy = policy
        self._reference = reference
        self._desk = desk
        self._arbiter = arbiter
        self._attribution = attribution
        self._caps = Caps(policy, reference)
        self._budgets = Budgets(policy, state, reference)
        self._checks = Checks(policy, reference, state, arbiter, self._caps, self._budgets)

    def decide(self, message: DueMessage, outputs: Outputs) -> Verdict:
        """Decide about one due message; unless it has to wait, log the decision either way."""
        campaign, timer, occasion = message.campaign, message.timer, message.occasion
        verdict = self._checks.judge(message)
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
        decision_id = id_of("decision", message.id)
        offer_decision_id = id_of("offer", message.id)
        if reason is None and campaign.offers and self._desk.is_open:
            choice = self._drawn(offer_decision_id, campaign, occasion, outputs)
            if choice is not None and choice.offer == NOTHING:
                reason = _R.NOTHING_CHOSEN
        elif reason is None and marketing and self._arbiter.weighs(campaign):
            worth = self._arbiter.worth(
                campaign, str(timer.context.get("product_id", "")), occasion, decision_id
            )
            if not worth.sends:
                reason = _R.NOTHING_CHOSEN
        # What comes back from the message names the decision that waits for its reward: the offer's, if any.
        policy = POLICY if choice is None else self._desk.policy_of(choice)
        ref = decision_id if choice is None else offer_decision_id
        decision = _decision_of(message, ref, policy, choice, worth)
        if reason is None:
            self._budgets.consume(campaign, occasion.now)
            offer_id = None if choice is None else choice.offer
            trigger = self._trigger(message, verdict.channel, decision, offer_id)
            outputs.triggers.append(trigger)
            if not campaign.dry_run:
                item_id = str(timer.context.get("product_id", ""))
                features = self._arbiter.features(campaign, item_id, occasion)
                self._attribution.sent(trigger, features, item_id, occasion)
            outputs.counts[*count_of, "sent"] += 1
        else:
            outputs.counts[*count_of, "suppressed", reason.value] += 1
        sends = None if worth is None else worth.propensity
        if choice is not None:
            sends = 1.0 - choice.propensities[0]  # all but "nothing"
        outputs.decisions.append(_logged(message, decision, decision_id, reason, sends, worth))
        return Verdict(reason, verdict.channel)

    def give_up(self, message: DueMessage, outputs: Outputs) -> None:
        """Log that a message is not sent because the engine fails on it; nothing of its user is looked at."""
        decision_id = id_of("decision", message.id)
        decision = _decision_of(message, decision_id, POLICY, None, None)
        count_of = ("campaign", message.campaign.campaign_id)
        outputs.counts[*count_of, "eligible"] += 1
        outputs.counts[*count_of, "suppressed", _R.FAILED.value] += 1
        outputs.decisions.append(_logged(message, decision, decision_id, _R.FAILED, None, None))

    def _drawn(
        self, decision_id: str, campaign: Campaign, occasion: Occasion, outputs: Outputs
    ) -> Choice | None:
        """Draw an offer, or "nothing"; ``None`` where a message that is owed goes out without one."""
        campaign_id, dry_run = campaign.campaign_id, campaign.dry_run
        choice = self._desk.choose(decision_id, occasion, outputs, campaign_id=campaign_id, dry_run=dry_run)
        return None if choice.offer == NOTHING and campaign.message_class == "transactional" else choice

    def _trigger(
        self, message: DueMessage, channel: str, decision: TriggerDecision, offer_id: str | None
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
            context["product_ids"] = self._checks.products(message)
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
            time_zone=known_zone(profile.time_zone, self._policy.default_time_zone),
            decision=decision,
            cause=occasion.cause,
            dry_run=campaign.dry_run,
            offer_id=offer_id,
        )


def _decision_of(
    message: DueMessage, decision_id: str, policy: str, choice: Choice | None, worth: Worth | None
) -> TriggerDecision:
    """What a message tells of its decision; one with an offer has the propensity of that offer."""
    reasons: list[str] = [message.campaign.kind]
    if message.timer.held_for:
        reasons.append(message.timer.held_for)
    reads_model = choice is not None or worth is not None or message.campaign.min_score is not None
    propensity, explored = 1.0, False
    if choice is not None:
        propensity, explored = choice.propensity, choice.explored
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
    message: DueMessage,
    decision: TriggerDecision,
    decision_id: str,
    reason: SuppressionReason | None,
    sends: float | None,
    worth: Worth | None,
) -> Decision:
    """The decision between sending and not; ``sends`` is the probability of sending, where one was drawn."""
    campaign, occasion = message.campaign, message.occasion
    propensities = None if sends is None else [sends, 1.0 - sends]
    return Decision(
        decision_id=decision_id,
        kind="trigger" if reason is None else "holdout" if reason is _R.HOLDOUT else "suppression",
        user_id=occasion.user,
        campaign_id=campaign.campaign_id,
        campaign_version=str(campaign.version),
        eligible=["send", "suppress"],
        action="send" if reason is None else "suppress",
        propensity=1.0 if propensities is None else propensities[reason is not None],
        propensities=propensities,
        policy=decision.policy,
        model_version=decision.model_version,
        features=None if worth is None else worth.features,
        reason=None if reason is None else reason.value,
        explanation=None if worth is None else worth.explanation,
        cause=occasion.cause,
        decided_at=rfc3339(occasion.now),
        dry_run=campaign.dry_run,
    )
