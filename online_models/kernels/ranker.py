"""The linear ranker over the candidates of one event: features, scores, one softmax step.

Features of a candidate, with S sources (sequence, transition, factors, H half-lives of popularity):
S ranks, then the scores F, B, T and of the factors, then H decayed counts, then the item's age and the time
since its last event. ``weights`` and ``squares`` are float64[14, n_features]: one shared set, six for the
gap since the user's last event, seven for the length of the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from online_models.kernels._jit import kernel
from online_models.kernels.decay import epoch_of, sort_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["contributions", "describe", "softmax_step"]

# Offsets keep logarithms of vanished counts in range; scales bring all features to order 1.
SCORE_SCALE, SCORE_OFFSET = 0.3, 0.003
COUNT_SCALE, COUNT_OFFSET = 0.3, 0.02
TIME_SCALE = 0.2
FACTOR_LOW, FACTOR_HIGH = -0.5, 1.5
NEGLIGIBLE = 1e-5  # of a share: such candidates do not move the gradient
# Steps are multiples of a power of two, so sums of them are exact in any order: below 2^13 and 2^23.
WEIGHT_GRID, SQUARE_GRID = 2.0**40, 2.0**30


@kernel
def describe(
    n: int,
    at: float,
    gap: int,
    length: int,
    rows: NDArray[np.int32],
    ranks: NDArray[np.int16],
    rank_values: NDArray[np.float64],
    call: int,
    seen: NDArray[np.int64],
    hits: NDArray[np.float64],
    factor_scores: NDArray[np.float64],
    rates: NDArray[np.float64],
    table: NDArray[np.float64],
    generation: NDArray[np.int64],
    row_orders: NDArray[np.int64],
    weights: NDArray[np.float64],
    features: NDArray[np.float32],
    scores: NDArray[np.float64],
    popularity: NDArray[np.float64],
    orders: NDArray[np.int64],
    refs: NDArray[np.int64],
) -> None:
    """Features and scores of ``n`` candidates, and what breaks ties between them.

    Parameters
    ----------
    gap, length : int
        Rows of ``weights`` for the context.
    factor_scores : float64[n] or float64[0]
        Scores of the factor model; 0 without one.
    features, scores, popularity, orders, refs
        Take the results; first axis ``n`` or longer.
    """
    n_half_lives = rates.shape[0]
    n_sources = ranks.shape[1]
    n_features = features.shape[1]
    absent = SCORE_SCALE * np.log(SCORE_OFFSET)
    w = np.empty(n_features)
    for d in range(n_features):
        w[d] = weights[0, d] + weights[gap, d] + weights[length, d]
    fades = np.empty(n_half_lives)
    epochs = np.empty(n_half_lives)
    for h in range(n_half_lives):
        epochs[h] = epoch_of(at, rates[h])
        fades[h] = np.exp2(64.0 * epochs[h] - at * rates[h])
    for c in range(n):
        row = rows[c]
        for source in range(n_sources):
            features[c, source] = rank_values[ranks[c, source]]
        d = n_sources
        mark = seen[row]
        if mark >> 32 == call:
            mark &= 0xFFFFFFFF
            for k in range(3):
                features[c, d + k] = SCORE_SCALE * np.log(hits[mark, k] + SCORE_OFFSET)
        else:
            for k in range(3):
                features[c, d + k] = absent
        features[c, d + 3] = 0.0
        if factor_scores.shape[0] > 0:
            features[c, d + 3] = min(max(factor_scores[c], FACTOR_LOW), FACTOR_HIGH)
        d += 4
        first = table[row, 2 * n_half_lives]
        last = table[row, 2 * n_half_lives + 1]
        for h in range(n_half_lives):
            value = table[row, h]
            if at < last:  # a late event sees the count as it is, not grown back
                value *= np.exp2(min(64.0 * table[row, n_half_lives + h] - last * rates[h], 900.0))
            else:
                value *= fades[h]
                if table[row, n_half_lives + h] != epochs[h]:
                    value *= np.exp2(64.0 * (table[row, n_half_lives + h] - epochs[h]))
            features[c, d + h] = COUNT_SCALE * np.log(value + COUNT_OFFSET)
        d += n_half_lives
        features[c, d] = TIME_SCALE * np.log(1.0 + max(at - first, 0.0) / 3600.0)
        features[c, d + 1] = TIME_SCALE * np.log(1.0 + max(at - last, 0.0) / 60.0)
        score = 0.0
        for k in range(n_features):
            score += w[k] * float(features[c, k])
        scores[c] = score
        popularity[c] = sort_key(table[row, n_half_lives - 1], table[row, 2 * n_half_lives - 1])
        orders[c] = row_orders[row]
        refs[c] = generation[row] << 32 | row


@kernel
def softmax_step(
    target: int,
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
    n = features.shape[0]
    n_features = features.shape[1]
    w = np.empty(n_features)
    for d in range(n_features):
        w[d] = weights[0, d] + weights[gap, d] + weights[length, d]
    shares = np.empty(n)
    highest = -np.inf
    for c in range(n):
        score = 0.0
        for d in range(n_features):
            score += w[d] * float(features[c, d])
        shares[c] = score
        highest = max(highest, score)
    total = 0.0
    for c in range(n):
        shares[c] = np.exp(shares[c] - highest)
        total += shares[c]
    if not 0.0 < total < np.inf:  # features that are no numbers must not reach the weights
        return 0.0
    gradient = np.zeros(n_features)
    for c in range(n):
        residual = shares[c] / total
        if c == target:
            residual -= 1.0
        if abs(residual) < NEGLIGIBLE:
            continue
        for d in range(n_features):
            gradient[d] += residual * float(features[c, d])
    for k in (0, gap, length):
        for d in range(n_features):
            squares[k, d] += np.rint(gradient[d] * gradient[d] * SQUARE_GRID) / SQUARE_GRID
            step = eta * gradient[d] / np.sqrt(squares[k, d])
            weights[k, d] -= np.rint(step * WEIGHT_GRID) / WEIGHT_GRID
    return float(shares[target] / total)


@kernel
def contributions(
    chosen: NDArray[np.int64],
    gap: int,
    length: int,
    features: NDArray[np.float32],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
    n_groups: int,
) -> NDArray[np.float64]:
    """What lifts candidates above the slate's mean, summed over groups of features.

    Parameters
    ----------
    chosen : int64[m]
        Places of candidates.
    groups : int64[n_features]
        Group of each feature.

    Returns
    -------
    float64[m, n_groups]
    """
    n = features.shape[0]
    result = np.zeros((chosen.shape[0], n_groups))
    for d in range(features.shape[1]):
        w = weights[0, d] + weights[gap, d] + weights[length, d]
        mean = 0.0
        for c in range(n):
            mean += float(features[c, d])
        mean /= n
        for m in range(chosen.shape[0]):
            result[m, groups[d]] += w * (float(features[chosen[m], d]) - mean)
    return result
