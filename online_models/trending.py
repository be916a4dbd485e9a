"""What rises: items, or groups of them, asked for more often of late than the long run makes one expect."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from online_models.popularity import DecayedPopularity

__all__ = ["trending", "trending_groups"]


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
    found = _expected(popularity, at)
    if found is None:
        return popularity.top(at, 0, n)
    rising = [(item_id, _excess(count, expected)) for item_id, count, expected in found]
    return sorted(rising, key=lambda one: -one[1])[:n]


def trending_groups(
    popularity: DecayedPopularity, at: float, group_of: Callable[[str], str | None]
) -> list[tuple[str, list[str]]]:
    """Groups of items, the one that rises most first, each with its items, the most asked for of late first.

    The score is that of :func:`trending` for the sums over a group's items. A group that does not rise is not
    listed, nor are items without a group. Items that are not among the popular ones of now count in no sum.
    """
    sums: dict[str, list[float]] = {}
    members: dict[str, list[str]] = {}
    for item_id, count, expected in _expected(popularity, at) or ():
        if (group := group_of(item_id)) is not None:
            of_group = sums.setdefault(group, [0.0, 0.0])
            of_group[0] += count
            of_group[1] += expected
            members.setdefault(group, []).append(item_id)
    scores = {group: _excess(count, expected) for group, (count, expected) in sums.items()}
    rising = sorted((-score, group) for group, score in scores.items() if score > 0)
    return [(group, members[group]) for _, group in rising]


def _expected(popularity: DecayedPopularity, at: float) -> list[tuple[str, float, float]] | None:
    """Popular items of now, their counts and those expected; ``None`` where no half-life is finite."""
    lives = popularity.half_lives_s
    finite = [h for h, half_life_s in enumerate(lives) if half_life_s < math.inf]
    if not finite:
        return None
    short, long = min(finite, key=lives.__getitem__), max(finite, key=lives.__getitem__)
    share = lives[short] / lives[long]
    return [
        (item_id, count, popularity.count(item_id, at, long) * share)
        for item_id, count in popularity.top(at, short, popularity.depth)
    ]


def _excess(count: float, expected: float) -> float:
    return (count - expected) / math.sqrt(expected + 1.0)
