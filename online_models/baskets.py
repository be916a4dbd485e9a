"""What is bought together: co-occurrence within orders, as sums that add up over workers like any other.

Every item of an order counts for every other one, in both directions and whatever their order, so
``F_i + B_i / 2`` of :mod:`online_models.cooccurrence` becomes one and a half times the confidence of item
sets of two, ``n(i, j) / (n(j) + 2)``, damped by the popularity of i.

References
----------
Agrawal, Imieliński, Swami: Mining Association Rules between Sets of Items in Large Databases, SIGMOD 1993.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from online_models.cooccurrence import SequentialCooccurrence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from online_models.vocabulary import Vocabulary

__all__ = ["baskets_of", "learn_order"]

MAX_ITEMS = 16  # of an order, so that a wholesaler's costs no more than a household's
HALF_LIFE_S = 180 * 86_400.0


def baskets_of(vocabulary: Vocabulary) -> SequentialCooccurrence:
    """Build the model, empty: places in an order mean nothing, so the weight does not fade with them."""
    return SequentialCooccurrence(
        vocabulary,
        slots=64,
        pruned=48,
        ring=MAX_ITEMS - 1,
        beta=0.0,
        half_life_s=HALF_LIFE_S,
        name="baskets",
    )


def learn_order(baskets: SequentialCooccurrence, item_ids: Sequence[str], at: float) -> None:
    """Learn the items of one order; only the first sixteen different ones are read.

    >>> from online_models.fold import ModelSet
    >>> from online_models.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary(1000)
    >>> baskets = baskets_of(vocabulary)
    >>> models = ModelSet([baskets], vocabulary)
    >>> models.begin()
    >>> learn_order(baskets, ["pasta", "sauce"], at=0.0)
    >>> learn_order(baskets, ["wine", "sauce", "pasta"], at=10.0)
    >>> [item_id for item_id, _ in baskets.top(["pasta"], at=20.0, n=5)]
    ['sauce', 'wine']
    """
    items = list(dict.fromkeys(item_ids))[:MAX_ITEMS]
    if len(items) < 2:
        return
    for item_id in items:
        baskets.learn_one(item_id, [other for other in items if other != item_id], at)
