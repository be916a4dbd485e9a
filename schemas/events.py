"""What producers may send: the Segment track envelope and its e-commerce events, as they are.

The wire form is :class:`Track`; :func:`schemas.codec.decode` turns it into the flat :class:`Event` that the
engine reads. Field names of the wire form are Segment's (camelCase envelope, snake_case properties).

Source: Segment Spec, E-commerce v2 (the RudderStack and PostHog specs use the same names).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from schemas.aliases import ALIASES
from schemas.reasons import EventKind, RejectCode

__all__ = [
    "EVENT_NAMES",
    "MAX_NUMBER",
    "Consent",
    "Context",
    "Event",
    "Product",
    "Properties",
    "Rejected",
    "Track",
]

MAX_NUMBER = 1e12  # design limit; 2**64 and 1e308 are mistakes in every currency

Number = Annotated[float, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Identifier = str | int  # producers send numeric ids too; they become text


class Article(Struct, frozen=True, gc=False):
    """What names and describes a product, alone or within a list."""

    product_id: Identifier | None = None
    sku: Identifier | None = None
    variant: str | None = None
    category: str | None = None
    name: str | None = None
    brand: str | None = None
    price: Number | None = None
    quantity: Number | None = None


class Product(Article, frozen=True, gc=False):
    """One product of a list, a cart or an order."""

    position: Number | None = None


class Properties(Article, frozen=True, gc=False):
    """The properties that the engine reads; everything else a producer sends is ignored."""

    position: str | Number | None = None  # a number in a list, a place's name for promotions
    currency: str | None = None
    value: Number | None = None
    list_id: str | None = None
    cart_id: Identifier | None = None
    checkout_id: Identifier | None = None
    order_id: Identifier | None = None
    total: Number | None = None
    revenue: Number | None = None
    products: list[Product] | None = None
    query: str | None = None
    rating: str | Number | None = None
    coupon: str | None = None
    coupon_id: Identifier | None = None
    promotion_id: Identifier | None = None
    decision_id: str | None = None
    campaign_id: Identifier | None = None
    slot: str | None = None
    channel: str | None = None
    purposes: dict[str, bool] | None = None


class Consent(Struct, frozen=True, gc=False):
    """``context.consent``: purpose -> granted."""

    categoryPreferences: dict[str, bool] | None = None  # noqa: N815  Segment's name


class UtmCampaign(Struct, frozen=True, gc=False):
    """``context.campaign``: the UTM parameters; ``content`` may echo one of our decision ids."""

    name: str | None = None
    content: str | None = None


class Context(Struct, frozen=True, gc=False):
    """The part of the envelope's context that the engine reads."""

    timezone: str | None = None
    consent: Consent | None = None
    campaign: UtmCampaign | None = None


class Track(Struct, frozen=True, gc=False):
    """The Segment envelope. Every field is optional here so that a missing one gets its own reject code."""

    type: str | None = "track"
    messageId: str | None = None  # noqa: N815  Segment's name
    userId: Identifier | None = None  # noqa: N815  Segment's name
    anonymousId: Identifier | None = None  # noqa: N815  Segment's name
    timestamp: datetime | None = None
    originalTimestamp: datetime | None = None  # noqa: N815  Segment's name
    sentAt: datetime | None = None  # noqa: N815  Segment's name
    receivedAt: datetime | None = None  # noqa: N815  Segment's name
    event: str | None = None
    properties: Properties | None = None
    context: Context | None = None


class Event(Struct, frozen=True, gc=False):
    """One decoded fact from a producer.

    Attributes
    ----------
    user : str
        ``userId``, else ``anonymousId``: whom all per-user state belongs to.
    time : float
        Event time, seconds since the epoch, by the producer's (corrected) clock.
    items : tuple of Product
        The products concerned, with text ids: one for product events, many for lists and orders.
    unnamed : bool
        It lists products that have no id, so they may be any.
    is_cart : bool
        The products are all that is in the user's cart now.
    fault : Rejected or None
        What is wrong with its record; then it holds what could be read, and neither teaches nor arms.
    """

    message_id: str
    user: str
    known: bool
    time: float
    name: str
    kind: EventKind
    properties: Properties
    items: tuple[Product, ...] = ()
    unnamed: bool = False
    is_cart: bool = False
    decision_id: str | None = None
    time_zone: str | None = None
    purposes: dict[str, bool] = field(default_factory=dict)
    fault: Rejected | None = None

    @property
    def item_id(self) -> str | None:
        """The one product that a product event is about."""
        return self.items[0].product_id if self.items else None  # type: ignore[return-value]  # decode made it text


class Rejected(Struct, frozen=True):
    """Bytes we could not accept: the code of a closed set, where in the record, and a sentence.

    ``heard`` are the answers to questions of consent that came with them all the same.
    """

    code: RejectCode
    path: str
    message: str
    heard: Event | None = None


_K = EventKind
EVENT_NAMES: dict[str, EventKind] = {
    "Product Viewed": _K.VIEW,
    "Product Clicked": _K.CLICK,
    "Product List Viewed": _K.LIST_VIEW,
    "Product List Filtered": _K.LIST_VIEW,
    "Products Searched": _K.SEARCH,
    "Product Added": _K.CART_ADD,
    "Wishlist Product Added to Cart": _K.CART_ADD,
    "Product Removed": _K.CART_REMOVE,
    "Cart Viewed": _K.CART_VIEW,
    "Checkout Started": _K.CHECKOUT,
    "Checkout Step Viewed": _K.CHECKOUT,
    "Checkout Step Completed": _K.CHECKOUT,
    "Payment Info Entered": _K.CHECKOUT,
    "Order Completed": _K.ORDER,
    "Order Updated": _K.ORDER_UPDATE,
    "Order Refunded": _K.REFUND,
    "Order Cancelled": _K.CANCEL,
    "Promotion Viewed": _K.PROMOTION_VIEW,
    "Promotion Clicked": _K.PROMOTION_CLICK,
    "Coupon Entered": _K.COUPON,
    "Coupon Applied": _K.COUPON,
    "Coupon Denied": _K.COUPON,
    "Coupon Removed": _K.COUPON,
    "Product Added to Wishlist": _K.WISH_ADD,
    "Product Removed from Wishlist": _K.WISH_REMOVE,
    "Product Shared": _K.SHARE,
    "Cart Shared": _K.SHARE,
    "Product Reviewed": _K.REVIEW,
    "Email Delivered": _K.EMAIL_DELIVERED,
    "Email Opened": _K.EMAIL_OPEN,
    "Email Link Clicked": _K.EMAIL_CLICK,
    "Email Bounced": _K.EMAIL_BOUNCE,
    "Email Marked as Spam": _K.UNSUBSCRIBE,
    "Unsubscribed": _K.UNSUBSCRIBE,
    "Consent Changed": _K.CONSENT,
    "Recommendations Requested": _K.REQUEST,
    "Experiment Viewed": _K.EXPERIMENT,
}
EVENT_NAMES |= {alias: EVENT_NAMES[name] for alias, name in ALIASES.items()}
