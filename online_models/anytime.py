"""Intervals and tests that stay valid however often one looks: no date has to be fixed in advance.

All three rest on Ville's inequality: a non-negative martingale that begins at 1 ever reaches ``1 / alpha``
with probability at most ``alpha``.

References
----------
Robbins, H. (1970). Statistical methods related to the law of the iterated logarithm. Ann. Math. Stat. 41.
    The method of mixtures, here with a beta prior.
Howard, S. R., Ramdas, A., McAuliffe, J., Sekhon, J. (2021). Time-uniform, nonparametric, nonasymptotic
    confidence sequences. Ann. Stat. 49.
Lindon, M., Malek, A. (2020). Anytime-valid inference for multinomial count data. arXiv:2011.03567.
Waudby-Smith, I., Arbour, D., Sinha, R., Kennedy, E. H., Ramdas, A. (2021). Time-uniform central limit theory
    and asymptotic confidence sequences. arXiv:2103.06476.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "MIN_AMOUNTS",
    "MIN_UNITS",
    "Interval",
    "difference",
    "mean_interval",
    "rate_interval",
    "sample_ratio_p_value",
]

PRIOR: Final = 0.5  # of both outcomes, Jeffreys': tight for the small rates of shops
PRIOR_TOTAL: Final = 100.0  # pseudo-units of the test: most powerful for shares off by some 10 %
TIGHT_AT: Final = 1000.0  # units at which the interval of a mean is tightest
# An asymptotic interval says nothing about fewer: where nine amounts in ten are zero, it misses too often
# when watched from a tenth of this on, and not from here on (tests/online_models/test_anytime.py).
MIN_UNITS: Final = 1000
# Nor about fewer amounts other than zero, as (Σx)² / Σx² counts them: few do not tell how they deviate.
MIN_AMOUNTS: Final = 50.0
_STEPS: Final = 60  # halvings: beyond the precision of a float


class Interval(NamedTuple):
    """An estimate with the bounds that hold at all times together."""

    low: float
    estimate: float
    high: float


def rate_interval(successes: int, units: int, alpha: float) -> Interval:
    """Confidence sequence of a probability; exact, for any number of units.

    It holds the rates ``p`` under which the beta-binomial mixture martingale is below ``1 / alpha``.

    >>> rate_interval(0, 0, 0.05)
    Interval(low=0.0, estimate=0.0, high=1.0)
    """
    if units == 0:
        return Interval(0.0, 0.0, 1.0)
    failures = units - successes
    mixture = _log_beta(PRIOR + successes, PRIOR + failures) - _log_beta(PRIOR, PRIOR)
    limit = mixture + math.log(alpha)  # the likelihood must be above it

    def covered(p: float) -> bool:
        return _log_power(p, successes) + _log_power(1.0 - p, failures) > limit

    estimate = successes / units
    low = 0.0 if successes == 0 else _border(covered, estimate, 0.0)
    high = 1.0 if failures == 0 else _border(covered, estimate, 1.0)
    return Interval(low, estimate, high)


def mean_interval(total: float, squares: float, units: int, alpha: float) -> Interval:
    """Confidence sequence of a mean from the sum and the sum of squares; asymptotic, so not for few units.

    Equation 14 of Waudby-Smith et al. in its running form. The bounds are infinite below ``MIN_UNITS`` units,
    and below ``MIN_AMOUNTS`` amounts: k equal ones count as k, and unequal ones as fewer.
    """
    if units < MIN_UNITS or total * total < MIN_AMOUNTS * squares or squares <= 0.0:
        return Interval(-math.inf, total / units if units else 0.0, math.inf)
    mean = total / units
    deviation = math.sqrt(max(squares / units - mean * mean, 0.0))
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / TIGHT_AT
    grown = units * rho2 + 1
    width = deviation * math.sqrt(2 * grown / (units * units * rho2) * math.log(math.sqrt(grown) / alpha))
    return Interval(mean - width, mean, mean + width)


def difference(treated: Interval, control: Interval) -> Interval:
    """First minus second: where each interval misses with at most ``alpha / 2``, this does with ``alpha``."""
    return Interval(
        treated.low - control.high, treated.estimate - control.estimate, treated.high - control.low
    )


def sample_ratio_p_value(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Sequential p-value that units fall into groups by these shares; small means that the split is broken.

    The reciprocal of the Bayes factor of a Dirichlet alternative around the shares (Lindon and Malek, eq. 6).

    >>> sample_ratio_p_value([500, 500], [0.5, 0.5])
    1.0
    >>> sample_ratio_p_value([600, 400], [0.5, 0.5]) < 1e-6
    True
    """
    log_factor = math.lgamma(PRIOR_TOTAL) - math.lgamma(PRIOR_TOTAL + sum(counts))
    for count, share in zip(counts, shares, strict=True):
        prior = PRIOR_TOTAL * share
        if share <= 0.0:
            if count:
                return 0.0  # what cannot happen has
            continue
        log_factor += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return min(1.0, math.exp(-log_factor)) if log_factor > 0 else 1.0


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_power(base: float, exponent: int) -> float:
    if exponent == 0:
        return 0.0
    return exponent * math.log(base) if base > 0 else -math.inf


def _border(covered: Callable[[float], bool], inside: float, outside: float) -> float:
    """Return where covering ends between two points; the outer side, so that rounding never narrows."""
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if covered(middle):
            inside = middle
        else:
            outside = middle
    return outside
