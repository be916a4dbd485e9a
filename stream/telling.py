"""An explanation in plain words, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from online_models.choice import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["sentences"]


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
        case "dry_run":
            yield (
                f"why not {campaign_id}? It would have been sent, the last time at {told['decided_at']}, "
                "but the campaign was a dry run, which reaches nobody."
            )
            yield f"    what would have to change: {told['change']}"
        case "not_sent":
            yield f"why not {campaign_id}? Its last message, due at {told['decided_at']}, was not sent."
            yield from (f"    {line}" for line in _rule_sentences(told))
        case _:
            hint = f" Did you mean {told['did_you_mean']!r}?" if "did_you_mean" in told else ""
            yield f"why not {campaign_id}? {told['rule'].capitalize()}.{hint}"
            if told.get("limits"):
                yield f"    {_limits_now(told['limits'])}"
            yield f"    what would have to change: {told['change']}"


def _sentences_of(entry: Mapping[str, Any]) -> Iterator[str]:
    at, cause = entry["decided_at"], entry["cause"]
    campaign = entry.get("campaign_id")
    where = f" for {campaign}" if campaign else ""
    match entry["kind"]:
        case "trigger":
            sent = "a dry run would have sent it" if "dry_run" in entry else "sent"
            yield f"{at}  {campaign}: {sent} (version {entry.get('campaign_version')})"
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
        yield _limits_now(entry["limits"])
    if "last_written_at" in entry:
        free = f"; free again from {entry['free_from']}" if "free_from" in entry else ""
        yield f"it had written at {entry['last_written_at']}{free}"
    yield f"what would have to change: {entry['change']}"


def _limits_now(limits: Mapping[str, Any]) -> str:
    return "limits now: " + ", ".join(f"{name} = {value}" for name, value in limits.items())


def _chance(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.3f}"
