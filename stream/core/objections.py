"""What speaks against a message before its timer is armed: it was bought, taken back, or done before.

Events may come late, so what ends a timer may have been applied before what arms it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stream.core.conditions import always
from stream.core.matching import ANYTHING, ended_after, happened_within
from stream.core.variants import VARIANT, line_of_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.events import Product
    from stream.core.rows import Profile, Timer
    from stream.core.rules import Rule

__all__ = [
    "NEVER_BEFORE",
    "asked_of",
    "begins_anew",
    "carted",
    "emptied",
    "fits",
    "spoken_against",
    "was_before",
]

MAX_PRODUCTS: Final = 32  # of a cart's timer
NEVER_BEFORE: Final = float("-inf")


def asked_of(rule: Rule, key: str, sku: str) -> str:
    """What to ask about in the name of a timer: its product, its variant with its SKU, or the user."""
    if rule.key != "product":
        return ""
    return line_of_key(key, sku) if rule.per_variant else key


def fits(rule: Rule, key: str, timer: Timer) -> bool:
    """Whether a timer was armed under the key that its campaign has now; else nothing would end it."""
    if rule.campaign.counter is not None and "threshold" not in timer.context:
        return False
    if rule.key == "product":
        return "product_id" in timer.context and (rule.per_variant or VARIANT not in key)
    return "product_id" not in timer.context


def begins_anew(rule: Rule, key: str, profile: Profile) -> float:
    """When that was last which a message waits for to be long ago: the user was here, or bought.

    An event that came too late to arm says so as well as one in time.
    """
    kind = rule.campaign.kind
    if kind == "win_back":
        return profile.last_active
    if kind != "replenishment":
        return NEVER_BEFORE
    if rule.key == "product":
        return profile.bought.get(key, NEVER_BEFORE)
    return profile.last_order_at if rule.arming.where is always else NEVER_BEFORE


def was_before(rule: Rule, asked: str, time: float, profile: Profile) -> bool:
    """Whether what must not have been before a time was."""
    before = rule.before
    if before is None:
        return False
    return happened_within(before.events, asked, time - before.within_s, time, profile)


def emptied(rule: Rule, time: float, profile: Profile) -> bool:
    """Whether what ends the timer of a cart of which no products are known has happened since."""
    bought = rule.ends_by_order and profile.last_order_at >= time
    return bought or ended_after(rule.ending, ANYTHING, time, profile)


def spoken_against(
    rule: Rule, asked: str, time: float, profile: Profile, ended: dict[tuple[str, str, float], bool]
) -> bool:
    """Whether what must not have been before was, or what ends the timer was seen.

    ``ended`` remembers what was asked about the event in hand already.
    """
    if was_before(rule, asked, time, profile):
        return True
    if rule.key == "cart" or not rule.ending.kinds:
        return False
    if (
        asked
        and rule.ends_by_order
        and not rule.per_variant
        and profile.bought.get(asked, NEVER_BEFORE) >= time
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
