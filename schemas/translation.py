"""Properties of events of other vocabularies, read as Segment's. The envelope is Segment's in any case."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from schemas.aliases import BRAZE, CART_UPDATED, GA4, SEGMENT_V1
from schemas.events import Identifier, Number, Product, Properties
from schemas.mending import read_fields

__all__ = ["translated"]


class _V1Product(Product, frozen=True, gc=False):
    id: Identifier | None = None


class _V1(Struct, frozen=True, gc=False):
    id: Identifier | None = None
    orderId: Identifier | None = None  # noqa: N815  Segment's name
    products: list[_V1Product] | None = None


class _Ga4Item(Struct, frozen=True, gc=False):
    item_id: Identifier | None = None
    item_name: str | None = None
    item_brand: str | None = None
    item_category: str | None = None
    item_variant: str | None = None
    price: Number | None = None
    quantity: Number | None = None
    index: Number | None = None
    promotion_id: Identifier | None = None
    creative_slot: str | None = None


class _Ga4(Struct, frozen=True, gc=False):
    items: list[_Ga4Item] | None = None
    transaction_id: Identifier | None = None
    item_list_id: str | None = None
    search_term: str | None = None
    creative_slot: str | None = None


class _BrazeProduct(Struct, frozen=True, gc=False):
    product_id: Identifier | None = None
    product_name: str | None = None
    variant_id: Identifier | None = None
    price: Number | None = None
    quantity: Number | None = None


class _Braze(_BrazeProduct, frozen=True, gc=False):
    products: list[_BrazeProduct] | None = None
    total_value: Number | None = None
    action: Literal["add", "remove", "replace"] | None = None


class _V1Track(Struct, frozen=True, gc=False):
    properties: _V1 = _V1()


class _Ga4Track(Struct, frozen=True, gc=False):
    properties: _Ga4 = _Ga4()


class _BrazeTrack(Struct, frozen=True, gc=False):
    properties: _Braze = _Braze()


_v1 = msgspec.json.Decoder(_V1Track)
_ga4 = msgspec.json.Decoder(_Ga4Track)
_braze = msgspec.json.Decoder(_BrazeTrack)


def translated(
    name: str, properties: Properties, source: bytes | dict[str, Any]
) -> tuple[str, Properties, bool]:
    """Return what an event of another vocabulary is called in Segment's, its properties, and if it is a cart.

    A cart is all that is in it: what it does not hold is not in it any more.

    Parameters
    ----------
    name : str
        One of :data:`schemas.aliases.TRANSLATED`.
    properties : Properties
        What was read of them under Segment's names.
    source : bytes | dict[str, Any]
        The envelope; or its properties, of which what can be read is.

    Raises
    ------
    msgspec.ValidationError
        A property has the wrong type.
    """
    if name in SEGMENT_V1:
        v1 = _v1.decode(source).properties if isinstance(source, bytes) else read_fields(_V1, source)
        return SEGMENT_V1[name], _of_v1(properties, v1), False
    if name in GA4:
        ga4 = _ga4.decode(source).properties if isinstance(source, bytes) else read_fields(_Ga4, source)
        return GA4[name], _of_ga4(name, properties, ga4), False
    braze = _braze.decode(source).properties if isinstance(source, bytes) else read_fields(_Braze, source)
    return _of_braze(name, properties, braze)


def _of_v1(properties: Properties, v1: _V1) -> Properties:
    return msgspec.structs.replace(
        properties,
        product_id=properties.product_id if v1.id is None else v1.id,
        order_id=properties.order_id if v1.orderId is None else v1.orderId,
        products=[
            product if product.id is None else msgspec.structs.replace(product, product_id=product.id)
            for product in v1.products or ()
        ],
    )


def _of_ga4(name: str, properties: Properties, ga4: _Ga4) -> Properties:
    products = [
        Product(
            product_id=item.item_id,
            name=item.item_name,
            brand=item.item_brand,
            category=item.item_category,
            variant=item.item_variant,
            price=item.price,
            quantity=item.quantity,
            position=item.index,
        )
        for item in ga4.items or ()
    ]
    promoted = next((item for item in ga4.items or () if item.promotion_id is not None), None)
    promotion_id = properties.promotion_id
    place = ga4.creative_slot
    if promotion_id is None and promoted is not None:
        promotion_id, place = promoted.promotion_id, place or promoted.creative_slot
    sold = name in {"purchase", "refund"}
    return msgspec.structs.replace(
        properties,
        products=products,
        order_id=properties.order_id if ga4.transaction_id is None else ga4.transaction_id,
        total=properties.value if sold and properties.total is None else properties.total,
        list_id=ga4.item_list_id or properties.list_id,
        query=ga4.search_term or properties.query,
        promotion_id=promotion_id,
        position=place or properties.position,
    )


def _of_braze(name: str, properties: Properties, braze: _Braze) -> tuple[str, Properties, bool]:
    segments_name = BRAZE[name]
    is_cart = name == CART_UPDATED and braze.action in {None, "replace"} and braze.products is not None
    if name == CART_UPDATED and (braze.action == "remove" or (is_cart and not braze.products)):
        segments_name = "Product Removed"
    read = msgspec.structs.replace(
        properties,
        name=properties.name or braze.product_name,
        variant=_text(braze.variant_id),
        total=properties.total if braze.total_value is None else braze.total_value,
        products=[
            Product(
                product_id=product.product_id,
                name=product.product_name,
                variant=_text(product.variant_id),
                price=product.price,
                quantity=product.quantity,
            )
            for product in braze.products or ()
        ],
    )
    return segments_name, read, is_cart


def _text(value: Identifier | None) -> str | None:
    return None if value is None else str(value)
