"""What leaves a cart ends its reminder: by a removal, or because a whole cart has it no more."""

from __future__ import annotations

from typing import Any

import pytest

from stream.testing import EPOCH, event
from tests.core.agreed import DAY, added, campaign, driver, sent


@pytest.mark.parametrize("name", ["ecommerce.cart_updated", "remove_from_cart", "Product Removed"])
def test_a_removal_ends_a_timer_in_any_vocabulary(name: str) -> None:
    """Campaigns that name Product Removed mean what it is called elsewhere, by its action, too."""
    stream = driver(campaign(cancel_on=["Product Removed"]))
    item: dict[str, Any] = {"product_id": "p", "item_id": "p"}
    removal = event(
        name, user="u1", at=60, **item, action="remove", products=[item], items=[item], cart_id="c"
    )
    stream.pipe(added(0), removal)

    assert [] == sent(stream)


def test_a_cart_that_was_updated_is_no_removal_unless_it_says_so() -> None:
    """The same event with the action to add ends nothing, though a rule names both."""
    stream = driver(campaign(cancel_on=["Product Removed", "Wishlist Product Added to Cart"]))
    more = event(
        "ecommerce.cart_updated", user="u1", at=60, action="add", products=[{"product_id": "p"}], cart_id="c"
    )
    stream.pipe(added(0), more)

    assert ["c"] == sent(stream)


def cart(at: float, *product_ids: str | None, **fields: Any) -> bytes:
    """Braze tells what is in the cart."""
    products = [{"product_id": product_id} for product_id in product_ids]
    return event("ecommerce.cart_updated", user="u1", at=at, cart_id="c", products=products, **fields)


@pytest.mark.parametrize("fields", [{}, {"action": "replace"}])
@pytest.mark.parametrize("key", ["product", "variant", "cart"])
def test_a_cart_that_is_told_as_a_whole_ends_what_it_does_not_hold(key: str, fields: dict[str, Any]) -> None:
    """Both, then one alone, then nothing: each reminder ends when its product is no more in the cart."""
    lives = {
        "both": [cart(0, "p", "q", **fields)],
        "one": [cart(0, "p", "q", **fields), cart(60, "q", **fields)],
        "none": [cart(0, "p", "q", **fields), cart(60, "q", **fields), cart(120, **fields)],
        "an add": [cart(0, "p", "q", **fields), cart(60, "r", action="add")],
    }
    found = {}
    for name, events in lives.items():
        stream = driver(campaign(key=key))
        stream.pipe(*events)
        stream.advance(DAY)
        context = [trigger.context for trigger in stream.take("triggers")]
        found[name] = {p for c in context for p in c.get("product_ids", [c.get("product_id")])}

    assert {"p", "q"} == found["both"]
    assert {"q"} == found["one"]
    assert set() == found["none"]
    assert {"p", "q", "r"} == found["an add"]


def test_a_whole_cart_ends_the_variant_that_it_does_not_hold() -> None:
    """Black was changed for white; of a cart whose line names no variant nobody knows that."""
    found = {}
    for later in ("white", None):
        stream = driver(campaign(key="variant"))
        for at, variant in ((0, "black"), (60, later)):
            line = {"product_id": "p"} | ({"variant_id": variant} if variant else {})
            stream.pipe(event("ecommerce.cart_updated", user="u1", at=at, cart_id="c", products=[line]))
        stream.advance(DAY)
        found[later] = {trigger.context["variant"] for trigger in stream.take("triggers")}

    assert {"white"} == found["white"]
    assert "black" in found[None]


@pytest.mark.parametrize("key", ["product", "cart"])
def test_a_whole_cart_says_nothing_of_what_came_later(key: str) -> None:
    """It was sent before the product was put in, and arrives after."""
    stream = driver(campaign(key=key))
    stream.pipe(cart(0, "q"), cart(90, "p", action="add"), cart(60, "q"), ingest_time=EPOCH + 90)
    stream.advance(DAY)
    context = [trigger.context for trigger in stream.take("triggers")]

    assert {"p", "q"} == {p for c in context for p in c.get("product_ids", [c.get("product_id")])}


def test_a_cart_with_a_line_that_has_no_name_ends_the_others() -> None:
    """The line may be any product, and doubt speaks against writing; who is named stays."""
    stream = driver(campaign())
    stream.pipe(cart(0, "p", "q"), cart(60, "q", None))

    assert ["c"] == sent(stream)


def test_a_whole_cart_ends_no_rule_that_a_removal_does_not_end() -> None:
    """A price is waited for after the product has left the cart."""
    stream = driver(campaign("event", key="product", when={"events": ["Product Added"]}))
    stream.pipe(cart(0, "p"), cart(60))

    assert ["c"] == sent(stream)
