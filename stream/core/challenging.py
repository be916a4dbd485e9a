"""Challengers: models that learn from the same events and are scored, never served until they have won.

The incumbent and the challenger predict each example before either learns it. The difference of their log
losses goes to a gate, which opens by an anytime-valid test (:mod:`online_models.gate`). Both are folds of the
model deltas, so evidence and verdict survive restarts and are the same for every worker at the same deltas.
From the example that opens the gate on, the challenger serves; the former incumbent learns on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.codec import rfc3339
from schemas.ids import id_of
from schemas.outputs import Cause, Decision

if TYPE_CHECKING:
    from online_models.gate import ChallengerGate
    from online_models.hashed import HashedLogistic

__all__ = ["CHALLENGER", "EVERYBODY", "INCUMBENT", "ClickTrial", "promotion"]

INCUMBENT: Final = "incumbent"
CHALLENGER: Final = "challenger"
POLICY: Final = "sequential_test"
EVERYBODY: Final = "*"  # the user of a decision that concerns all


@dataclass(slots=True)
class ClickTrial:
    """A second click model and the gate before it; ``promotes`` is whether it may serve at all."""

    model: HashedLogistic
    gate: ChallengerGate
    promotes: bool

    @property
    def serves(self) -> bool:
        """Whether the challenger has taken over."""
        return self.promotes and self.gate.is_open

    def compare(self, y: float, weight: float, incumbent: float, challenger: float) -> bool:
        """Compare two predictions of one outcome; return whether this opened the gate."""
        gains = (
            math.log((1.0 - challenger) / (1.0 - incumbent)) * weight,
            math.log(challenger / incumbent) * weight,
        )
        return self.gate.update(gains[y > 0.0], max(0.0, -min(gains)))


def promotion(trial: ClickTrial, at: float, model_version: str) -> Decision:
    """Say that a challenger has won, at an event time."""
    gate, time = trial.gate, rfc3339(at)
    return Decision(
        decision_id=id_of("promotion", gate.name, time),
        kind="promotion",
        user_id=EVERYBODY,
        action=gate.name if trial.promotes else INCUMBENT,
        propensity=1.0,
        policy=POLICY,
        cause=Cause(gate.name, "examples compared", time),
        decided_at=time,
        eligible=[INCUMBENT, gate.name],
        model_version=model_version,
        features={
            "examples": float(gate.n),
            "log_loss_difference": gate.mean_difference,
            "log_wealth": gate.log_wealth(),
            "alpha": gate.alpha,
        },
    )
