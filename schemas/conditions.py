"""Conditions of campaigns: ``all``, ``any`` and ``not`` over comparisons of named facts. Data, no code.

A comparison names a fact and at least one bound, for example ``{fact: user.n_orders, at_least: 1}``.
What may be named stands in :data:`FACTS`; ``item.attributes.NAME``, ``user.revenue.CURRENCY`` and
``user.consent.PURPOSE`` take a name of the shop's.
"""

from __future__ import annotations

import difflib
import math
from typing import Annotated, Any

from msgspec import Meta, Struct

from schemas.events import Product, Properties

__all__ = ["FACTS", "MAX_DEPTH", "OPEN_FACTS", "Condition", "Value"]

MAX_DEPTH = 8
Value = str | bool | float
Conditions = Annotated[list["Condition"], Meta(min_length=1, max_length=64)]

_USER = (
    *("known", "n_events", "n_orders", "n_views", "n_adds", "age_s", "order_age_s", "time_zone", "bought"),
    *("stage", "recency", "frequency", "monetary", "active_age_s", "segments"),
)
_OF_EVENT = tuple(name for name in Properties.__struct_fields__ if name not in {"products", "purposes"})
_OF_ITEM = ("name", "category", "brand", "price", "currency", "stock", "available")
# Facts of the event's own properties, of its line on the product, of the catalogue's item, of the user.
FACTS: tuple[str, ...] = (
    "event.name",
    *(f"event.{name}" for name in _OF_EVENT if name != "name"),
    *(f"product.{name}" for name in Product.__struct_fields__),
    *(f"item.{name}" for name in _OF_ITEM),
    *(f"user.{name}" for name in _USER),
)
OPEN_FACTS = ("item.attributes.", "user.revenue.", "user.consent.")
_WIRE_NAMES = {"not_": "not", "in_": "in", "is_": "is"}
_FORMS = ("all", "any", "not_", "fact")


class Condition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=_WIRE_NAMES):
    """Exactly one of ``all``, ``any``, ``not`` and ``fact``; a fact needs a bound, and all bounds must hold.

    A fact that is not known fulfils no bound but ``exists: false``; numbers are compared with numbers only.
    """

    all: Conditions | None = None
    any: Conditions | None = None
    not_: Condition | None = None
    fact: str | None = None
    is_: Value | None = None
    in_: list[Value] | None = None
    contains: str | None = None
    exists: bool | None = None
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        """Refuse what has no one meaning."""
        forms = [name for name in _FORMS if getattr(self, name) is not None]
        if len(forms) != 1:
            message = "a condition is exactly one of all, any, not and fact"
            raise ValueError(message)
        bounds = [
            name for name in self.__struct_fields__ if name not in _FORMS and getattr(self, name) is not None
        ]
        if (self.fact is not None) != bool(bounds):
            wanted = "is, in, contains, exists, at_least, at_most, above or below"
            message = f"a bound ({bounds[0]}) needs a fact" if bounds else f"fact: needs a bound: {wanted}"
            raise ValueError(message)
        if self.fact is not None:
            _check_fact(self.fact)
        if self.in_ == []:
            message = "in: of no values none is meant"
            raise ValueError(message)
        for name in ("at_least", "at_most", "above", "below"):
            if not math.isfinite(getattr(self, name) or 0.0):
                message = f"{name}: needs a number that is finite"
                raise ValueError(message)
        if _depth(self) > MAX_DEPTH:
            message = f"a condition is nested deeper than {MAX_DEPTH}"
            raise ValueError(message)

    def comparisons(self) -> list[Condition]:
        """All comparisons of a fact, in order."""
        if self.fact is not None:
            return [self]
        return [found for inner in _inner(self) for found in inner.comparisons()]

    def facts(self) -> set[str]:
        """All facts that the condition names."""
        named = {self.fact} if self.fact is not None else set()
        return named.union(*(inner.facts() for inner in _inner(self)))


def _inner(condition: Condition) -> list[Condition]:
    inner = [*(condition.all or ()), *(condition.any or ())]
    return inner if condition.not_ is None else [*inner, condition.not_]


def _depth(condition: Condition) -> int:
    return 1 + max((_depth(inner) for inner in _inner(condition)), default=0)


def _check_fact(fact: str) -> None:
    if fact in FACTS or any(fact.startswith(stem) and fact != stem for stem in OPEN_FACTS):
        return
    near: list[Any] = difflib.get_close_matches(fact, [*FACTS, *OPEN_FACTS], n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    message = f"fact: {fact!r} is not a known fact{hint}"
    raise ValueError(message)
