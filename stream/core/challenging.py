"""Challengers: models that learn from the same events and are scored, and serve while they have won.

The incumbent and the challenger predict each example before either learns it. The difference of their scores,
log loss of clicks or reciprocal rank of the next item, goes to a gate, which opens by an anytime-valid test
and closes by the same test the other way round (:mod:`online_models.gate`). Challengers and gates are folds
of the model deltas, so evidence and verdict survive restarts and are the same for every worker at the same
deltas. From the example that opens the gate on the challenger serves, until one closes it; both learn on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.codec import rfc3339
from schemas.ids import id_of
from schemas.outputs import Cause, Decision

if TYPE_CHECKING:
    from online_models.gate import ChallengerGate, Verdict
    from online_models.hashed import HashedLogistic
    from online_models.hybrid import OnlineBlend

__all__ = ["EVERYBODY", "INCUMBENT", "ClickTrial", "RankTrial", "Trial", "promotion"]

INCUMBENT: Final = "incumbent"
POLICY: Final = "sequential_test"
EVERYBODY: Final = "*"  # the user of a decision that concerns all


@dataclass(slots=True)
class Trial:
    """A gate before a challenger; ``promotes`` is whether that may serve at all.

    ``measure`` names what the differences are of.
    """

    gate: ChallengerGate
    promotes: bool
    measure: str

    @property
    def serves(self) -> bool:
        """Whether the challenger serves."""
        return self.promotes and self.gate.is_open


@dataclass(slots=True)
class ClickTrial(Trial):
    """A second click model."""

    model: HashedLogistic

    def compare(self, y: float, zero_weight: float, incumbent: float, challenger: float) -> Verdict | None:
        """Compare two predictions of one outcome; return the verdict, where this moved the gate.

        Each outcome has the weight that it would have, 1 or, where zeros are sampled, ``zero_weight``: what
        is at stake must be known before the outcome, or the test finds what is not there.
        """
        gains = (
            math.log((1.0 - challenger) / (1.0 - incumbent)) * zero_weight,
            math.log(challenger / incumbent),
        )
        return self.gate.update(gains[y > 0.0], max(0.0, -min(gains)), max(0.0, *gains))


@dataclass(slots=True)
class RankTrial(Trial):
    """A second ranker over the same sources."""

    blend: OnlineBlend

    def compare(self, incumbent: int | None, challenger: int | None) -> Verdict | None:
        """Compare two ranks of the item that came next; return the verdict, where this moved the gate."""
        return self.gate.update(_reciprocal(challenger) - _reciprocal(incumbent), 1.0, 1.0)


def _reciprocal(rank: int | None) -> float:
    return 0.0 if rank is None else 1.0 / (1.0 + rank)


def promotion(trial: Trial, verdict: Verdict, at: float, model_version: str) -> Decision:
    """Say that a challenger has won, or the incumbent again, at an event time; the action is who serves."""
    gate, time = trial.gate, rfc3339(at)
    return Decision(
        decision_id=id_of("promotion", gate.name, str(verdict.round), time),
        kind="promotion",
        user_id=EVERYBODY,
        action=gate.name if trial.promotes and verdict.for_challenger else INCUMBENT,
        propensity=1.0,
        policy=POLICY,
        cause=Cause(gate.name, "examples compared", time),
        decided_at=time,
        eligible=[INCUMBENT, gate.name],
        model_version=model_version,
        features={
            "round": float(verdict.round),
            "examples": float(verdict.n),
            trial.measure: verdict.mean_difference,
            "log_wealth": verdict.log_wealth,
            "alpha": verdict.alpha,
        },
    )
