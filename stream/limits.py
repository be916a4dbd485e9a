"""The rules that stop messages, in words: what each says, its limits, and what would have to change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.ids import bucket, campaign_bucket
from schemas.reasons import SuppressionReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.campaigns import Campaign
    from schemas.outputs import Decision
    from stream.settings import Settings

__all__ = ["RULES", "Limits"]

_R = SuppressionReason

# What each rule says, and what would have to change for the message to go out.
RULES: dict[SuppressionReason, tuple[str, str]] = {
    _R.STOPPED: (
        "an operator had stopped all messages, or the campaign's",
        "nudge resume, with the words of the stop",
    ),
    _R.CAMPAIGN_INACTIVE: (
        "the campaign was disabled, or outside its start and end",
        "enable the campaign, or move its starts_at and ends_at",
    ),
    _R.BACKFILL: (
        "the message belongs to the time before go-live, when history is loaded and nobody is written to",
        "an earlier go-live time, or an event after it",
    ),
    _R.EXPIRED: (
        "a backlog, quiet hours or the send rate kept it beyond the time it was worth sending",
        "a longer expires_after_s, shorter quiet hours, a higher send rate, or less backlog",
    ),
    _R.INELIGIBLE: (
        "what it was about no longer held: bought, hidden, out of stock, no longer cheaper, or taken back",
        "interest in a product that is in stock, visible and not bought, at the price it names",
    ),
    _R.NOT_IN_AUDIENCE: (
        "the user was not, or no longer, of the audience when the message was due",
        "what the audience's conditions name, or a wider audience",
    ),
    _R.UNSUBSCRIBED: (
        "the user had unsubscribed from the channel",
        "nothing on our side: the user has to subscribe again",
    ),
    _R.NO_CONSENT: (
        "the user had denied the purpose, or never answered and silence means deny",
        "the user's consent to the purpose",
    ),
    _R.COOLDOWN: (
        "the campaign had written to this user too recently",
        "time, or a shorter cooldown_s",
    ),
    _R.NOT_RE_ELIGIBLE: (
        "the user had got this message before, and it is not repeated so soon or at all",
        "time, or a shorter re_eligible_after_s",
    ),
    _R.FREQUENCY_CAPPED: (
        "the user had got as many messages as a cap allows, in that day of theirs or in a cap's window",
        "the user's next day, the end of the window, or a higher cap",
    ),
    _R.OUTRANKED: (
        "a cap had room for fewer messages, and others were worth more or went first",
        "more value or priority for this campaign, fewer rivals, or a higher cap",
    ),
    _R.BUDGET_EXHAUSTED: (
        "the campaign had sent as many messages as its budget allows",
        "a larger budget, or its next day",
    ),
    _R.HOLDOUT: (
        "the user is of the share that gets nothing, so that lift can be measured",
        "nothing: a holdout is sticky; only a smaller share or another salt moves users out",
    ),
    _R.NOTHING_CHOSEN: (
        "to send nothing was worth more than the message, or was drawn to find out",
        "another draw, which keeps a floored probability of each, or a more valuable message",
    ),
    _R.FAILED: (
        "the engine failed on it three times, so it was given up",
        "a version of Nudge without that bug; the worker's log has its place",
    ),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings and campaigns whose limits are named."""

    settings: Settings
    campaigns: Mapping[str, Campaign] = field(default_factory=dict)

    def of(self, decision: Decision) -> dict[str, Any]:
        """Return the limits of the rule that a decision names, by the names under which they are set."""
        rules, campaign = self.settings.campaigns, self.campaigns.get(decision.campaign_id or "")
        own = (
            {name: getattr(campaign, name) for name in _OF_CAMPAIGN.get(decision.reason or "", ())}
            if campaign
            else {}
        )
        match decision.reason:
            case _R.BACKFILL:
                own["NUDGE_CAMPAIGNS__GO_LIVE"] = rules.go_live
            case _R.EXPIRED:
                own["NUDGE_CAMPAIGNS__QUIET_HOURS"] = _hours(self.settings)
                own["NUDGE_CAMPAIGNS__MAX_PER_MINUTE"] = rules.max_per_minute
            case _R.FREQUENCY_CAPPED:
                own["NUDGE_CAMPAIGNS__DAILY_CAP"] = rules.daily_cap
                own["NUDGE_CAMPAIGNS__CAPS"] = rules.caps or None
            case _R.NO_CONSENT:
                own["NUDGE_CONSENT__WHEN_UNKNOWN"] = self.settings.consent.when_unknown
            case _R.HOLDOUT:
                own["NUDGE_CAMPAIGNS__HOLDOUT_SHARE"] = rules.holdout_share
                own["bucket"] = round(bucket(rules.holdout_salt, decision.user_id), 4)
                of_campaign = campaign_bucket(
                    rules.holdout_salt, decision.campaign_id or "", decision.user_id
                )
                own["bucket_of_campaign"] = round(of_campaign, 4)
        return _set(own)

    def of_beginning(self, campaign: Campaign) -> dict[str, Any]:
        """Return what decides whether a campaign's message begins for a user, and how long it waits."""
        own = {name: getattr(campaign, name) for name in _OF_BEGINNING}
        return _set(own | {"NUDGE_CAMPAIGNS__QUIET_HOURS": _hours(self.settings)})


def _hours(settings: Settings) -> str | None:
    hours = settings.campaigns.quiet_hours
    return None if hours == "none" else hours


def _set(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are set, as JSON has them."""
    return {name: msgspec.to_builtins(value) for name, value in limits.items() if value not in (None, [])}


_OF_BEGINNING = ("enabled", "starts_at", "ends_at", "audience", "min_score", "delay_s", "quiet_hours")
_OF_CAMPAIGN: dict[str, tuple[str, ...]] = {
    _R.CAMPAIGN_INACTIVE: ("enabled", "starts_at", "ends_at"),
    _R.EXPIRED: ("expires_after_s", "quiet_hours"),
    _R.NOT_IN_AUDIENCE: ("audience",),
    _R.UNSUBSCRIBED: ("channel", "channels"),
    _R.NO_CONSENT: ("consent",),
    _R.COOLDOWN: ("cooldown_s",),
    _R.NOT_RE_ELIGIBLE: ("re_eligible_after_s",),
    _R.FREQUENCY_CAPPED: ("max_per_day", "caps"),
    _R.OUTRANKED: ("priority", "value", "cost"),
    _R.BUDGET_EXHAUSTED: ("budget",),
    _R.HOLDOUT: ("holdout_share",),
}
