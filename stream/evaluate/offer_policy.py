"""The production's policy of offers, at work on a log of decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.choice import NOTHING
from stream.assembly import build_offer_models

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from online_models.choice import Choice
    from stream.evaluate.decision_log import DecisionLog
    from stream.settings import Settings

__all__ = ["OfferPolicy"]

BATCH = 1000


class OfferPolicy:
    """Chooses and learns as a worker does: few offers by full posteriors, many by the hashed one.

    Parameters
    ----------
    settings : Settings
    log : DecisionLog
        Whose decisions are taken, by their places.
    """

    def __init__(self, settings: Settings, log: DecisionLog) -> None:
        self._log = log
        self._seed = settings.seed
        self._few = settings.offers.few
        self._bandit, self._many = build_offer_models(settings, log.contexts.shape[1])
        most = max(sum(name != NOTHING for name in names) for names in log.eligible)
        self._uses_many = most > self._few
        self._begin()

    def choose(self, at: int, key: str) -> Choice:
        """Choose among what was eligible; draws are keyed by ``key`` and the place in the log."""
        names, n = self._log.eligible[at], len(self._log.eligible[at])
        few = sum(name != NOTHING for name in names) <= self._few
        return (self._bandit if few else self._many).choose(
            names,
            self._log.contexts[at],
            [1.0] * n,
            [0.0] * n,
            seed=self._seed,
            decision_id=f"{key}:{at}",
            at=self._log.times[at],
        )

    def probabilities(self, at: int, key: str) -> NDArray[np.float64]:
        """With which probabilities it chooses among what was eligible."""
        return np.array(self.choose(at, key).propensities)

    def learn(self, at: int) -> None:
        """Learn an outcome; what is between 0 and 1 is that much of a conversion and of none."""
        log = self._log
        name, x, reward = log.names[log.actions[at]], log.contexts[at], float(log.conversions[at])
        for y, weight in ((1, reward), (0, 1.0 - reward)):
            if weight > 0.0:
                self._bandit.learn_one(name, x, y, weight, at=log.times[at])
                if self._uses_many:
                    self._many.learn_offer(name, x, y, weight, at=log.times[at])
        if at % BATCH == 0:
            self._bandit.keep()
            self._many.keep()
            self._begin()

    def _begin(self) -> None:
        self._bandit.begin()
        self._many.begin()
