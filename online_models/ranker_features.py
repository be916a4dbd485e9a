"""What the ranker reads: its features by name, the rows of weights by context, the reason of each feature.

The order of the features is that of :mod:`online_models.kernels.ranker`.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from online_models.slate import ReasonCode

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "FIRST_EVENT",
    "N_CONTEXTS",
    "default_start",
    "feature_names",
    "gap_class",
    "length_class",
    "reason_codes",
    "visit_begins",
]

N_CONTEXTS = 14  # one shared set of weights, six gaps, seven lengths
FIRST_EVENT = (1, 7)  # the rows of who has no event and no item yet: they learn together, once a user
VISIT_GAP_S = 3600.0
GAP_LIMITS_S = (60.0, 600.0, VISIT_GAP_S, 86400.0)
LENGTH_LIMITS = (0, 1, 2, 5, 10, 30)
# Longest half-life that each code speaks of: twelve hours, three days, two weeks.
POPULAR = (
    (43_200.0, ReasonCode.POPULAR_NOW),
    (259_200.0, ReasonCode.POPULAR_TODAY),
    (1_209_600.0, ReasonCode.POPULAR_THIS_WEEK),
    (sys.float_info.max, ReasonCode.POPULAR_THIS_MONTH),
    (math.inf, ReasonCode.POPULAR_ALL_TIME),
)


def gap_class(gap_s: float | None) -> int:
    """Row of weights for the seconds since the user's last event about an item; none is a class too.

    >>> [gap_class(gap_s) for gap_s in (None, -5.0, 59.0, 60.0, 86399.0, 86400.0)]
    [1, 2, 2, 3, 5, 6]
    """
    if gap_s is None:
        return 1
    return 2 + bisect_right(GAP_LIMITS_S, gap_s)


def visit_begins(gap_s: float | None, n_items: int) -> bool:
    """Whether a visit begins: after a silence of so many seconds, or where nothing was chosen before.

    >>> [visit_begins(gap_s, n) for gap_s, n in ((None, 0), (1.0, 0), (1.0, 1), (3600.0, 1))]
    [True, True, False, True]
    """
    return gap_s is None or gap_s >= VISIT_GAP_S or not n_items


def length_class(n_items: int) -> int:
    """Row of weights for the number of items in the history.

    >>> [length_class(n) for n in (0, 1, 2, 3, 5, 6, 30, 31)]
    [7, 8, 9, 10, 10, 11, 12, 13]
    """
    return 7 + bisect_left(LENGTH_LIMITS, n_items)


def default_start(half_lives_s: Sequence[float]) -> dict[str, float]:
    """Start weights that were measured with the default half-lives."""
    wanted = {
        "sequence_rank": 3.0,
        "factors_rank": 1.0,
        "popularity_86400s_rank": 1.0,
        "popularity_604800s_rank": 1.0,
        "newcomer": 1.0,
    }
    names = feature_names(half_lives_s)
    return {feature: weight for feature, weight in wanted.items() if feature in names}


def feature_names(half_lives_s: Sequence[float], optional: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the features: ranks in the sources, then their scores; ``optional`` are sources added."""
    lists = [*(f"popularity_{half_life:g}s" for half_life in half_lives_s), "beginnings"]
    sources = ["sequence", "transition", "factors", *lists, "content", *optional]
    scores = ["forward", "backward", "transition", "factors", *lists]
    return (
        *(f"{source}_rank" for source in sources),
        *(f"{score}_score" for score in scores),
        "item_age",
        "since_last_event",
        "content_score",
        *(f"{source}_score" for source in optional),
        "newcomer",
    )


def reason_codes(half_lives_s: Sequence[float], optional: Sequence[ReasonCode]) -> list[ReasonCode]:
    """Reason code of each feature."""
    lists = [*map(_popular, half_lives_s), ReasonCode.POPULAR_FIRST]
    history, last, taste = ReasonCode.FOLLOWS_HISTORY, ReasonCode.FOLLOWS_LAST_ITEM, ReasonCode.SIMILAR_TASTE
    fresh, kind = ReasonCode.RECENT_ACTIVITY, ReasonCode.SAME_KIND
    ranks = [history, last, taste, *lists, kind, *optional]
    scores = [history, history, last, taste, *lists, fresh, fresh, kind, *optional]
    return [*ranks, *scores, ReasonCode.NEW_OF_THE_KIND]


def _popular(half_life_s: float) -> ReasonCode:
    return next(code for limit_s, code in POPULAR if half_life_s <= limit_s)
