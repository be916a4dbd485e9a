"""What rises: items that are asked for more often of late than their long run makes one expect."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from online_models.popularity import DecayedPopularity

__all__ = ["trending"]


def trending(popularity: DecayedPopularity, at: float, n: int) -> list[tuple[str, float]]:
    """The at most *n* items that rise most among the popular ones of now, best first.

    The score is ``(d_s - e) / sqrt(e + 1)``, the standardised excess of the decayed count of the shortest
    half-life over what that of the longest finite one lets expect, ``e = d_l H_s / H_l`` (a Poisson count
    has the variance of its mean). Ties go to the order of the popularity list.

    >>> from online_models.popularity import DecayedPopularity
    >>> from online_models.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary(1000)
    >>> popularity = DecayedPopularity(vocabulary, half_lives_s=(3600.0, 86_400.0))
    >>> vocabulary.begin()
    >>> popularity.begin()
    >>> for hour in range(240):
    ...     popularity.learn_one("evergreen", hour * 3600.0, 3.0)
    >>> popularity.learn_one("newcomer", 239 * 3600.0, 3.0)
    >>> [item_id for item_id, _ in trending(popularity, 239 * 3600.0, 2)]
    ['newcomer', 'evergreen']
    """
    lives = popularity.half_lives_s
    finite = [h for h, half_life_s in enumerate(lives) if half_life_s < math.inf]
    if not finite:
        return popularity.top(at, 0, n)
    short, long = min(finite, key=lives.__getitem__), max(finite, key=lives.__getitem__)
    share = lives[short] / lives[long]
    rising = []
    for item_id, count in popularity.top(at, short, popularity.depth):
        expected = popularity.count(item_id, at, long) * share
        rising.append((item_id, (count - expected) / math.sqrt(expected + 1.0)))
    return sorted(rising, key=lambda one: -one[1])[:n]
