"""Weights for labels that may still change: a negative now, a positive when it comes.

References
----------
Ktena et al.: Addressing Delayed Feedback for Continuous Training with Neural Networks in CTR Prediction,
RecSys 2019 (fake negative weighted loss). Yang et al.: Capturing Delayed Feedback in Conversion Rate
Prediction via Elapsed-Time Sampling, AAAI 2021 (ES-DFM).
"""

from __future__ import annotations

__all__ = ["delayed_weight"]


def delayed_weight(y: float, p: float, late_share: float = 1.0) -> float:
    """Importance of an example whose label was taken before the last response could have come.

    Where nobody responded by a certain time, a 0 is learned; who responds later is learned again as a 1. So
    there are more examples than events, and some of the zeros are false. In expectation these weights make
    up for both. With ``late_share`` 1 the 0 is learned at once: weights ``1 + p`` and ``(1 + p)(1 - p)``.

    Parameters
    ----------
    y : float
        The label, 0 or 1.
    p : float
        The model's probability of a response, as a constant.
    late_share : float
        Share of responses that come after the 0 is learned.

    Examples
    --------
    >>> delayed_weight(1, 0.2), round(delayed_weight(0, 0.2), 3), delayed_weight(0, 0.2, late_share=0.0)
    (1.2, 0.96, 1.0)
    """
    late = p * late_share
    if y:
        return 1.0 + late
    true = (1.0 - p) / (1.0 - p + late) if p < 1.0 else 0.0
    return (1.0 + late) * true
