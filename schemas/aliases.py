"""Event names of other vocabularies, and what each is called in Segment's.

An event keeps the name that its producer gave it; conditions and campaigns that name one mean the other as
well. Sources: the Segment Spec for its own first version; Google's measurement reference for GA4; Braze's
recommended e-commerce events.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ALIASES", "ALSO", "BRAZE", "CART_UPDATED", "GA4", "SEGMENT_V1", "TRANSLATED"]

# Segment v1: the same properties, but for ``id`` and ``orderId``.
SEGMENT_V1: Final[dict[str, str]] = {
    "Viewed Product": "Product Viewed",
    "Clicked Product": "Product Clicked",
    "Viewed Product Category": "Product List Viewed",
    "Searched Products": "Products Searched",
    "Added Product": "Product Added",
    "Removed Product": "Product Removed",
    "Started Order": "Checkout Started",
    "Completed Order": "Order Completed",
    "Updated Order": "Order Updated",
    "Refunded Order": "Order Refunded",
    "Cancelled Order": "Order Cancelled",
    "Viewed Promotion": "Promotion Viewed",
    "Clicked Promotion": "Promotion Clicked",
}
GA4: Final[dict[str, str]] = {
    "view_item": "Product Viewed",
    "select_item": "Product Clicked",
    "view_item_list": "Product List Viewed",
    "search": "Products Searched",
    "add_to_cart": "Product Added",
    "remove_from_cart": "Product Removed",
    "view_cart": "Cart Viewed",
    "begin_checkout": "Checkout Started",
    "add_payment_info": "Payment Info Entered",
    "purchase": "Order Completed",
    "refund": "Order Refunded",
    "view_promotion": "Promotion Viewed",
    "select_promotion": "Promotion Clicked",
    "add_to_wishlist": "Product Added to Wishlist",
}
BRAZE: Final[dict[str, str]] = {
    "ecommerce.product_viewed": "Product Viewed",
    "ecommerce.cart_updated": "Product Added",
    "ecommerce.checkout_started": "Checkout Started",
    "ecommerce.order_placed": "Order Completed",
    "ecommerce.order_cancelled": "Order Cancelled",
    "ecommerce.order_refunded": "Order Refunded",
}
ALIASES: Final[dict[str, str]] = SEGMENT_V1 | GA4 | BRAZE
# A cart that was updated counts as added to; an empty one, or one whose ``action`` is to remove, as removed
# from.
CART_UPDATED: Final = "ecommerce.cart_updated"
ALSO: Final = frozenset({(CART_UPDATED, "Product Removed")})  # what an event may mean besides its alias
TRANSLATED: Final = frozenset(SEGMENT_V1 | GA4 | BRAZE)  # names whose properties are called otherwise, too
