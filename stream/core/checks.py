"""The checks of a due message on current state, in the order of :class:`schemas.SuppressionReason`.

A message that only has to wait (quiet hours, the user's own hours, a stronger message, the send rate) is held
and checked anew when its time comes. The holdout comes after all that could have stopped the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.codec import epoch_seconds
from schemas.commands import Switch
from schemas.ids import bucket, campaign_bucket
from schemas.reasons import SuppressionReason
from stream.core.channels import channels_of, consents
from stream.core.commands import is_stopped
from stream.core.conditions import Facts
from stream.core.localtime import next_active_hour, quiet_until, zone_of
from stream.core.matching import SEPARATOR, ended_after
from stream.core.milestones import stands
from stream.core.objections import asked_of
from stream.core.timers import sku_in
from stream.core.variants import item_of
from stream.core.watching import holds

if TYPE_CHECKING:
    from schemas.campaigns import Campaign
    from stream.core.arbitration import Arbiter
    from stream.core.budgets import Budgets
    from stream.core.caps import Caps
    from stream.core.causes import Occasion
    from stream.core.config import CampaignPolicy
    from stream.core.reference import Reference
    from stream.core.rows import Timer
    from stream.core.rules import Rule
    from stream.core.state import PartitionState

__all__ = ["Checks", "DueMessage", "Verdict"]

NEVER_BEFORE: Final = float("-inf")
QUIET_HOURS, USERS_HOURS, OUTRANKED, SEND_RATE = "quiet_hours", "users_hours", "outranked", "send_rate"
HELD: Final = frozenset({QUIET_HOURS, USERS_HOURS, OUTRANKED, SEND_RATE})
_R = SuppressionReason


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checks say: send on a channel, do not for a reason, or look again ``until`` then."""

    reason: SuppressionReason | None = None
    channel: str = ""
    until: float | None = None
    held_for: str = ""


@dataclass(frozen=True, slots=True)
class DueMessage:
    """What is decided about."""

    rule: Rule
    campaign: Campaign
    key: str
    timer: Timer
    id: str
    occasion: Occasion

    @property
    def ref(self) -> str:
        """Name of its timer."""
        return f"{self.campaign.campaign_id}{SEPARATOR}{self.key}"

    @property
    def first_due(self) -> float:
        """Event time at which it could first have gone out."""
        return self.timer.first_due or self.occasion.now

    @property
    def expires_at(self) -> float:
        """Event time from which it is not worth sending."""
        return self.first_due + self.campaign.expires_after_s


class Checks:
    """Says of a due message whether it goes out, on which channel, or why not, or when to look again."""

    def __init__(
        self,
        policy: CampaignPolicy,
        reference: Reference,
        state: PartitionState,
        arbiter: Arbiter,
        caps: Caps,
        budgets: Budgets,
    ) -> None:
        self._policy = policy
        self._reference = reference
        self._state = state
        self._arbiter = arbiter
        self._caps = caps
        self._budgets = budgets

    def judge(self, message: DueMessage) -> Verdict:
        """Run the checks in their order."""
        campaign, occasion = message.campaign, message.occasion
        if (reason := self._standing(message)) is not None:
            return Verdict(reason)
        open_to = [
            name
            for name in channels_of(campaign, occasion.profile)
            if not occasion.profile.is_unsubscribed(name)
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
        self, message: DueMessage
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
        item = self._reference.items.get(item_of(message.key)) if message.rule.key == "product" else None
        if not message.rule.audience(Facts(occasion.profile, occasion.now, item=item)):
            return _R.NOT_IN_AUDIENCE
        return None

    def _still_true(self, message: DueMessage) -> bool:
        """Whether nothing was bought since, and what is written about can be had, or was reached."""
        rule, timer, profile = message.rule, message.timer, message.occasion.profile
        if message.campaign.counter is not None:
            return stands(message.campaign, float(str(timer.context["threshold"])), profile)
        if rule.key == "cart":
            return not timer.products or bool(self.products(message))
        if rule.key == "user":
            return not (rule.ends_by_order and profile.last_order_at >= timer.event_time)
        if rule.per_variant:  # which variant was bought is kept with what campaigns count
            asked = asked_of(rule, message.key, sku_in(timer))
            bought = ended_after(rule.ending, asked, timer.event_time, profile)
        else:
            bought = profile.bought.get(message.key, NEVER_BEFORE) >= timer.event_time
        if rule.ends_by_order and bought:
            return False
        if rule.waits_for_item and not holds(timer, rule, self._reference.items.get(message.key)):
            return False
        return not rule.advertises or self._reference.may_show(item_of(message.key))

    def products(self, message: DueMessage) -> list[str]:
        """Products of a cart that were not bought since they came into it and can be had, oldest first."""
        bought, products = message.occasion.profile.bought, message.timer.products
        left = [
            (time, item_id)
            for item_id, time in products.items()
            if not (message.rule.ends_by_order and bought.get(item_id, NEVER_BEFORE) >= time)
            and (not message.rule.advertises or self._reference.may_show(item_id))
        ]
        return [item_id for _, item_id in sorted(left)]

    def _later(self, message: DueMessage) -> Verdict | None:
        """Whether this is a time to write to somebody: their own hours, and never their quiet ones."""
        campaign, occasion, timer = message.campaign, message.occasion, message.timer
        if campaign.send_time == "users_hours" and timer.held_for not in HELD:
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

    def _often(self, message: DueMessage, allowed: list[str]) -> Verdict:
        """Whether not too much was written, this is the one to send, and who is held out."""
        campaign, occasion, profile = message.campaign, message.occasion, message.occasion.profile
        policy, now = self._policy, occasion.now
        if policy.cooldowns and now - self._caps.last_sent(campaign, profile) < campaign.cooldown_s:
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

    def _spent(self, message: DueMessage) -> Verdict | None:
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
        if campaign_bucket(policy.holdout_salt, campaign.campaign_id, user) < campaign.holdout_share:
            return _R.HOLDOUT
        return None


def _runs(campaign: Campaign, now: float) -> bool:
    if not campaign.enabled:
        return False
    if campaign.starts_at is not None and now < epoch_seconds(campaign.starts_at):
        return False
    return campaign.ends_at is None or now < epoch_seconds(campaign.ends_at)
