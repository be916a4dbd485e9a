"""Logged decisions: what was known and eligible, what was chosen with which probability, what it earned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from schemas.codec import UNREADABLE
from schemas.events import MAX_NUMBER
from stream.evaluate.contexts import ContextValue
from stream.evaluate.lines import Rejects, numbered_lines
from stream.evaluate.times import Time, seconds_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LoggedDecision", "read_decisions"]


class LoggedDecision(Struct, frozen=True, gc=False):
    """One line. Decisions are taken in the file's order; ``time`` is what the policy forgets by."""

    context: dict[str, ContextValue]
    eligible: list[str | int]
    action: str | int
    reward: float | bool
    propensity: float
    time: Time = None


def read_decisions(path: Path, rejects: Rejects) -> list[LoggedDecision]:
    """Read decisions in the file's order; lines that cannot be used are noted in ``rejects``.

    Raises
    ------
    BadFileError
        The file cannot be read, or no decision in it can be used.
    """
    decoder = msgspec.json.Decoder(LoggedDecision)
    found: list[LoggedDecision] = []
    for number, line in numbered_lines(path):
        try:
            decision = decoder.decode(line)
        except msgspec.ValidationError as error:
            rejects.add(number, "bad_shape", str(error))
            continue
        except UNREADABLE as error:
            rejects.add(number, "not_json", str(error))
            continue
        fault = _fault(decision)
        if fault is None:
            found.append(decision)
        else:
            rejects.add(number, *fault)
    rejects.require(len(found), "logged decision")
    return found


def _fault(decision: LoggedDecision) -> tuple[str, str] | None:
    eligible = decision.eligible
    if not eligible or len(set(map(str, eligible))) != len(eligible):
        return "bad_eligible", f"{len(eligible)} eligible actions, {len(set(map(str, eligible)))} different"
    if str(decision.action) not in map(str, eligible):
        return "not_eligible", f"action {decision.action!r} is not among the {len(eligible)} eligible"
    if not 0.0 < decision.propensity <= 1.0:
        return "bad_propensity", f"propensity {decision.propensity}; it must be above 0 and at most 1"
    if not abs(decision.reward) <= MAX_NUMBER:
        return "bad_reward", f"reward {decision.reward}; at most ±{MAX_NUMBER:g}"
    try:
        seconds_of(decision.time, "time")
    except ValueError as error:
        return "bad_time", str(error)
    return None
