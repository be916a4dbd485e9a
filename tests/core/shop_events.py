"""Events and records of a small shop, for tests through the driver."""

from __future__ import annotations

from typing import Any

from schemas.catalogue import Offer
from stream.testing import Driver, event

SMALL: dict[str, Any] = {"max_items": 256, "click_slots": 2**10}


def offer(offer_id: str, **fields: Any) -> Offer:
    """An offer in euro, cost 1, value 10."""
    values: dict[str, Any] = {"version": 1, "cost": 1.0, "value": 10.0, "currency": "EUR"}
    return Offer(offer_id=offer_id, **(values | fields))


def viewed(user: str, at: float, product_id: str, **more: Any) -> bytes:
    """A product view."""
    return event("Product Viewed", user=user, at=at, product_id=product_id, **more)


def shown(user: str, at: float, *product_ids: str) -> bytes:
    """A list impression."""
    products = [{"product_id": p, "position": n + 1} for n, p in enumerate(product_ids)]
    return event("Product List Viewed", user=user, at=at, list_id="home", products=products)


def cart_seen(user: str, at: float) -> bytes:
    """An occasion for an on-site offer."""
    return event("Cart Viewed", user=user, at=at)


def offer_decisions(stream: Driver) -> list[Any]:
    """Offer decisions since the last look."""
    return [d for d in stream.take("decisions") if d.kind == "offer"]
