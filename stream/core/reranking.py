"""Re-rank: variety, novelty and tiredness change the order of a slate, each by a knob that is off at 0.

Items are taken one by one, each time the one with the highest

    score - diversity * same(category) - novelty * ln(1 + count) / ln(1000) - impression_discount * unanswered

where ``same`` counts the items of its category already taken: a greedy maximisation of relevance and
variety. Scores are log odds, and so are the knobs.

References
----------
Carbonell, Goldstein: The Use of MMR, Diversity-Based Reranking, SIGIR 1998.
Lee, Lim, Yan, Zhao, Lee: Modeling Impression Discounting in Large-Scale Recommender Systems, KDD 2014.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from online_models.popularity import DecayedPopularity
    from schemas.outputs import RecommendedItem
    from stream.core.config import RecommendConfig
    from stream.core.reference import Reference
    from stream.core.rows import ModelMemory

__all__ = ["POOL", "reranked", "reranks"]

POOL = 4  # items looked at for each that is shown
_THOUSAND = math.log(1000.0)


def reranks(config: RecommendConfig) -> bool:
    """Whether any knob is on."""
    return bool(config.diversity or config.novelty or config.impression_discount)


def reranked(
    items: Sequence[RecommendedItem],
    now: float,
    config: RecommendConfig,
    memory: ModelMemory,
    reference: Reference,
    popularity: DecayedPopularity,
) -> list[RecommendedItem]:
    """Return the best ``config.n_items`` of a longer slate, in their new order; scores stay the ranker's.

    Parameters
    ----------
    items : sequence of RecommendedItem
        Best first; of equal ones the earlier wins.
    memory : ModelMemory
        Holds the slates that the user was sent and has not answered.
    popularity : DecayedPopularity
        Its longest half-life counts for novelty.
    """
    unanswered = Counter(
        item_id
        for decision in memory.open.values()
        if decision.kind == "recommendation"
        for item_id in decision.item_ids
    )
    longest = max(range(len(popularity.half_lives_s)), key=popularity.half_lives_s.__getitem__)
    values = []
    for item in items:
        value = item.score - config.impression_discount * unanswered[item.item_id]
        if config.novelty:
            value -= config.novelty * math.log1p(popularity.count(item.item_id, now, longest)) / _THOUSAND
        values.append(value)
    categories = [reference.category_of(item.item_id) for item in items]
    left = list(range(len(items)))
    taken: list[RecommendedItem] = []
    of_category: Counter[str] = Counter()
    while left and len(taken) < config.n_items:
        best = max(left, key=lambda k: (values[k] - config.diversity * of_category[categories[k] or ""], -k))
        left.remove(best)
        taken.append(items[best])
        category = categories[best]
        if category is not None:
            of_category[category] += 1
    return taken
