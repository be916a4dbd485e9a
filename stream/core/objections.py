"""What speaks against a message before its timer is armed: it was bought, taken back, or done before.

Events may come late, so what ends a timer may have been applied before what arms it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stream.core.matching import ended_after, happened_within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.events import Product
    from stream.core.rows import Profile, Timer
    from stream.core.rules import Rule

__all__ = ["NEVER_BEFORE", "carted", "spoken_against", "was_before"]

MAX_PRODUCTS: Final = 32  # of a cart's timer
NEVER_BEFORE: Final = float("-inf")


def was_before(rule: Rule, key: str, time: float, profile: Profile) -> bool:
    """Whether what must not have been before a time was."""
    before = rule.before
    if before is None:
        return False
    asked = key if rule.key == "product" else ""
    return happened_within(before.events, asked, time - before.within_s, time, profile)


def spoken_against(
    rule: Rule, key: str, time: float, profile: Profile, ended: dict[tuple[str, str, float], bool]
) -> bool:
    """Whether what must not have been before was, or what ends the timer was seen.

    ``ended`` remembers what was asked about the event in hand already.
    """
    asked = key if rule.key == "product" else ""
    if was_before(rule, key, time, profile):
        return True
    if rule.key == "cart" or not rule.ending.kinds:
        return False
    if (
        asked
        and rule.ends_by_order
        and not rule.per_variant
        and profile.bought.get(key, NEVER_BEFORE) >= time
    ):
        return True  # the purchase was applied first, this event came late
    question = (rule.ending.mark, asked, time)
    if (answer := ended.get(question)) is None:
        answer = ended[question] = ended_after(rule.ending, asked, time, profile)
    return answer


def carted(
    rule: Rule, products: Sequence[Product], time: float, profile: Profile, live: Timer | None
) -> dict[str, float]:
    """Products of a cart's timer with when they were put there, those that this event adds included."""
    found = {} if live is None else live.products
    for product in products:
        item_id = str(product.product_id)
        gone = ended_after(rule.ending, item_id, time, profile)
        if gone or (rule.ends_by_order and profile.bought.get(item_id, NEVER_BEFORE) >= time):
            continue
        if item_id in found or len(found) < MAX_PRODUCTS:
            found[item_id] = max(time, found.get(item_id, time))
    return found
