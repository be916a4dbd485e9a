"""Explain: what was decided for one user, when and why, from the decision log alone.

The log says which rule stopped a message. Limits are those of the settings and campaigns at hand, which may
have changed since; where the log tells more (when the campaign wrote last), that is said, too.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from online_models.choice import NOTHING
from schemas.codec import parse_time, rfc3339
from schemas.ids import bucket
from schemas.outputs import Decision
from schemas.reasons import SuppressionReason
from stream.reading import BadFileError, open_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from schemas.campaigns import Campaign
    from stream.settings import Settings

__all__ = ["RULES", "Limits", "decision_of", "explain", "read_decisions", "sentences"]

DECISIONS = "decisions.jsonl"
_MESSAGES = frozenset({"trigger", "suppression", "holdout"})
_decoder = msgspec.json.Decoder(Decision)
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
        "it came due, but was looked at too late to be worth sending",
        "a longer expires_after_s, or less backlog",
    ),
    _R.INELIGIBLE: (
        "the product had been bought meanwhile, or was hidden or out of stock",
        "interest in a product that is in stock, visible and not bought",
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
        "the user had got as many messages that day as a cap allows",
        "the user's next day, or a higher cap",
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
            case _R.FREQUENCY_CAPPED:
                own["NUDGE_CAMPAIGNS__DAILY_CAP"] = rules.daily_cap
                own["NUDGE_CAMPAIGNS__CAPS"] = rules.caps or None
            case _R.NO_CONSENT:
                own["NUDGE_CONSENT__WHEN_UNKNOWN"] = self.settings.consent.when_unknown
            case _R.HOLDOUT:
                own["NUDGE_CAMPAIGNS__HOLDOUT_SHARE"] = rules.holdout_share
                own["bucket"] = round(bucket(rules.holdout_salt, decision.user_id), 4)
        return {
            name: msgspec.to_builtins(value)
            for name, value in own.items()
            if value is not None and value != []
        }


_OF_CAMPAIGN: dict[str, tuple[str, ...]] = {
    _R.CAMPAIGN_INACTIVE: ("enabled", "starts_at", "ends_at"),
    _R.EXPIRED: ("expires_after_s",),
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


def read_decisions(path: Path, user: str) -> Iterator[Decision]:
    """Yield a user's decisions from a file, plain or gzipped, or from the output folder of a replay.

    Raises
    ------
    BadFileError
        There is no decision log, or a line of it is no decision.
    """
    if path.is_dir():
        found = [file for file in (path / DECISIONS, path / f"{DECISIONS}.gz") if file.is_file()]
        if not found:
            message = f"{path}: holds no {DECISIONS}; give the output folder of nudge replay, or a file"
            raise BadFileError(message)
        path = found[0]
    for number, line in enumerate(open_lines(path), 1):
        decision = decision_of(line, f"{path}:{number}")
        if decision.user_id == user:
            yield decision


def decision_of(value: bytes, where: str) -> Decision:
    """Decode a record of the decision log.

    Raises
    ------
    BadFileError
        It is none; the message says where.
    """
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"{where}: not a decision: {error}"
        raise BadFileError(message) from error


def explain(
    decisions: Iterable[Decision], user: str, limits: Limits, *, why_not: str | None = None
) -> dict[str, Any]:
    """Say what was decided for a user, in order of time, and why a campaign's last message was not sent.

    Returns
    -------
    dict
        ``user_id``, ``counts`` (kind -> decisions), ``decisions`` (each with its rule, limits and what would
        have to change, where it stopped a message) and, if asked for, ``why_not``.
    """
    ordered = sorted(decisions, key=lambda decision: decision.decided_at)
    counts: dict[str, int] = {}
    for decision in ordered:
        counts[decision.kind] = counts.get(decision.kind, 0) + 1
    told: dict[str, Any] = {
        "user_id": user,
        "counts": dict(sorted(counts.items())),
        "decisions": [_entry(decision, ordered, limits) for decision in ordered],
    }
    if why_not is not None:
        told["why_not"] = _why_not(why_not, ordered, limits)
    return told


def _entry(decision: Decision, ordered: Sequence[Decision], limits: Limits) -> dict[str, Any]:
    """The decision's own fields, and those of the rule that stopped it."""
    entry: dict[str, Any] = {
        name: value
        for name in ("decided_at", "kind", "campaign_id", "campaign_version", "action", "reason", "policy")
        if (value := getattr(decision, name)) is not None
    }
    entry |= {"propensity": decision.propensity, "cause": msgspec.to_builtins(decision.cause)}
    entry["decision_id"] = decision.decision_id
    if decision.model_version is not None:
        entry["model_version"] = decision.model_version
    if decision.kind == "offer":
        entry["eligible"] = dict.fromkeys(decision.eligible)
        entry["eligible"] |= dict(zip(decision.eligible, decision.propensities or [], strict=False))
    if decision.features:
        entry["features"] = decision.features
    if decision.explanation is not None:
        entry["explanation"] = msgspec.to_builtins(decision.explanation)
    if decision.kind in {"suppression", "holdout"}:
        entry |= _rule(decision, ordered, limits)
    return entry


