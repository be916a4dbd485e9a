"""Timers that wait for an item: for a lower price, or for being in stock again.

What is compared is the item as it is now with what the timer noted when it began, never two versions of the
item with one another. So it does not matter how many versions came in between, or that the worker was away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from schemas.campaigns import Campaign
    from schemas.catalogue import Item
    from stream.core.rows import Timer
    from stream.core.rules import Rule

__all__ = ["begin_watch", "holds", "springs", "watch_again"]

UNAVAILABLE: Final = "unavailable"


def begin_watch(timer: Timer, campaign: Campaign, item: Item | None) -> None:
    """Let a timer wait for its item; the price to undercut is the catalogue's, else the event's.

    A price is undercut by one of the same currency only; that of an event has none.
    """
    timer.watch = True
    timer.due, timer.first_due = timer.event_time + campaign.watch_s, 0.0
    timer.held_for = UNAVAILABLE if item is not None and not item.available else ""
    if item is not None and item.price is not None:
        _note_price(timer, item.price, item.currency)
    elif (price := timer.context.get("price")) is not None:
        timer.context["price_before"] = price


def _note_price(timer: Timer, price: float, currency: str | None) -> None:
    timer.context["price_before"] = price
    if currency:
        timer.context["currency_before"] = currency


def springs(timer: Timer, rule: Rule, item: Item) -> bool:
    """Whether the item has become what the timer waits for; notes on the way what has to be known later."""
    if rule.campaign.kind == "back_in_stock":
        if not item.available:
            timer.held_for = UNAVAILABLE
        return item.available and timer.held_for == UNAVAILABLE
    if "price_before" not in timer.context and item.price is not None:
        _note_price(timer, item.price, item.currency)
    return holds(timer, rule, item)


def holds(timer: Timer, rule: Rule, item: Item | None) -> bool:
    """Whether what the timer waited for is true now."""
    if item is None or not item.available:
        return False
    if rule.campaign.kind == "back_in_stock":
        return True
    before, price = timer.context.get("price_before"), item.price
    if price is None or not isinstance(before, float | int):
        return False
    if str(timer.context.get("currency_before", "")).upper() != (item.currency or "").upper():
        return False  # a smaller number of another currency is no lower price
    return price < before and price <= before * (1.0 - rule.campaign.min_drop_share)


def watch_again(timer: Timer, rule: Rule, item: Item | None, now: float) -> bool:
    """Let a timer wait on whose moment was over before the message could go; ``False``: its time is up."""
    if not rule.waits_for_item or holds(timer, rule, item) or timer.event_time + rule.campaign.watch_s <= now:
        return False
    timer.watch, timer.occurrence, timer.first_due = True, "", 0.0
    timer.due = timer.event_time + rule.campaign.watch_s
    timer.held_for = UNAVAILABLE if item is not None and not item.available else ""
    return True
