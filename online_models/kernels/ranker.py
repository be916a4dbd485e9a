"""The linear ranker over the candidates of one event: features, scores, one softmax step.

Features of a candidate, with S sources (sequence, transition, factors, H counts of popularity, content,
O optional ones): S ranks, then the scores F, B, T and of the factors, then H decayed counts, then the item's
age and the time since its last event, then the scores of content and of the optional sources, and last how
well an item suits that nobody has met yet, 0 for all others. ``features`` is float32[n_features, m], one
candidate a column, so that each step runs along the candidates; the first ``n`` columns are in use.
``weights`` and ``squares`` are float64[14, n_features]: one shared set, six for the gap since the user's
last event about an item, seven for the length of the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels._jit import kernel, part
from online_models.kernels.decay import epoch_of
from online_models.kernels.logarithm import scaled_logs
from online_models.kernels.retrieval import CONTENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SCORE_OFFSET", "SCORE_SCALE", "describe", "describe_newcomer", "explain", "softmax_step"]

# Offsets keep logarithms of vanished counts in range; scales bring all features to order 1.
SCORE_SCALE, SCORE_OFFSET = 0.3, 0.003
COUNT_SCALE, COUNT_OFFSET = 0.3, 0.02
TIME_SCALE = 0.2
FACTOR_LOW, FACTOR_HIGH = -0.5, 1.5
NEGLIGIBLE = 1e-5  # of a share: such candidates do not move the gradient
N_REASONS = 3
# Steps are multiples of a power of two, so sums of them are exact in any order: below 2^13 and 2^23.
WEIGHT_GRID, SQUARE_GRID = 2.0**40, 2.0**30
SOURCE, ROW, CAUSE = 3, 4, 5


@part
def _sum(n: int, values: NDArray[np.float32], factors: NDArray[np.float64]) -> float:
    """Sum of products in four lanes, which do not wait for one another."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = n - n % 4
    for k in range(0, whole, 4):
        a += factors[k] * values[k]
        b += factors[k + 1] * values[k + 1]
        c += factors[k + 2] * values[k + 2]
        d += factors[k + 3] * values[k + 3]
    for k in range(whole, n):
        a += factors[k] * values[k]
    return (a + b) + (c + d)


@part
def _add_score(n: int, weight: float, values: NDArray[np.float32], scores: NDArray[np.float64]) -> None:
    for c in range(n):
        scores[c] += weight * np.float64(values[c])


@part
def _counts(
    n: int,
    h: int,
    at: float,
    rate: float,
    rows: NDArray[np.int32],
    table: NDArray[np.float64],
    n_half_lives: int,
    counts: NDArray[np.float64],
) -> None:
    """Decayed counts of rows at a time."""
    epoch = epoch_of(at, rate)
    fade = np.exp2(64.0 * epoch - at * rate)
    for c in range(n):
        row = rows[c]
        value = table[row, h]
        last = table[row, 2 * n_half_lives + 1]
        if at < last:  # a late event sees the count as it is, not grown back
            value *= np.exp2(min(64.0 * table[row, n_half_lives + h] - last * rate, 900.0))
        else:
            value *= fade
            if table[row, n_half_lives + h] != epoch:
                value *= np.exp2(64.0 * (table[row, n_half_lives + h] - epoch))
        counts[c] = value


