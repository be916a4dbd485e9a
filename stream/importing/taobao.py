"""Taobao UserBehavior (Alibaba Tianchi): views, cart additions, favourites and purchases.

No header; ``user_id,item_id,category_id,behaviour,unix_seconds``.
A purchase has no price and no order number: each is an order of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stream.importing.canonical import Intake, Reason, Timed, encode_event, epoch_ms
from stream.importing.columns import comma_fields, split_lines
from stream.importing.lines import Line

__all__ = ["taobao_events"]

_EVENTS = {
    "pv": "Product Viewed",
    "cart": "Product Added",
    "fav": "Product Added to Wishlist",
    "buy": "Order Completed",
}


def taobao_events(lines: Iterator[Line], intake: Intake) -> Iterator[Timed]:
    """Translate the lines of a UserBehavior file, in file order."""
    for line_number, fields in split_lines(lines, intake, comma_fields, 5):
        if not all(fields):
            intake.reject(Reason.MISSING_FIELD)
            continue
        user_id, item_id, category, behaviour, time_text = fields
        event = _EVENTS.get(behaviour)
        if event is None:
            intake.reject(Reason.UNKNOWN_BEHAVIOUR)
            continue
        time_ms = epoch_ms(time_text)
        if time_ms is None:
            intake.reject(Reason.BAD_TIME)
            continue
        if not intake.admit(time_ms):
            continue
        intake.see(item_id, time_ms, category=category)
        message_id = intake.message_id(line_number)
        properties: dict[str, Any] = {"product_id": item_id, "category": category}
        if behaviour == "buy":
            properties = {"order_id": message_id, "products": [{**properties, "quantity": 1}]}
        yield Timed(time_ms, encode_event(message_id, {"userId": user_id}, time_ms, event, properties))
