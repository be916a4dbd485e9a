"""Click probability by FTRL-Proximal: a peer of the Gaussian model, to be chosen and measured beside it.

Its two sums z and n add up over workers, too, but their sum is no posterior: with several workers it needs to
be merged often (``docs/models/click-rate.md``).

Reference
---------
McMahan et al.: Ad Click Prediction: a View from the Trenches, KDD 2013.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from online_models.hashed import HashedLogistic

__all__ = ["FollowTheRegularizedLeader"]


MAX_RATE = 100.0
MAX_PENALTY = 1000.0


class FollowTheRegularizedLeader(HashedLogistic):
    """Logistic regression by FTRL-Proximal with per-coordinate rates.

    Parameters
    ----------
    n_slots : int
        Size of the table of weights.
    alpha, beta, l1, l2 : float
        Rate, its offset, and the two penalties; the defaults were best of a grid on MovieLens.
    half_life_s, crosses : float, sequence
        See :class:`online_models.hashed.HashedLogistic`.

    Examples
    --------
    >>> model = FollowTheRegularizedLeader(n_slots=2**10)
    >>> model.begin()
    >>> for _ in range(200):
    ...     p = model.learn_one({"device": "mobile"}, 1), model.learn_one({"device": "desktop"}, 0)
    >>> model.keep()
    >>> model.predict_proba_one({"device": "mobile"}) > 0.9 > 0.1 > model.predict_proba_one(
    ...     {"device": "desktop"}
    ... )
    True
    """

    name = "click_ftrl"

    def __init__(
        self,
        n_slots: int = 2**18,
        *,
        alpha: float = 0.3,
        beta: float = 1.0,
        l1: float = 0.0,
        l2: float = 1.0,
        half_life_s: float = math.inf,
        crosses: Sequence[tuple[str, str]] = (),
        name: str = "click_ftrl",
    ) -> None:
        rates, penalties = (alpha, beta), (l1, l2)
        in_range = min(rates) > 0.0 and max(rates) <= MAX_RATE
        if not (in_range and min(penalties) >= 0.0 and max(penalties) <= MAX_PENALTY):
            raise ValueError(
                f"alpha {alpha}, beta {beta}, l1 {l1}, l2 {l2}; the first two above 0 and at most 100, "
                "penalties from 0 to 1000"
            )
        super().__init__(
            name,
            f"alpha={alpha!r}, beta={beta!r}, l1={l1!r}, l2={l2!r}",
            n_slots,
            proximal=True,
            settings=(alpha, beta, l1, l2),
            half_life_s=half_life_s,
            crosses=crosses,
        )
