"""How far a batch moves weights along that others move at the same time.

Workers that learn from the same weights correct the same error, each as if it were alone. Evidence adds up,
but the sum of their moves overshoots where each of them corrects most of it: a diagonal posterior moves fast
as long as its terms are correlated. So a batch shortens what it moved to its share of what all of them would
have moved one after the other. A weight that others hardly meet moves as far as it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["move_shares"]

SHARPNESS = 2.0  # examples that share more terms than the average pair are corrected faster than it


def move_shares(
    before: Floats, after: Floats, bias: tuple[float, float], evidence: float, others: float
) -> Floats:
    """Which share of its move each weight of a batch keeps, from 0 to 1.

    With H and H + Δ the precisions without and with the batch, Δ₀ that of the bias, which is in every
    example, φ the share of information that counts, and k examples of others for each of the batch's own::

        s = data's precision / that of the bias      others' examples with the weight: a share of all
        q = Δ / Δ₀                                   the batch's examples with the weight
        Γ = 2/φ Σ s ln(1 + Δ/H)                      how often the batch corrects what it has in common
        w = 1 + k s/q                                evidence of all workers, for the batch's own
        share = (1 - exp(-Γ q w)) / (1 - exp(-Γ q)) / w · (H + Δ w) / (H + Δ)

    The logarithm is the integral of an example's gain, r x²/H, over the batch. The last factor is there
    because precisions of all of them divide what they moved.

    Parameters
    ----------
    before, after : ndarray of shape (2, n)
        Precision that the data gave, and precision with the prior, of each weight that the batch touched.
    bias : tuple of float
        Precision that the data gave of the bias, before and after.
    evidence : float
        φ, above 0 and at most 1.
    others : float
        k, from 0.

    Returns
    -------
    ndarray of shape (n,)
    """
    gained = np.maximum(after[1] - before[1], 0.0)
    of_bias = bias[1] - bias[0]
    if not (others > 0.0 and of_bias > 0.0):
        return np.ones(len(gained))
    own = np.minimum(gained / of_bias, 1.0)
    common = np.minimum(after[0] / bias[1], 1.0)
    corrected = SHARPNESS / evidence * float((common * np.log1p(gained / before[1])).sum())
    own_corrected = np.maximum(corrected * own, 1e-12)
    times = 1.0 + np.where(gained > 0.0, corrected * others * common / own_corrected, 0.0)
    together = np.expm1(-own_corrected * times) / np.expm1(-own_corrected) / times
    shares: Floats = np.minimum(together * (before[1] + gained * times) / after[1], 1.0)
    return shares
