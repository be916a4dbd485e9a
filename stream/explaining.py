"""Explain: what was decided for one user, when and why, from the decision log alone.

The log says which rule stopped a message. Limits are those of the settings and campaigns at hand, which may
have changed since; where the log tells more (when the campaign wrote last), that is said, too.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.codec import UNREADABLE, parse_time, rfc3339
from schemas.outputs import Decision
from schemas.reasons import SuppressionReason
from stream.limits import RULES, Limits
from stream.reading import BadFileError, open_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


__all__ = ["decision_of", "explain", "read_decisions"]

DECISIONS = "decisions.jsonl"
_MESSAGES = frozenset({"trigger", "suppression", "holdout"})
_decoder = msgspec.json.Decoder(Decision)
_R = SuppressionReason


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
    except UNREADABLE as error:
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
    once = {decision.decision_id: decision for decision in decisions}  # at least once, one may come again
    ordered = sorted(once.values(), key=lambda decision: decision.decided_at)
    counts: dict[str, int] = {}
    for decision in ordered:
        counts[decision.kind] = counts.get(decision.kind, 0) + 1
    entries = list(_entries(ordered, limits))
    told: dict[str, Any] = {
        "user_id": user,
        "counts": dict(sorted(counts.items())),
        "decisions": entries,
    }
    if why_not is not None:
        told["why_not"] = _why_not(why_not, ordered, entries, limits)
    return told


def _entries(ordered: Iterable[Decision], limits: Limits) -> Iterator[dict[str, Any]]:
    """Tell decisions in their order.

    A campaign's cooldown begins with its last message before, in the order of the log, for several may be due
    at the same moment; one that was held out or not chosen counts as sent, and a dry run's are counted apart.
    """
    written: dict[tuple[str | None, bool], Decision] = {}
    for decision in ordered:
        campaign = decision.campaign_id, decision.dry_run
        yield _entry(decision, written.get(campaign), limits)
        if decision.kind in {"trigger", "holdout"} or decision.reason == _R.NOTHING_CHOSEN:
            written[campaign] = decision


def _entry(decision: Decision, last: Decision | None, limits: Limits) -> dict[str, Any]:
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
    if decision.dry_run:
        entry["dry_run"] = True
    if decision.kind == "offer":
        entry["eligible"] = dict.fromkeys(decision.eligible)
        entry["eligible"] |= dict(zip(decision.eligible, decision.propensities or [], strict=False))
    if decision.features:
        entry["features"] = decision.features
    if decision.explanation is not None:
        entry["explanation"] = msgspec.to_builtins(decision.explanation)
    if decision.kind in {"suppression", "holdout"}:
        entry |= _rule(decision, last, limits)
    return entry


def _rule(decision: Decision, last: Decision | None, limits: Limits) -> dict[str, Any]:
    reason = decision.reason or ""
    if reason not in RULES:
        return {
            "rule": f"{reason}: a rule that this version does not know",
            "limits": {},
            "change": "unknown",
        }
    rule, change = RULES[_R(reason)]
    told: dict[str, Any] = {"rule": rule, "limits": limits.of(decision), "change": change}
    if reason == _R.COOLDOWN and last is not None:
        told["last_written_at"] = last.decided_at
        if (cooldown_s := told["limits"].get("cooldown_s")) is not None:
            told["free_from"] = rfc3339(parse_time(last.decided_at) + cooldown_s)
    return told


def _why_not(
    campaign_id: str, ordered: Sequence[Decision], entries: Sequence[dict[str, Any]], limits: Limits
) -> dict[str, Any]:
    """What became of the campaign's last message to the user, and what would have to change."""
    places = [n for n, d in enumerate(ordered) if d.campaign_id == campaign_id and d.kind in _MESSAGES]
    told: dict[str, Any] = {"campaign_id": campaign_id, "messages": len(places)}
    if not places:
        return told | _undecided(campaign_id, ordered, limits)
    last = ordered[places[-1]]
    outcome = "not_sent" if last.kind != "trigger" else "dry_run" if last.dry_run else "sent"
    if outcome == "dry_run":
        told["change"] = "dry_run: false in the campaign"
    return told | {"outcome": outcome} | entries[places[-1]]


def _undecided(campaign_id: str, ordered: Sequence[Decision], limits: Limits) -> dict[str, Any]:
    """Why the log may hold no decision about a campaign's message to the user."""
    told: dict[str, Any] = {
        "outcome": "undecided",
        "rule": "nothing was decided yet about a message of this campaign to this user: nothing began one, "
        "or what began was ended, or it still waits for its time",
    }
    campaign = limits.campaigns.get(campaign_id)
    if campaign is not None:
        told["limits"] = limits.of_beginning(campaign)
        told["change"] = (
            "enabled: true in the campaign"
            if not campaign.enabled
            else f"an event that its trigger ({campaign.kind}) waits for, from a user of its audience, "
            "not undone before it is due, and time until it is"
        )
        return told
    known = sorted({*limits.campaigns, *(d.campaign_id for d in ordered if d.campaign_id is not None)})
    told["change"] = "see that the campaign exists and runs (--campaigns names what it waits for)"
    if near := difflib.get_close_matches(campaign_id, known, n=1):
        told["did_you_mean"] = near[0]
    return told
