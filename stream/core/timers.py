"""A campaign's timer: what it says of its product, when it is due, and which events name it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stream.core.rows import Timer
from stream.core.variants import item_of, line_of, line_of_key, may_be_same, sku_of, variant_of

if TYPE_CHECKING:
    from schemas.events import Event, Product
    from stream.core.rows import Match
    from stream.core.rules import Rule

    Context = dict[str, str | float | list[str]]

__all__ = ["context_of", "is_named", "sku_in", "timer_of"]

MAX_TEXT: Final = 256  # characters of a name; 64 timers must fit into one record of the changelog


def context_of(rule: Rule, key: str, about: Context | Product) -> Context:
    """What a message says of what it is about, if the catalogue does not know better."""
    if isinstance(about, dict):
        context = about
    else:
        context = {"product_id": str(about.product_id)} | {
            name: value[:MAX_TEXT] if isinstance(value, str) else value
            for name in ("name", "category", "brand", "price", "quantity")
            if (value := getattr(about, name)) is not None
        }
    if rule.per_variant:
        context["variant"] = variant_of(key)
        if not isinstance(about, dict) and (sku := sku_of(about)):
            context["sku"] = sku
    return context


def timer_of(
    rule: Rule, match: Match, context: Context, products: dict[str, float], now: float, lateness_s: float
) -> Timer:
    """Build a timer for an event; for one that came when its delay was over it is due ``now``.

    What belongs to such an event may come as late, so it gets the same grace. The message is not worth
    sending for longer.
    """
    due = match.time + rule.campaign.delay_s
    timer = Timer(max(due, now), match.message_id, match.event, match.time, context, products=products)
    if due < now:
        timer.first_due = due + lateness_s
    return timer


def sku_in(timer: Timer) -> str:
    """Return the SKU that a timer was armed with; empty where it is not known, or plays no part."""
    return str(timer.context.get("sku", ""))


def is_named(event: Event, rule: Rule, key: str, timer: Timer) -> bool:
    """Whether an event names the product that a timer is about; its variant, where it has one."""
    if not rule.per_variant:
        return any(item.product_id == item_of(key) for item in event.items)
    line = line_of_key(key, sku_in(timer))
    return any(may_be_same(line, line_of(item)) for item in event.items)