@part
def describe(
    n: int,
    at: float,
    gap: int,
    length: int,
    begins: bool,
    rows: NDArray[np.int32],
    marks: NDArray[np.int32],
    hits: NDArray[np.float64],
    factor_scores: NDArray[np.float64],
    rates: NDArray[np.float64],
    table: NDArray[np.float64],
    weights: NDArray[np.float64],
    features: NDArray[np.float32],
    scores: NDArray[np.float64],
    popularity: NDArray[np.float64],
) -> None:
    """Scores and features of ``n`` candidates; their ranks and what optional sources say is there already.

    Parameters
    ----------
    gap, length : int
        Rows of ``weights`` for the context.
    begins : bool
        Whether a visit begins; else the count of beginnings is 0 for all.
    rows, marks : int32[m]
        Rows of the candidates and of ``hits``.
    factor_scores : float64[m]
        Scores of the factor model.
    scores, popularity : float64[m]
        Take the ranker's score, and the count of all events at the last half-life, which breaks ties.
    """
    n_half_lives = rates.shape[0]
    n_features = features.shape[0]
    values = np.empty(n)
    exponents = np.empty(n)
    # Twelve features beside two of each half-life and of each optional source.
    n_optional = (n_features - 12 - 2 * n_half_lives) // 2
    d = 4 + n_half_lives + n_optional
    for k in range(3):
        for c in range(n):
            values[c] = SCORE_OFFSET + hits[marks[c], k]
        scaled_logs(n, SCORE_SCALE, values, exponents, features[d + k])
    d += 3
    for c in range(n):
        features[d, c] = min(max(factor_scores[c], FACTOR_LOW), FACTOR_HIGH)
    d += 1
    features[d + n_half_lives - 1, :n] = 0.0
    for h in range(n_half_lives if begins else n_half_lives - 1):
        _counts(n, h, at, rates[h], rows, table, n_half_lives, values)
        if h == n_half_lives - 2:  # the last is of beginnings alone
            popularity[:n] = values
        for c in range(n):
            values[c] += COUNT_OFFSET
        scaled_logs(n, COUNT_SCALE, values, exponents, features[d + h])
    d += n_half_lives
    for c in range(n):
        values[c] = 1.0 + max(at - table[rows[c], 2 * n_half_lives], 0.0) / 3600.0
    scaled_logs(n, TIME_SCALE, values, exponents, features[d])
    for c in range(n):
        values[c] = 1.0 + max(at - table[rows[c], 2 * n_half_lives + 1], 0.0) / 60.0
    scaled_logs(n, TIME_SCALE, values, exponents, features[d + 1])
    for c in range(n):
        values[c] = SCORE_OFFSET + hits[marks[c], CONTENT]
    scaled_logs(n, SCORE_SCALE, values, exponents, features[d + 2])
    scores[:n] = 0.0
    for k in range(n_features):
        _add_score(n, weights[0, k] + weights[gap, k] + weights[length, k], features[k], scores)


@part
def describe_newcomer(
    k: int,
    c: int,
    gap: int,
    length: int,
    begins: bool,
    suits: float,
    n_half_lives: int,
    rank_values: NDArray[np.float64],
    weights: NDArray[np.float64],
    features: NDArray[np.float32],
    numbers: NDArray[np.float64],
) -> None:
    """Features and score of candidate ``c``, the k-th item without a row: as if it had been met just now.

    It has no rank or score in any source but content's, where it stands behind what was chosen once.
    """
    n_features = features.shape[0]
    n_optional = (n_features - 12 - 2 * n_half_lives) // 2
    features[:, c] = 0.0
    d = 4 + n_half_lives + n_optional
    features[d : d + 3, c] = SCORE_SCALE * np.log(SCORE_OFFSET)
    d += 4
    features[d : d + n_half_lives, c] = COUNT_SCALE * np.log(COUNT_OFFSET)
    if not begins:
        features[d + n_half_lives - 1, c] = 0.0
    d += n_half_lives + 2
    features[d : d + 1 + n_optional, c] = SCORE_SCALE * np.log(SCORE_OFFSET)
    features[n_features - 1, c] = suits * (0.5 + 0.5 * rank_values[min(k, rank_values.shape[0] - 1)])
    numbers[0, c] = 0.0
    for d in range(n_features):
        numbers[0, c] += (weights[0, d] + weights[gap, d] + weights[length, d]) * features[d, c]
    numbers[1, c] = 0.0


