"""A gate for a challenger: it opens when an anytime-valid test says that the challenger loses less.

Each example gives the difference d of the incumbent's loss and the challenger's. Under the hypothesis that
the challenger is no better, E[d | the past] <= 0, every wealth Π (1 + λ d) with λ >= 0 chosen beforehand is a
non-negative supermartingale as long as λ is at most 1 over the largest possible loss, which is known before
the outcome is. So is the mean of several. By Ville's inequality it ever reaches 1/α with a probability of at
most α, however often one looks (Choe and Ramdas compare forecasters in this way).

The λ are fixed, so the logarithms of the wealths are sums over examples: rounded down to a grid of powers of
two they add up over workers and batches in any order to the same bits, and travel like every other model.

References
----------
Waudby-Smith, I., Ramdas, A. (2024). Estimating means of bounded random variables by betting. JRSS B 86.
Choe, Y. J., Ramdas, A. (2024). Comparing sequential forecasters. Operations Research 72.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from online_models.delta import DeltaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from online_models.base import Snapshot
    from online_models.delta import DeltaReader, DeltaWriter

__all__ = ["ChallengerGate"]

BETS: Final = tuple(2.0**power for power in range(-6, 4))
MAX_STAKE: Final = 0.5  # of the wealth, in the worst case of one example
GRID: Final = 2.0**24
MAX_DIFFERENCE: Final = 2.0**12  # nats times weight
_N_SEEN, _N, _SUM, _OPENED = range(4)
_HEAD: Final = 4


class ChallengerGate:
    """The evidence that a challenger is better, and whether the gate is open.

    Once open it stays open.

    Parameters
    ----------
    name : str
        Of its section in deltas.
    alpha : float
        How often it may ever open for a challenger that is no better.
    warm_up : int
        Examples before the test begins: a challenger starts with nothing learned.

    Examples
    --------
    >>> gate = ChallengerGate("gate", alpha=0.05, warm_up=0)
    >>> gate.begin()
    >>> [gate.update(0.5, worst=0.5) for _ in range(20)].index(True)
    9
    """

    def __init__(self, name: str, alpha: float, warm_up: int) -> None:
        if not 0.0 < alpha < 1.0 or warm_up < 0:
            raise ValueError(f"alpha {alpha}, warm_up {warm_up}; between 0 and 1, at least 0")
        self.name = name
        self.alpha = alpha
        self.warm_up = warm_up
        self.spec = f"gate(format=1, alpha={alpha!r}, warm_up={warm_up})"
        self._limit = -math.log(alpha)
        self._state = [0.0] * (_HEAD + len(BETS))
        self._before = self._state.copy()
        self._open = False

    @property
    def is_open(self) -> bool:
        """Whether the challenger has won."""
        return self._state[_OPENED] > 0.0

    @property
    def n(self) -> int:
        """Examples that were compared."""
        return int(self._state[_N])

    @property
    def mean_difference(self) -> float:
        """Mean loss of the incumbent minus that of the challenger; 0 before anything was compared."""
        return self._state[_SUM] / self._state[_N] if self._state[_N] else 0.0

    def log_wealth(self) -> float:
        """Logarithm of the mean wealth; the gate opens at -log(alpha)."""
        top = max(self._state[_HEAD:])
        return top + math.log(sum(math.exp(one - top) for one in self._state[_HEAD:]) / len(BETS))

    def update(self, difference: float, worst: float) -> bool:
        """Take in one example; return whether it opened the gate.

        Parameters
        ----------
        difference : float
            Loss of the incumbent minus that of the challenger, each from before learning the example.
        worst : float
            The most that the challenger could have lost here more than the incumbent, known before the
            outcome; at least ``-difference``, and not negative.

        Raises
        ------
        RuntimeError
            When no batch is open.
        ValueError
            When the numbers do not fit together.
        """
        if not self._open:
            raise RuntimeError("a gate learns in an open batch: call begin() first")
        if not -worst <= difference <= MAX_DIFFERENCE or not 0.0 <= worst <= MAX_DIFFERENCE:
            raise ValueError(f"difference {difference}, worst {worst}; it must be the worst, at most 4096")
        state = self._state
        state[_N_SEEN] += 1.0
        if state[_N_SEEN] <= self.warm_up:
            return False
        state[_N] += 1.0
        state[_SUM] += math.floor(difference * GRID) / GRID
        most = MAX_STAKE / worst if worst > 0.0 else math.inf
        for k, bet in enumerate(BETS, _HEAD):
            state[k] += math.floor(math.log1p(min(bet, most) * difference) * GRID) / GRID
        if self.is_open or self.log_wealth() < self._limit:
            return False
        state[_OPENED] += 1.0
        return True

    # One batch

    def begin(self) -> None:
        """Open a batch."""
        self._before = self._state.copy()
        self._open = True

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write what the batch added to each sum."""
        if self._state != self._before:
            gained = np.array(self._state) - np.array(self._before)
            delta.add(self.name, {"gained": gained[None, :]})

    def keep(self) -> None:
        """Close the batch."""
        self._open = False

    def rollback(self) -> None:
        """Close the batch and undo it."""
        self._state = self._before.copy()
        self._open = False

    def fold(self, delta: DeltaReader) -> None:
        """Add what a committed batch gained."""
        columns = delta.columns(self.name)
        if not columns:
            return
        gained = columns["gained"]
        if gained.shape != (1, len(self._state)) or not np.isfinite(gained).all():
            raise DeltaError(f"a gate gains {gained.shape}; expected (1, {len(self._state)}), finite")
        self._state = [old + new for old, new in zip(self._state, gained[0].tolist(), strict=True)]

    def snapshot(self) -> Snapshot:
        """All sums."""
        return {"state": np.array(self._state)}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot."""
        state = arrays["state"].astype(np.float64)
        if state.shape != (len(self._state),) or not np.isfinite(state).all():
            raise ValueError(f"a snapshot of a gate with sums of shape {state.shape}")
        self._state = state.tolist()
