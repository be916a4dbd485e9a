"""Lists by the names that shops know, for whoever requests them.

=====================  ==================================================================================
slot                   what it lists
=====================  ==================================================================================
for_you                the blend's best for the user; also under any name that is not in this table
others_you_may_like    the same, for somebody who has just come to the page's item
bought_together        what was in one order with the page's item
buy_again              what the user bought, the most often bought first
popular                what is asked for most
trending               what is asked for more of late than in the long run
trending_categories    of each category of which that is true one item, the most asked for of late
recently_viewed        what the user viewed and did not buy, the latest first
=====================  ==================================================================================

The page's item is the request's ``product_id``, else the item that the user met last.
Somebody who denied personalisation gets no list of an own past, and the others without regard to it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from online_models.slate import Source
from online_models.trending import trending, trending_groups
from schemas.outputs import RecommendedItem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream.core.learning import Models
    from stream.core.profiles import Moment
    from stream.core.reference import Reference

__all__ = ["Slot", "listed", "slot_of"]


class Slot(StrEnum):
    """What a list is made of."""

    FOR_YOU = "for_you"
    OTHERS_YOU_MAY_LIKE = "others_you_may_like"
    BOUGHT_TOGETHER = "bought_together"
    BUY_AGAIN = "buy_again"
    POPULAR = "popular"
    TRENDING = "trending"
    TRENDING_CATEGORIES = "trending_categories"
    RECENTLY_VIEWED = "recently_viewed"


WEEK = 2  # number of the half-life of seven days
_BY_NAME = {slot.value: slot for slot in Slot}


def slot_of(name: str) -> Slot:
    """Return the kind of list that a slot's name asks for.

    >>> slot_of("Bought-together").value, slot_of("top of the home page").value
    ('bought_together', 'for_you')
    """
    return _BY_NAME.get(name.lower().replace("-", "_"), Slot.FOR_YOU)


def listed(
    slot: Slot, moment: Moment, models: Models, reference: Reference, n: int, *, personal: bool
) -> list[RecommendedItem]:
    """List the at most *n* items of a slot that is not the blend's; scores compare within the list only."""
    profile, at, popularity = moment.profile, moment.event.time, models.blend.popularity
    page = moment.event.item_id or next(iter(profile.ring if personal else []), None)
    if slot is Slot.TRENDING:
        scored = trending(popularity, at, popularity.depth)
        return _shown(scored, set(profile.bought), reference, n, Source.POPULARITY, "trending")
    if slot is Slot.TRENDING_CATEGORIES:
        return _one_of_each_category(moment, models, reference, n)
    if slot is Slot.POPULAR:
        scored = popularity.top(at, WEEK, popularity.depth)
        return _shown(scored, set(profile.bought), reference, n, Source.POPULARITY, "popular_this_week")
    if slot is Slot.BOUGHT_TOGETHER and page is not None:
        scored = models.baskets.top([page], at, 8 * n)
        return _shown(scored, {page, *profile.bought}, reference, n, Source.ORDERS, f"bought_together:{page}")
    return _own_past(slot, moment, reference, n) if personal else []


def _one_of_each_category(
    moment: Moment, models: Models, reference: Reference, n: int
) -> list[RecommendedItem]:
    shown: list[RecommendedItem] = []
    bought, popularity = moment.profile.bought, models.blend.popularity
    for category, items in trending_groups(popularity, moment.event.time, reference.category_of):
        free = (item for item in items if item not in bought and reference.may_show(item))
        if (item_id := next(free, None)) is not None and len(shown) < n:
            score, reason = 1.0 / (1 + len(shown)), f"trending_category:{category}"
            shown.append(RecommendedItem(item_id, round(score, 6), Source.POPULARITY.value, [reason]))
    return shown


def _own_past(slot: Slot, moment: Moment, reference: Reference, n: int) -> list[RecommendedItem]:
    profile = moment.profile
    scored: Iterable[tuple[str, float]]
    if slot is Slot.RECENTLY_VIEWED:
        hidden = {*profile.bought, moment.event.item_id or ""}
        latest = [item_id for item_id in reversed(profile.views) if item_id]
        scored = ((item_id, 1.0 / place) for place, item_id in enumerate(latest, 1))
        return _shown(scored, hidden, reference, n, Source.OWN_PAST, "viewed_recently")
    if slot is Slot.BUY_AGAIN:
        # Of items bought equally often the one that was bought last: `bought` is in that order.
        latest = [*reversed(profile.bought)]
        often = sorted(latest, key=lambda item_id: -profile.n_bought.get(item_id, 1))
        scored = ((item_id, float(profile.n_bought.get(item_id, 1))) for item_id in often)
        return _shown(scored, {moment.event.item_id or ""}, reference, n, Source.OWN_PAST, "bought_before")
    return []


def _shown(
    scored: Iterable[tuple[str, float]],
    hidden: set[str],
    reference: Reference,
    n: int,
    source: Source,
    reason: str,
) -> list[RecommendedItem]:
    """Take the first *n* that may be shown now."""
    shown: list[RecommendedItem] = []
    for item_id, score in scored:
        if len(shown) == n:
            break
        if item_id not in hidden and reference.may_show(item_id):
            shown.append(RecommendedItem(item_id, round(score, 6), source.value, [reason]))
    return shown
