"""A gate for a challenger: an anytime-valid test opens it when that loses less, and closes it when more.

The test goes in rounds. In the odd ones the challenger is the favourite (:mod:`online_models.evidence`), in
the even ones the incumbent; each begins with nothing and ends when its wealth reaches 1 over its level. The
levels α / (k (k + 1)) of the rounds k sum to less than α, so with a probability of at least 1 - α no round
ever ends for a favourite that was no better while it lasted: Ville's inequality given all that came before
the round, and a union bound (alpha spending: Bonferroni over a sequence of tests). After the last round,
which is an even one, the gate stays closed.

Each round has sums of its own, so they are a fold of the examples in any order. A round is over once any
worker has found it so: that is one more sum. Evidence of a round that is over, by workers that did not know,
is kept and decides nothing.

References
----------
Foster, D. P., Stine, R. A. (2008). Alpha-investing: a procedure for sequential control of expected false
discoveries. JRSS B 70.
Tian, J., Ramdas, A. (2021). Online control of the familywise error rate. Stat. Methods Med. Res. 30.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from online_models.delta import DeltaError
from online_models.evidence import MAX_DIFFERENCE, WIDTH, Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from online_models.base import Snapshot
    from online_models.delta import DeltaReader, DeltaWriter

__all__ = ["ROUNDS", "ChallengerGate", "Verdict"]

ROUNDS: Final = 8  # an even number: it ends with the incumbent
FORMAT: Final = 2


class Verdict(NamedTuple):
    """The end of a round: who won, and on what evidence.

    ``mean_difference`` is the incumbent's loss minus the challenger's.
    """

    round: int
    for_challenger: bool
    n: int
    mean_difference: float
    log_wealth: float
    alpha: float


class ChallengerGate:
    """The evidence that a challenger is better, or no longer, and whether the gate is open.

    Parameters
    ----------
    challenger : str
        Its name; with the format it makes the name of the gate's section in deltas.
    alpha : float
        How often any round may ever end for a favourite that is no better, all rounds together.
    warm_up : int
        Examples before the first round begins: a challenger starts with nothing learned.

    Examples
    --------
    >>> gate = ChallengerGate("new", alpha=0.05, warm_up=0)
    >>> gate.begin()
    >>> next(n for n in range(1, 99) if gate.update(0.5, worst=0.5, best=0.5)), gate.is_open
    (12, True)
    >>> next(n for n in range(1, 99) if gate.update(-0.5, worst=0.5, best=0.5)), gate.is_open
    (15, False)
    """

    def __init__(self, challenger: str, alpha: float, warm_up: int) -> None:
        if not 0.0 < alpha < 1.0 or warm_up < 0:
            raise ValueError(f"alpha {alpha}, warm_up {warm_up}; between 0 and 1, at least 0")
        self.name = f"{challenger}.gate{FORMAT}"
        self.alpha = alpha
        self.warm_up = warm_up
        self.spec = f"gate(format={FORMAT}, alpha={alpha!r}, warm_up={warm_up})"
        self._rounds = [Evidence() for _ in range(ROUNDS)]
        self._over = 0
        self._before = [one.row() for one in self._rounds]
        self._learning = False

    @property
    def is_open(self) -> bool:
        """Whether the challenger has won the last round that ended."""
        return self._over % 2 == 1

    @property
    def round(self) -> int:
        """The round that runs, from 1 on; one more than there are after the last."""
        return self._over + 1

    @property
    def n(self) -> int:
        """Examples that were compared in this round."""
        return int(self._newest.n)

    @property
    def mean_difference(self) -> float:
        """Mean loss of the incumbent minus that of the challenger in this round; 0 before any example."""
        one = self._newest
        sign = -1.0 if self._at % 2 else 1.0
        return sign * one.total / one.n if one.n else 0.0

    @property
    def level(self) -> float:
        """How often this round may end for a favourite that is no better."""
        k = self._at + 1
        return self.alpha / (k * (k + 1))

    def log_wealth(self) -> float:
        """Logarithm of the favourite's wealth in this round, which ends at ``-log(level)``."""
        return self._newest.log_wealth()

    @property
    def _at(self) -> int:
        return min(self._over, ROUNDS - 1)

    @property
    def _newest(self) -> Evidence:
        return self._rounds[self._at]

    def update(self, difference: float, worst: float, best: float) -> Verdict | None:
        """Take in one example; return a verdict where it ended the round.

        Parameters
        ----------
        difference : float
            Loss of the incumbent minus that of the challenger, each from before learning the example.
        worst, best : float
            The most that the challenger could have lost here more, and less, than the incumbent, known before
            the outcome, and not negative.

        Raises
        ------
        RuntimeError
            When no batch is open.
        ValueError
            When the numbers do not fit together.
        """
        if not self._learning:
            raise RuntimeError("a gate learns in an open batch: call begin() first")
        if not -worst <= difference <= best or min(worst, best) < 0.0 or max(worst, best) > MAX_DIFFERENCE:
            raise ValueError(f"difference {difference}, worst {worst}, best {best}: between -worst and best")
        if self._over == ROUNDS:
            return None
        evidence = self._newest
        evidence.n_seen += 1.0
        if self._over == 0 and evidence.n_seen <= self.warm_up:
            return None
        if self.is_open:
            evidence.add(-difference, best)
        else:
            evidence.add(difference, worst)
        if not evidence.reaches(-math.log(self.level)):
            return None
        verdict = Verdict(
            self.round, not self.is_open, self.n, self.mean_difference, self.log_wealth(), self.level
        )
        evidence.n_won += 1.0
        self._over += 1
        return verdict

    # One batch

    def begin(self) -> None:
        """Open a batch."""
        self._before = [one.row() for one in self._rounds]
        self._learning = True

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write what the batch added to the sums of each round it knew as running."""
        pairs = enumerate(zip(self._rounds, self._before, strict=True))
        changed = {k: one.gained(old) for k, (one, old) in pairs if one.row() != old}
        if changed:
            columns = {"round": np.array([*changed], np.int32), "gained": np.array([*changed.values()])}
            delta.add(self.name, columns)

    def keep(self) -> None:
        """Close the batch."""
        self._learning = False

    def rollback(self) -> None:
        """Close the batch and undo it."""
        self._take(self._before)
        self._learning = False

    def fold(self, delta: DeltaReader) -> None:
        """Add what a committed batch gained."""
        columns = delta.columns(self.name)
        if not columns:
            return
        rounds, gained = columns["round"], columns["gained"]
        if gained.shape != (len(rounds), WIDTH) or not np.isfinite(gained).all():
            raise DeltaError(f"a gate gains {gained.shape}; expected ({len(rounds)}, {WIDTH}), finite")
        if rounds.dtype != np.int32 or not ((rounds >= 0) & (rounds < ROUNDS)).all():
            raise DeltaError(f"rounds {rounds} of a gate; from 0 to {ROUNDS - 1}")
        for k, row in zip(rounds.tolist(), gained.tolist(), strict=True):
            self._rounds[k].fold(row)
        self._count()

    def snapshot(self) -> Snapshot:
        """All sums."""
        return {"rounds": np.array([one.row() for one in self._rounds])}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot."""
        rounds = arrays["rounds"].astype(np.float64)
        if rounds.shape != (ROUNDS, WIDTH) or not np.isfinite(rounds).all():
            raise ValueError(f"a snapshot of a gate with sums of shape {rounds.shape}")
        self._take(rounds.tolist())

    def _take(self, rows: list[list[float]]) -> None:
        self._rounds = [Evidence() for _ in range(ROUNDS)]
        for one, row in zip(self._rounds, rows, strict=True):
            one.fold(row)
        self._count()

    def _count(self) -> None:
        """A round that is known to be over was known to whoever ended a later one."""
        self._over = max((k for k, one in enumerate(self._rounds, 1) if one.n_won > 0.0), default=0)