@kernel
def softmax_step(
    target: int,
    n: int,
    gap: int,
    length: int,
    eta: float,
    features: NDArray[np.float32],
    weights: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> float:
    """One AdaGrad step on the softmax loss of a slate; returns the share the target had before.

    What is added lies on a grid: steps of several workers sum up to the same bits in any order.
    """
    n_features = features.shape[0]
    shares = np.zeros(n)
    for d in range(n_features):
        _add_score(n, weights[0, d] + weights[gap, d] + weights[length, d], features[d], shares)
    highest = -np.inf
    for c in range(n):
        highest = max(highest, shares[c])
    total = 0.0
    for c in range(n):
        shares[c] = np.exp(shares[c] - highest)
        total += shares[c]
    if not 0.0 < total < np.inf:  # features that are no numbers must not reach the weights
        return 0.0
    share = shares[target] / total
    for c in range(n):
        shares[c] /= total
        if c == target:
            shares[c] -= 1.0
        if abs(shares[c]) < NEGLIGIBLE:
            shares[c] = 0.0
    for d in range(n_features):
        gradient = _sum(n, features[d], shares)
        for k in (0, gap, length):
            squares[k, d] += np.rint(gradient * gradient * SQUARE_GRID) / SQUARE_GRID
            step = eta * gradient / np.sqrt(squares[k, d])
            weights[k, d] -= np.rint(step * WEIGHT_GRID) / WEIGHT_GRID
    return float(share)


@kernel
def explain(
    chosen: NDArray[np.int64],
    n: int,
    gap: int,
    length: int,
    features: NDArray[np.float32],
    numbers: NDArray[np.float64],
    names: NDArray[np.int64],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
    sources: NDArray[np.int64],
    scores: NDArray[np.float64],
    lifts: NDArray[np.float64],
    reasons: NDArray[np.int64],
) -> None:
    """Why candidates stand where they do: what lifts them above the slate's mean, by group of features.

    Parameters
    ----------
    chosen : int64[m]
        Places of candidates.
    groups, sources : int64[n_features], int64[n_groups]
        Group of each feature, and source of each group.
    scores : float64[2, m]
        Takes the scores, and the same to six digits.
    lifts : float64[m, n_groups]
        Takes the sums.
    reasons : int64[m, 6]
        Takes the groups that lift most, best first, −1 behind the last that lifts at all; then the source
        that does, the row, and the place of the loudest history item, −1 for none.
    """
    n_chosen = chosen.shape[0]
    if n_chosen == 0:
        return
    n_groups = lifts.shape[1]
    lifts[:] = 0.0
    ones = np.ones(n)
    for d in range(features.shape[0]):
        w = weights[0, d] + weights[gap, d] + weights[length, d]
        mean = _sum(n, features[d], ones) / n
        for m in range(n_chosen):
            lifts[m, groups[d]] += w * (np.float64(features[d, chosen[m]]) - mean)
    n_sources = 0
    for group in range(n_groups):
        n_sources = max(n_sources, sources[group] + 1)
    of_source = np.empty(n_sources)
    for m in range(n_chosen):
        of_source[:] = 0.0
        reasons[m, :N_REASONS] = -1
        for group in range(n_groups):
            lift = lifts[m, group]
            of_source[sources[group]] += lift
            if not lift > 0.0:
                continue
            place = N_REASONS
            while place > 0 and (reasons[m, place - 1] < 0 or lift > lifts[m, reasons[m, place - 1]]):
                if place < N_REASONS:
                    reasons[m, place] = reasons[m, place - 1]
                place -= 1
            if place < N_REASONS:
                reasons[m, place] = group
        scores[0, m] = numbers[0, chosen[m]]
        scores[1, m] = np.rint(scores[0, m] * 1e6) / 1e6
        best = 0
        for source in range(1, n_sources):
            if of_source[source] > of_source[best]:
                best = source
        reasons[m, SOURCE] = best
        reference = names[0, chosen[m]]
        reasons[m, ROW] = reference & 0xFFFFFFFF if reference >= 0 else reference
        reasons[m, CAUSE] = names[2, chosen[m]]
