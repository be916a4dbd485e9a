"""Products and their variants, as keys of timers and as lines of orders.

Producers do not name a variant everywhere the same way: a cart has its ``variant`` and its ``sku``, an order
often the SKU alone. Whom a message is about who may have bought the very thing, must not get it; so what does
not tell two variants apart takes them for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.ids import id_of

if TYPE_CHECKING:
    from schemas.events import Product

__all__ = ["VARIANT", "item_of", "key_of", "line_of", "line_of_key", "may_be_same", "sku_of", "variant_of"]

VARIANT: Final = "\x1e"  # between a product and its variant, and between that and its SKU
MAX_NAME: Final = 128  # characters; what is longer is known by its hash


def key_of(product: Product, *, per_variant: bool) -> str:
    """What a timer is kept under: the product, with ``per_variant`` and its variant, else its SKU."""
    item_id = str(product.product_id)
    variant = (_name(product.variant) or sku_of(product)) if per_variant else ""
    return f"{item_id}{VARIANT}{variant}" if variant else item_id


def item_of(key: str) -> str:
    """Return the id of the product that a key is about."""
    return key.partition(VARIANT)[0]


def variant_of(key: str) -> str:
    """Return the variant, or SKU, that a key is about; empty for a product as such."""
    return key.partition(VARIANT)[2]


def sku_of(product: Product) -> str:
    """Return the SKU of a product where it says more than the product's id; else nothing."""
    sku = "" if product.sku is None else str(product.sku)
    return _name(sku) if sku != product.product_id else ""


def line_of(product: Product) -> str:
    """All that an event says of which variant it means: product, variant, SKU."""
    return VARIANT.join((str(product.product_id), _name(product.variant), sku_of(product)))


def line_of_key(key: str, sku: str) -> str:
    """Say the same of a timer, by its key and the SKU that it was armed with."""
    variant = variant_of(key)
    return VARIANT.join((item_of(key), "" if variant == sku else variant, sku))


def may_be_same(one: str, other: str) -> bool:
    r"""Whether two lines may mean the same variant of one product: what one alone says decides nothing.

    >>> black, by_sku, white = "p\x1eblack\x1e7", "p\x1e\x1e7", "p\x1ewhite\x1e8"
    >>> may_be_same(black, by_sku), may_be_same(black, white), may_be_same(white, by_sku)
    (True, False, False)
    """
    item_id, *ours = one.split(VARIANT)
    other_id, *theirs = other.split(VARIANT)
    if item_id != other_id:
        return False
    if any(name in theirs for name in ours if name):
        return True
    return not any(name and named for name, named in zip(ours, theirs, strict=True))


def _name(text: str | None) -> str:
    if not text:
        return ""
    return text if len(text) <= MAX_NAME and text.isprintable() else id_of("variant", text)
