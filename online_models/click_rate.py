"""Click probability: logistic regression over hashed features with a Gaussian posterior of each weight.

A weight's state is its precision H and the product HM of precision and mean, both sums of increments. One
pass, no learning rate, O(features) per event. A calibration curve over the model's own log odds is learned
along with the weights. The reasons are in ``docs/models/click-rate.md``.

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
EVIDENCE = 0.6  # of an example's information counts this share; docs/models/click-rate.md says why
CURVE_PRECISION = 10.0  # of a knot of the calibration curve: deviation .3 of log odds


class ClickRate(HashedLogistic):
    """Diagonal-Gaussian logistic regression in additive form.

    Parameters
    ----------
    n_slots : int
        Size of the table of weights.
    prior_precision : float
        Of every weight but the bias, whose prior is weak.
    evidence : float
        Share of an example's information that raises precisions, above 0 and at most 1. Less than 1 keeps
        steps longer: weights that drift, or that share what they explain, never settle as fast as
        independent ones would.
    curve_precision : float
        Prior precision of each knot of the calibration curve; 2**20 keeps the curve flat.
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
        evidence: float = EVIDENCE,
        curve_precision: float = CURVE_PRECISION,
        half_life_s: float = math.inf,
        crosses: Sequence[tuple[str, str]] = (),
        name: str = "click_rate",
    ) -> None:
        for parameter, precision in (
            ("prior_precision", prior_precision),
            ("curve_precision", curve_precision),
        ):
            if not MIN_PRIOR_PRECISION <= precision <= MAX_PRECISION:
                raise ValueError(f"{parameter} is {precision}; it must be between .001 and 2**20")
        if not 0.0 < evidence <= 1.0:
            raise ValueError(f"evidence is {evidence}; it must be above 0 and at most 1")
        super().__init__(
            name,
            f"prior_precision={prior_precision!r}, bias_precision={BIAS_PRECISION}, "
            f"curve_precision={curve_precision!r}, evidence={evidence!r}",
            n_slots,
            proximal=False,
            settings=(BIAS_PRECISION, prior_precision, curve_precision, evidence),
            half_life_s=half_life_s,
            crosses=crosses,
        )