def _rule(decision: Decision, ordered: Sequence[Decision], limits: Limits) -> dict[str, Any]:
    reason = decision.reason or ""
    if reason not in RULES:
        return {
            "rule": f"{reason}: a rule that this version does not know",
            "limits": {},
            "change": "unknown",
        }
    rule, change = RULES[_R(reason)]
    told: dict[str, Any] = {"rule": rule, "limits": limits.of(decision), "change": change}
    if reason == _R.COOLDOWN:
        last = _last_written(decision, ordered)
        if last is not None:
            told["last_written_at"] = last.decided_at
            if (cooldown_s := told["limits"].get("cooldown_s")) is not None:
                told["free_from"] = rfc3339(parse_time(last.decided_at) + cooldown_s)
    return told


def _last_written(decision: Decision, ordered: Sequence[Decision]) -> Decision | None:
    """The campaign's last message before a decision; one that was held out counts like a sent one."""
    return next(
        (
            earlier
            for earlier in reversed(ordered)
            if earlier.campaign_id == decision.campaign_id
            and earlier.kind in {"trigger", "holdout"}
            and earlier.decided_at < decision.decided_at
        ),
        None,
    )


def _why_not(campaign_id: str, ordered: Sequence[Decision], limits: Limits) -> dict[str, Any]:
    """What became of the campaign's last message to the user, and what would have to change."""
    of_campaign = [d for d in ordered if d.campaign_id == campaign_id and d.kind in _MESSAGES]
    told: dict[str, Any] = {"campaign_id": campaign_id, "messages": len(of_campaign)}
    if of_campaign:
        last = of_campaign[-1]
        outcome = "sent" if last.kind == "trigger" else "not_sent"
        return told | {"outcome": outcome} | _entry(last, ordered, limits)
    told |= {"outcome": "never_eligible", "rule": "no message of this campaign ever came due for this user"}
    campaign = limits.campaigns.get(campaign_id)
    if campaign is not None:
        told["change"] = f"an event that its trigger ({campaign.kind}) waits for, not undone before it is due"
        return told
    known = sorted({*limits.campaigns, *(d.campaign_id for d in ordered if d.campaign_id is not None)})
    told["change"] = "see that the campaign exists and runs (--campaigns names what it waits for)"
    if near := difflib.get_close_matches(campaign_id, known, n=1):
        told["did_you_mean"] = near[0]
    return told


