"""Whether to write at all: every check on current state, in a fixed order, then the message or its reason.

The order of the checks is the order of :class:`schemas.SuppressionReason`. The holdout comes after all
that could have stopped the message, and a held-out message consumes caps and cooldown like a sent one,
else the lift that it measures is biased. An offer is drawn last, so nothing drops it later; to choose
"nothing" for somebody consumes like a message, too, for it is one of the treatments that are compared.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from online_models.bandits import NOTHING
from schemas.codec import rfc3339
from schemas.commands import Switch
from schemas.ids import bucket, id_of
from schemas.outputs import Decision, Recipient, Trigger, TriggerDecision
from schemas.reasons import SuppressionReason
from stream.core import offers
from stream.core.commands import is_stopped

if TYPE_CHECKING:
    from online_models.bandits import Choice
    from schemas.catalogue import Campaign
    from stream.core.causes import Occasion
    from stream.core.config import CampaignPolicy
    from stream.core.offers import OfferDesk
    from stream.core.records import Outputs
    from stream.core.reference import Reference
    from stream.core.state import PartitionState, Profile, Timer

__all__ = ["POLICY", "Messenger"]

POLICY = "rules"
_R = SuppressionReason


class Messenger:
    """Turns fired timers into triggers or suppressions, and keeps caps and cooldowns."""

    def __init__(
        self, policy: CampaignPolicy, reference: Reference, state: PartitionState, desk: OfferDesk
    ) -> None:
        self._policy = policy
        self._reference = reference
        self._state = state
        self._desk = desk

    def send(
        self, campaign: Campaign, timer: Timer, trigger_id: str, occasion: Occasion, outputs: Outputs
    ) -> None:
        """Decide about one eligible message, and log the decision either way."""
        count_of = ("campaign", campaign.campaign_id)
        outputs.counts[*count_of, "eligible"] += 1
        reason = self._suppression(campaign, timer, occasion)
        if reason in {None, _R.HOLDOUT}:
            self._consume(campaign, occasion)
        choice: Choice | None = None
        offer_decision_id = id_of("offer", trigger_id)
        if reason is None and campaign.offers and self._reference.offers:
            choice = self._desk.choose(offer_decision_id, occasion, outputs, campaign_id=campaign.campaign_id)
            if choice.offer == NOTHING:
                reason = _R.NOTHING_CHOSEN
        # What comes back from the message names the decision that waits for its reward: the offer's, if any.
        decision_id = id_of("decision", trigger_id)
        decision = TriggerDecision(
            decision_id=decision_id if choice is None else offer_decision_id,
            policy=POLICY if choice is None else offers.POLICY,
            propensity=1.0 if choice is None else choice.propensity,
            explored=choice is not None and choice.explored,
            model_version=None if choice is None else occasion.model_version,
            reasons=[campaign.kind],
        )
        if reason is None:
            offer_id = None if choice is None else choice.offer
            outputs.triggers.append(
                self._trigger(campaign, timer, trigger_id, occasion, decision=decision, offer_id=offer_id)
            )
            outputs.counts[*count_of, "sent"] += 1
        else:
            outputs.counts[*count_of, "suppressed", reason.value] += 1
        outputs.decisions.append(_logged(campaign, occasion, decision, decision_id, reason))

    def _suppression(  # noqa: C901, PLR0911, PLR0912  one guard per reason, in their order
        self, campaign: Campaign, timer: Timer, occasion: Occasion
    ) -> SuppressionReason | None:
        user, profile, now = occasion.user, occasion.profile, occasion.now
        policy = self._policy
        if is_stopped(self._state.header, Switch.MESSAGES, campaign.campaign_id):
            return _R.STOPPED
        if not _runs(campaign, now):
            return _R.CAMPAIGN_INACTIVE
        if now < policy.go_live:
            return _R.BACKFILL
        if self._state.header.watermark > now + campaign.expires_after_s:
            return _R.EXPIRED
        item_id = str(timer.context["product_id"])
        if profile.bought.get(item_id, float("-inf")) >= timer.event_time:
            return _R.INELIGIBLE
        if not self._reference.may_show(item_id):
            return _R.INELIGIBLE
        if campaign.channel in profile.unsubscribed:
            return _R.UNSUBSCRIBED
        if not self._consents(campaign, profile):
            return _R.NO_CONSENT
        if campaign.message_class == "transactional":
            return None
        last = profile.sent_times.get(campaign.campaign_id, float("-inf"))
        if policy.cooldowns and now - last < campaign.cooldown_s:
            return _R.COOLDOWN
        if self._capped(campaign, occasion):
            return _R.FREQUENCY_CAPPED
        if bucket(policy.holdout_salt, user) < policy.holdout_share:
            return _R.HOLDOUT
        if bucket(f"{policy.holdout_salt}:{campaign.campaign_id}", user) < campaign.holdout_share:
            return _R.HOLDOUT
        return None

    def _consents(self, campaign: Campaign, profile: Profile) -> bool:
        purpose = campaign.consent.purpose
        if (answer := profile.consent.get(purpose)) is not None:
            return answer
        if campaign.consent.when_unknown is not None:
            return campaign.consent.when_unknown == "allow"
        unknown = self._policy.consent_when_unknown
        return unknown.get(purpose, unknown.get("*", False))

    def _capped(self, campaign: Campaign, occasion: Occasion) -> bool:
        profile, today = occasion.profile, self._day(occasion)
        cap = self._policy.daily_cap
        if cap is not None and (profile.cap_count if profile.cap_day == today else 0) >= cap:
            return True
        day, count = profile.campaign_day.get(campaign.campaign_id, (0, 0))
        return campaign.max_per_day is not None and (count if day == today else 0) >= campaign.max_per_day

    def _consume(self, campaign: Campaign, occasion: Occasion) -> None:
        if campaign.message_class == "transactional":
            return
        profile, today = occasion.profile, self._day(occasion)
        if profile.cap_day != today:
            profile.cap_day, profile.cap_count = today, 0
        profile.cap_count += 1
        day, count = profile.campaign_day.get(campaign.campaign_id, (0, 0))
        profile.campaign_day[campaign.campaign_id] = [today, count + 1 if day == today else 1]
        profile.sent_times[campaign.campaign_id] = occasion.now

    def _trigger(
        self,
        campaign: Campaign,
        timer: Timer,
        trigger_id: str,
        occasion: Occasion,
        *,
        decision: TriggerDecision,
        offer_id: str | None,
    ) -> Trigger:
        profile, user = occasion.profile, occasion.user
        item = self._reference.items.get(str(timer.context["product_id"]))
        context = dict(timer.context)
        if item is not None:
            for name in ("name", "category", "price", "currency"):
                if (value := getattr(item, name)) is not None:
                    context[name] = value
        return Trigger(
            id=trigger_id,
            campaign_id=campaign.campaign_id,
            campaign_version=str(campaign.version),
            message_class=campaign.message_class,
            channel=campaign.channel,
            recipient=Recipient(user_id=user) if profile.known else Recipient(anonymous_id=user),
            context=context,
            send_at=rfc3339(occasion.now),
            expires_at=rfc3339(occasion.now + campaign.expires_after_s),
            time_zone=profile.time_zone or self._policy.default_time_zone,
            decision=decision,
            cause=occasion.cause,
            dry_run=campaign.dry_run,
            offer_id=offer_id,
        )

    def _day(self, occasion: Occasion) -> int:
        """Number of the user's calendar day; an unknown zone counts as the default one.

        It never goes back: a timer that fires late, or a user who travels west, does not empty a day's cap.
        """
        zone = _zone(occasion.profile.time_zone or "") or _zone(self._policy.default_time_zone) or UTC
        return max(datetime.fromtimestamp(occasion.now, zone).toordinal(), occasion.profile.cap_day)


def _logged(
    campaign: Campaign,
    occasion: Occasion,
    decision: TriggerDecision,
    decision_id: str,
    reason: SuppressionReason | None,
) -> Decision:
    return Decision(
        decision_id=decision_id,
        kind="trigger" if reason is None else "holdout" if reason is _R.HOLDOUT else "suppression",
        user_id=occasion.user,
        campaign_id=campaign.campaign_id,
        campaign_version=str(campaign.version),
        eligible=["send", "suppress"],
        action="send" if reason is None else "suppress",
        propensity=decision.propensity,
        policy=decision.policy,
        model_version=decision.model_version,
        reason=None if reason is None else reason.value,
        cause=occasion.cause,
        decided_at=rfc3339(occasion.now),
    )


def _runs(campaign: Campaign, now: float) -> bool:
    if not campaign.enabled:
        return False
    if campaign.starts_at is not None and now < campaign.starts_at.timestamp():
        return False
    return campaign.ends_at is None or now < campaign.ends_at.timestamp()


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
