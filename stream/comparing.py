"""Compare two replays of the same events: what another configuration changes, per campaign and per user.

A message is named by its decision, which is the same in both runs where the same event moved the same
campaign's timer; so "sent in A, capped in B" is one message with two fates.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from schemas.codec import UNREADABLE
from schemas.outputs import Decision, Trigger
from stream.reading import BadFileError, open_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from schemas.campaigns import Campaign
    from schemas.catalogue import Offer

__all__ = ["SIDES", "USERS", "compare"]

SIDES = ("a", "b")
USERS = "users.jsonl"
NO_CURRENCY = "XXX"  # ISO 4217's code for it
SENT, DRY_RUN, ABSENT = "sent", "dry_run", "not_due"
_MESSAGES = frozenset({"trigger", "suppression", "holdout"})
_decisions = msgspec.json.Decoder(Decision)
_triggers = msgspec.json.Decoder(Trigger)


class _Fate(NamedTuple):
    """What became of one message in one run."""

    campaign: str
    user: str
    outcome: str
    at: str


_NOBODY = _Fate("", "", ABSENT, "")


def compare(
    out: Path, offers: Mapping[str, Offer], campaigns: Sequence[Mapping[str, Campaign]]
) -> dict[str, Any]:
    """Compare the runs in the folders ``a`` and ``b`` of ``out``; users that differ go into ``users.jsonl``.

    Returns
    -------
    dict
        ``campaigns``: of each, per run the messages sent, users, suppressions by reason and cost of the
        messages and their offers by currency; messages and users in both, only A and only B; and
        ``changed``: fates that differ, ``"sent -> cooldown"`` being A's and B's. ``retimed`` counts messages
        sent in both at another time. ``users_that_differ`` is the number of lines of ``users.jsonl``.
    """
    run_a, run_b = (dict(_fates(out / side)) for side in SIDES)
    found: dict[str, _Campaign] = defaultdict(_Campaign)
    for key in run_a.keys() | run_b.keys():
        fates = run_a.get(key), run_b.get(key)
        found[(fates[0] or fates[1] or _NOBODY).campaign].add(*fates)
    for side, n in zip(SIDES, range(2), strict=True):
        for campaign_id, currency, cost in _costs(out / side, offers, campaigns[n]):
            costs = found[campaign_id].costs[n]
            costs[currency] = round(costs.get(currency, 0.0) + cost, 6)
    return {
        "campaigns": {campaign_id: told.as_dict() for campaign_id, told in sorted(found.items())},
        "users_that_differ": _write_users(out / USERS, found),
    }


@dataclass(slots=True)
class _Campaign:
    """One campaign in both runs; pairs are A's and B's."""

    received: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    suppressed: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    costs: tuple[dict[str, float], dict[str, float]] = field(default_factory=lambda: ({}, {}))
    messages: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    retimed: int = 0

    def add(self, *fates: _Fate | None) -> None:
        """Count one message."""
        outcomes = [fate.outcome if fate is not None else ABSENT for fate in fates]
        for n, fate in enumerate(fates):
            if fate is not None and fate.outcome == SENT:
                self.received[n][fate.user] += 1
            elif fate is not None:
                self.suppressed[n][fate.outcome] += 1
        sent = [outcome == SENT for outcome in outcomes]
        if any(sent):
            self.messages["both" if all(sent) else "only_a" if sent[0] else "only_b"] += 1
        if outcomes[0] != outcomes[1]:
            self.changed[" -> ".join(outcomes)] += 1
        elif all(sent):
            self.retimed += len({fate.at for fate in fates if fate is not None}) > 1

    def as_dict(self) -> dict[str, Any]:
        """As it stands in ``compare.json``."""
        in_a, in_b = (counts.keys() for counts in self.received)
        users = {"both": len(in_a & in_b), "only_a": len(in_a - in_b), "only_b": len(in_b - in_a)}
        sides = {
            side: {
                "sent": self.received[n].total(),
                "users": len(self.received[n]),
                "suppressed": dict(sorted(self.suppressed[n].items())),
                "cost": dict(sorted(self.costs[n].items())),
            }
            for n, side in enumerate(SIDES)
        }
        return sides | {
            "messages": {place: self.messages[place] for place in users},
            "users": users,
            "changed": dict(sorted(self.changed.items())),
            "retimed": self.retimed,
        }


def _fates(folder: Path) -> Iterator[tuple[str, _Fate]]:
    for number, line in enumerate(open_lines(folder / "decisions.jsonl"), 1):
        try:
            decision = _decisions.decode(line)
        except UNREADABLE as error:
            message = f"{folder / 'decisions.jsonl'}:{number}: not a decision: {error}"
            raise BadFileError(message) from error
        if decision.kind not in _MESSAGES or decision.campaign_id is None:
            continue
        yield (
            decision.decision_id,
            _Fate(decision.campaign_id, decision.user_id, _outcome(decision), decision.decided_at),
        )


def _outcome(decision: Decision) -> str:
    """What became of a message: sent, the reason why not, or a dry run, which reaches nobody."""
    if decision.kind != "trigger":
        return decision.reason or decision.kind
    return DRY_RUN if decision.dry_run else SENT


def _costs(
    folder: Path, offers: Mapping[str, Offer], campaigns: Mapping[str, Campaign]
) -> Iterator[tuple[str, str, float]]:
    """Campaign, currency and cost of each message and of its offer; a dry run costs nothing."""
    for line in open_lines(folder / "triggers.jsonl"):
        trigger = _triggers.decode(line)
        if trigger.dry_run:
            continue
        campaign, offer = campaigns.get(trigger.campaign_id), offers.get(trigger.offer_id or "")
        if campaign is not None and campaign.cost:
            yield trigger.campaign_id, campaign.currency or NO_CURRENCY, campaign.cost
        if offer is not None:
            yield trigger.campaign_id, offer.currency, offer.cost


def _write_users(path: Path, campaigns: Mapping[str, _Campaign]) -> int:
    """Write a line for each user whose messages differ in number; return how many there are."""
    differ: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for campaign_id, told in sorted(campaigns.items()):
        in_a, in_b = told.received
        for user in in_a.keys() | in_b.keys():
            if in_a[user] != in_b[user]:
                differ[user][campaign_id] = {"a": in_a[user], "b": in_b[user]}
    lines = ({"user_id": user, "campaigns": found} for user, found in sorted(differ.items()))
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return len(differ)