def sentences(told: Mapping[str, Any], last: int) -> Iterator[str]:
    """Say an explanation in plain words, the newest ``last`` decisions of it."""
    decisions, counts = told["decisions"], told["counts"]
    if decisions:
        kinds = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        yield f"{told['user_id']}: {len(decisions)} decisions ({kinds})"
        if len(decisions) > last:
            yield f"the last {last} of them (--last for more):"
        for entry in decisions[-last:]:
            yield from _sentences_of(entry)
    if "why_not" in told:
        yield from _why_not_sentences(told["why_not"])


def _why_not_sentences(told: Mapping[str, Any]) -> Iterator[str]:
    campaign_id = told["campaign_id"]
    match told["outcome"]:
        case "sent":
            yield f"why not {campaign_id}? It was sent: the last time at {told['decided_at']}."
        case "not_sent":
            yield f"why not {campaign_id}? Its last message, due at {told['decided_at']}, was not sent."
            yield from (f"    {line}" for line in _rule_sentences(told))
        case _:
            hint = f" Did you mean {told['did_you_mean']!r}?" if "did_you_mean" in told else ""
            yield f"why not {campaign_id}? {told['rule'].capitalize()}.{hint}"
            yield f"    what would have to change: {told['change']}"


def _sentences_of(entry: Mapping[str, Any]) -> Iterator[str]:
    at, cause = entry["decided_at"], entry["cause"]
    campaign = entry.get("campaign_id")
    where = f" for {campaign}" if campaign else ""
    match entry["kind"]:
        case "trigger":
            yield f"{at}  {campaign}: sent (version {entry.get('campaign_version')})"
            yield from _click_sentences(entry)
        case "suppression" | "holdout":
            yield f"{at}  {campaign}: not sent, {entry['reason']} (version {entry.get('campaign_version')})"
            yield from (f"    {line}" for line in _rule_sentences(entry))
            yield from _click_sentences(entry)
        case "offer":
            chance = f"{entry['propensity']:.3f}"
            yield f"{at}  offer{where}: {entry['action']}, drawn with probability {chance}, {entry['reason']}"
            others = ", ".join(f"{name} {_chance(chance)}" for name, chance in entry["eligible"].items())
            yield f"    of {others}"
            yield from _offer_sentences(entry)
        case _:
            yield f"{at}  {entry['kind']}: {entry['action']}, probability {entry['propensity']:.3f}"
    yield f"    because of {cause['event']} at {cause['timestamp']} (messageId {cause['message_id']})"


def _offer_sentences(entry: Mapping[str, Any]) -> Iterator[str]:
    """What was known of the offer, and how much of its chance is exploration by rule."""
    found = entry.get("explanation")
    if found is None or entry["action"] == NOTHING:
        return
    yield (
        f"    answered with probability {found['mean']:.3f}, log odds known to ± {found['deviation']:.2f}; "
        f"{found['floor_share']:.0%} of its chance is the floor that every eligible offer has"
    )


def _click_sentences(entry: Mapping[str, Any]) -> Iterator[str]:
    """What made a click likely or not, strongest first."""
    found = entry.get("explanation")
    if found is None:
        return
    told = entry["features"]
    yield (
        f"    click probability {told['click_probability']:.4f} by {found['model']}, "
        f"expected value {told['expected_value']:.2f}"
    )
    for term in found.get("terms", ()):
        way = "raises" if term["log_odds"] > 0.0 else "lowers"
        yield (
            f"    {term['feature']} {way} the log odds by {abs(term['log_odds']):.2f} "
            f"± {term['deviation']:.2f}"
        )


def _rule_sentences(entry: Mapping[str, Any]) -> Iterator[str]:
    yield f"rule: {entry['reason']}: {entry['rule']}"
    if entry["limits"]:
        yield "limits now: " + ", ".join(f"{name} = {value}" for name, value in entry["limits"].items())
    if "last_written_at" in entry:
        free = f"; free again from {entry['free_from']}" if "free_from" in entry else ""
        yield f"it had written at {entry['last_written_at']}{free}"
    yield f"what would have to change: {entry['change']}"


def _chance(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.3f}"
