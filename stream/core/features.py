"""Profiles and events as what the models read: a context vector for offers, hashed fields for clicks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.events import Event, Product
    from stream.core.rows import Profile

__all__ = ["OFFER_FEATURES", "click_features", "message_features", "offer_context"]

OFFER_FEATURES = ("bias", "orders", "views", "adds", "tenure_days", "cart_now", "message", "known")


def offer_context(profile: Profile, now: float, *, message: bool) -> list[float]:
    """The context of an offer, one number per name of :data:`OFFER_FEATURES`, all of order 1."""
    return [
        1.0,
        math.log1p(profile.n_orders),
        math.log1p(profile.n_views) / 3.0,
        math.log1p(profile.n_adds) / 2.0,
        math.log1p(max(0.0, now - profile.first_seen) / 86_400.0) / 3.0,
        1.0 if profile.timers else 0.0,
        1.0 if message else 0.0,
        1.0 if profile.known else 0.0,
    ]


def click_features(event: Event, product: Product, place: int, profile: Profile) -> dict[str, str]:
    """The fields of one list impression; each is categorical and hashed as ``name=value``.

    Which of them also count together is a setting, ``clicks.crosses``.
    """
    item_id = str(product.product_id)
    category = product.category or event.properties.category or "?"
    position = str(int(product.position)) if product.position is not None else str(place)
    return {
        "item": item_id,
        "category": category,
        "position": position,
        "list": event.properties.list_id or "?",
        "views": str(min(6, int(math.log2(1 + profile.n_views)))),
        "buyer": "yes" if profile.n_orders else "no",
        "seen": "yes" if item_id in profile.views else "no",
        "user": event.user,
    }


def message_features(
    campaign_id: str, user: str, item_id: str, category: str | None, profile: Profile
) -> dict[str, str]:
    """The same fields for a message about an item: one item, at the top of a list that is the message."""
    category = category or "?"
    buyer = "yes" if profile.n_orders else "no"
    return {
        "item": item_id,
        "category": category,
        "position": "0",
        "list": "message",
        "campaign": campaign_id,
        "views": str(min(6, int(math.log2(1 + profile.n_views)))),
        "buyer": buyer,
        "seen": "yes" if item_id in profile.views else "no",
        "user": user,
        "category_x_buyer": f"{category}|{buyer}",
    }
