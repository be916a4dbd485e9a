"""How far a batch takes weights along that others taught meanwhile: steps that do not add up are averaged.

The mean of parameters weighted by examples is that of McMahan, Moore, Ramage, Hampson, Agüera y Arcas,
*Communication-Efficient Learning of Deep Networks from Decentralized Data*, AISTATS 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["share_of"]


def share_of(n: NDArray[np.int64], meanwhile: NDArray[np.int64]) -> NDArray[np.float64]:
    """How far batches of ``n`` examples take weights along that were taught so many since they began.

    Batches that began together and are folded one after the other give their mean; one without an example
    moves nothing.

    >>> share_of(np.array([100, 100, 100, 100, 0]), np.array([-5, 0, 100, 300, 0])).tolist()
    [1.0, 1.0, 0.5, 0.25, 0.0]
    """
    return n / np.maximum(n + np.maximum(meanwhile, 0), 1)
