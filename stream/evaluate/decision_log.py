"""A log of decisions as arrays."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from stream.evaluate.times import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stream.evaluate.contexts import ContextEncoder
    from stream.evaluate.logged import LoggedDecision

__all__ = ["DecisionLog"]


class DecisionLog:
    """The decisions of a file, in its order.

    Attributes
    ----------
    names : list of str
        All actions, sorted; their places are the columns of policies.
    eligible : list of list of str
        What could be chosen, for each decision.
    actions, rewards, propensities : ndarrays of shape (n,)
        Column, outcome and probability of what was chosen.
    conversions : ndarray of shape (n,)
        What the policy learns, 0 to 1: rewards of another range are that much of the largest.
    contexts : ndarray of shape (n, d)
    times : list of float
        Seconds since the epoch; a line without has those of the line before, or of the first that has any.
    """

    def __init__(self, decisions: Sequence[LoggedDecision], encoder: ContextEncoder) -> None:
        self.names = sorted({str(name) for decision in decisions for name in decision.eligible})
        column = {name: at for at, name in enumerate(self.names)}
        self.eligible = [[str(name) for name in decision.eligible] for decision in decisions]
        self._columns = [np.array([column[name] for name in names]) for names in self.eligible]
        self.actions = np.array([column[str(decision.action)] for decision in decisions])
        self.rewards = np.array([float(decision.reward) for decision in decisions])
        low, high = min(0.0, self.rewards.min()), max(1.0, self.rewards.max())
        self.conversions = (self.rewards - low) / (high - low)
        self.propensities = np.array([decision.propensity for decision in decisions])
        self.contexts = encoder.matrix([decision.context for decision in decisions])
        given = [seconds_of(decision.time, "time") for decision in decisions]
        time = next((one for one in given if one is not None), 0.0)
        self.times = [time := time if one is None else one for one in given]

    def __len__(self) -> int:
        return len(self.actions)

    def policy(self, probabilities: Callable[[int], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Probabilities of all actions, shape (n, n_actions), from those of each decision's eligible ones."""
        target = np.zeros((len(self), len(self.names)))
        for at, columns in enumerate(self._columns):
            target[at, columns] = probabilities(at)
        return target

    @cached_property
    def uniform(self) -> NDArray[np.float64]:
        """The policy that draws among the eligible ones evenly."""
        return self.policy(lambda at: np.full(len(self.eligible[at]), 1.0 / len(self.eligible[at])))

    def fixed_weights(self, action: int) -> NDArray[np.float64]:
        """Importance weights, shape (n,), of taking one action wherever it is eligible, else one evenly."""
        even = self.uniform[np.arange(len(self)), self.actions]
        chosen = np.where(self.uniform[:, action] > 0.0, self.actions == action, even)
        weights: NDArray[np.float64] = chosen / self.propensities
        return weights
