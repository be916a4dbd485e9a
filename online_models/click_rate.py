"""Click probability: logistic regression over hashed features with a Gaussian posterior of each weight.

A weight's state is its precision H and the product HM of precision and mean, both sums of increments. One
pass, no learning rate, O(features) per event. The reasons are in ``docs/models/click-rate.md``.

References
----------
Graepel, Quiñonero Candela, Borchert, Herbrich: Web-Scale Bayesian Click-Through Rate Prediction, ICML 2010.
Broderick, Boyd, Wibisono, Wilson, Jordan: Streaming Variational Bayes, NIPS 2013.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from online_models.hashed import Contribution, HashedLogistic
from online_models.kernels.logistic import MAX_PRECISION

__all__ = ["ClickRate", "Contribution"]

BIAS_PRECISION = 0.1  # the base rate is learned within some tens of events
MIN_PRIOR_PRECISION = 1e-3  # deviation 32


class ClickRate(HashedLogistic):
    """Diagonal-Gaussian logistic regression in additive form.

    Parameters
    ----------
    n_slots : int
        Size of the table of weights.
    prior_precision : float
        Of every weight but the bias, whose prior is weak. From 2 to 6 costs at most .5 % log loss.
    half_life_s, crosses : float, sequence
        See :class:`online_models.hashed.HashedLogistic`.

    Examples
    --------
    >>> model = ClickRate(n_slots=2**10)
    >>> model.begin()
    >>> for _ in range(200):
    ...     p = model.learn_one({"device": "mobile"}, 1), model.learn_one({"device": "desktop"}, 0)
    >>> model.keep()
    >>> model.predict_proba_one({"device": "mobile"}) > 0.9 > 0.1 > model.predict_proba_one(
    ...     {"device": "desktop"}
    ... )
    True
    """

    name = "click_rate"

    def __init__(
        self,
        n_slots: int = 2**18,
        prior_precision: float = 4.0,
        *,
        half_life_s: float = math.inf,
        crosses: Sequence[tuple[str, str]] = (),
        name: str = "click_rate",
    ) -> None:
        if not MIN_PRIOR_PRECISION <= prior_precision <= MAX_PRECISION:
            raise ValueError(f"prior_precision is {prior_precision}; it must be between .001 and 2**20")
        super().__init__(
            name,
            f"prior_precision={prior_precision!r}, bias_precision={BIAS_PRECISION}",
            n_slots,
            proximal=False,
            settings=(BIAS_PRECISION, prior_precision),
            half_life_s=half_life_s,
            crosses=crosses,
        )
