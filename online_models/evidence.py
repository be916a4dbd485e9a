"""Evidence that one of two models loses less than the other: the wealth of fixed bets, held as sums.

Each example gives a difference d of two losses. Under the hypothesis that the favourite is no better,
E[d | the past] <= 0, every wealth Π (1 + λ d) with λ >= 0 chosen beforehand is a non-negative supermartingale
as long as λ is at most 1 over the largest possible loss, which is known before the outcome is. So is every
mean of them. By Ville's inequality it ever reaches 1/α with a probability of at most α, however often one
looks (Choe and Ramdas compare forecasters in this way).

Who bet on a favourite that was worse for long has nearly nothing left when that changes. So half of the
money plays all the time, and of the other half the share 1 / (j (j + 1)) plays in the j-th block of examples
alone; these shares sum to 1. What a block that is over has won is not counted.

The λ are fixed, so the logarithms of the wealths are sums over examples: rounded down to a grid of powers of
two they add up over workers and batches in any order to the same bits. Of blocks the newest counts: which one
that is, and its sums, are the same in any order, too.

References
----------
Waudby-Smith, I., Ramdas, A. (2024). Estimating means of bounded random variables by betting. JRSS B 86.
Choe, Y. J., Ramdas, A. (2024). Comparing sequential forecasters. Operations Research 72.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BETS", "BLOCK", "MAX_DIFFERENCE", "WIDTH", "Evidence"]

BETS: Final = tuple(2.0**power for power in range(-6, 4))
BLOCK: Final = 4096  # examples: a mean of a fifth of the deviation is found within two blocks
MAX_STAKE: Final = 0.5  # of the wealth, in the worst case of one example
GRID: Final = 2.0**24
MAX_DIFFERENCE: Final = 2.0**12  # nats times weight
_HEAD: Final = 4  # sums before those of the bets
WIDTH: Final = _HEAD + 2 * len(BETS) + 1


class Evidence:
    """Sums of one round of a test.

    Attributes
    ----------
    n_seen, n : float
        Examples that came, and those of them that were compared.
    total : float
        Sum of the differences.
    n_won : float
        How often it was found that this was enough; workers that do not know of one another may each find it.
    """

    __slots__ = ("_block", "_in_block", "_whole", "n", "n_seen", "n_won", "total")

    def __init__(self) -> None:
        self.n_seen = self.n = self.total = self.n_won = 0.0
        self._whole = [0.0] * len(BETS)
        self._block = 0
        self._in_block = [0.0] * len(BETS)

    def add(self, difference: float, worst: float) -> None:
        """Bet on one difference, which is at least ``-worst``, a bound from before the outcome."""
        block = int(self.n) // BLOCK
        if block > self._block:
            self._block, self._in_block = block, [0.0] * len(BETS)
        self.n += 1.0
        self.total += math.floor(difference * GRID) / GRID
        most = MAX_STAKE / worst if worst > 0.0 else math.inf
        whole, in_block = self._whole, self._in_block
        for k, bet in enumerate(BETS):
            gain = math.floor(math.log1p(min(bet, most) * difference) * GRID) / GRID
            whole[k] += gain
            in_block[k] += gain

    def log_wealth(self) -> float:
        """Logarithm of the wealth of all bets, which begins at 3/4: later blocks wait."""
        j = self._block + 1
        share = -math.log(j * (j + 1))
        wealths = [*self._whole, *(one + share for one in self._in_block)]
        top = max(wealths)
        return top + math.log(sum(math.exp(one - top) for one in wealths) / len(wealths))

    def reaches(self, limit: float) -> bool:
        """Whether the logarithm of the wealth is at least so much."""
        return max(*self._whole, *self._in_block) >= limit and self.log_wealth() >= limit

    def row(self) -> list[float]:
        """All sums, and the block before its own."""
        return [self.n_seen, self.n, self.total, self.n_won, *self._whole, self._block, *self._in_block]

    def gained(self, before: Sequence[float]) -> list[float]:
        """What came since :meth:`row` was ``before``; :meth:`fold` adds it."""
        now, at = self.row(), _HEAD + len(BETS)
        found = [new - old for new, old in zip(now, before, strict=True)]
        if now[at] > before[at]:
            found[at:] = now[at:]
        found[at] = now[at]
        return found

    def fold(self, row: Sequence[float]) -> None:
        """Add what :meth:`gained` or :meth:`row` gave."""
        n_seen, n, total, n_won, *rest = row
        self.n_seen += n_seen
        self.n += n
        self.total += total
        self.n_won += n_won
        bets = len(BETS)
        self._whole = [old + new for old, new in zip(self._whole, rest[:bets], strict=True)]
        block = int(rest[bets])
        if block > self._block:
            self._block, self._in_block = block, rest[bets + 1 :]
        elif block == self._block:
            in_block = zip(self._in_block, rest[bets + 1 :], strict=True)
            self._in_block = [old + new for old, new in in_block]
