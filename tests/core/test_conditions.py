"""Conditions: what they say is what the closures answer, compared with a reading of the tree itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import Item
from schemas.conditions import MAX_DEPTH, Condition
from schemas.events import Event, Product, Properties
from schemas.reasons import EventKind
from stream.core.conditions import Facts, compiled
from stream.core.rows import Profile

ITEM = Item(item_id="p1", version=1, price=20.0, stock=0, category="shoes", attributes={"size": 42.0})
EVENT = Event(
    message_id="m1",
    user="u1",
    known=True,
    time=1000.0,
    name="Product Added",
    kind=EventKind.CART_ADD,
    properties=Properties(product_id="p1", price=19.5, coupon="SPRING", currency="EUR"),
    items=(Product(product_id="p1", price=19.5),),
)
PROFILE = Profile(
    known=True,
    n_orders=2,
    first_seen=400.0,
    last_order_at=900.0,
    revenue={"EUR": 50.0},
    consent={"contact": True},
)
FACTS = Facts(PROFILE, 1000.0, EVENT, EVENT.items[0], ITEM)


def condition(data: Any) -> Condition:
    """From what stands in a campaign's file."""
    return msgspec.convert(data, Condition)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ({"fact": "event.name", "is": "Product Added"}, True),
        ({"fact": "event.coupon", "contains": "SPR"}, True),
        ({"fact": "event.total", "at_least": 1}, False),
        ({"fact": "event.total", "exists": False}, True),
        ({"fact": "product.price", "above": 19.5}, False),
        ({"fact": "product.price", "at_least": 19.5, "below": 20}, True),
        ({"fact": "item.price", "at_most": 20}, True),
        ({"fact": "item.available", "is": False}, True),
        ({"fact": "item.category", "in": ["hats", "shoes"]}, True),
        ({"fact": "item.category", "at_least": 1}, False),
        ({"fact": "item.attributes.size", "is": 42}, True),
        ({"fact": "item.attributes.colour", "exists": True}, False),
        ({"fact": "user.n_orders", "is": 2}, True),
        ({"fact": "user.known", "is": 1}, False),
        ({"fact": "user.known", "is": True}, True),
        ({"fact": "user.age_s", "is": 600}, True),
        ({"fact": "user.order_age_s", "below": 101}, True),
        ({"fact": "user.revenue.EUR", "at_least": 50}, True),
        ({"fact": "user.revenue.eur", "at_least": 50}, True),
        ({"fact": "user.revenue.USD", "at_least": 50}, False),
        ({"fact": "user.consent.contact", "is": True}, True),
        ({"fact": "user.consent.sms", "exists": True}, False),
        ({"not": {"fact": "user.n_orders", "at_least": 3}}, True),
    ],
)
def test_comparisons(said: dict[str, Any], answer: bool) -> None:
    """One comparison each, by hand."""
    assert answer is compiled(condition(said))(FACTS)


@pytest.mark.parametrize("bound", [{"is": "Order Completed"}, {"in": ["purchase"]}, {"is": "order_placed"}])
def test_an_event_has_its_name_in_any_vocabulary(bound: dict[str, Any]) -> None:
    """A condition that names an event means what it is called elsewhere, too; others it does not."""
    holds = compiled(condition({"fact": "event.name"} | bound))
    named = {
        name: holds(Facts(Profile(), 0.0, msgspec.structs.replace(EVENT, name=name)))
        for name in ("purchase", "Order Completed", "ecommerce.order_placed", "Completed Order", "refund")
    }
    meant = bound != {"is": "order_placed"}
    assert dict.fromkeys(named, meant) | {"refund": False} == named


def test_without_event_or_item_nothing_is_known() -> None:
    """When a message is due its event is gone, and an item may be unknown."""
    facts = Facts(Profile(), 0.0)
    for fact in (
        "event.name",
        "event.price",
        "product.price",
        "item.price",
        "item.attributes.x",
        "user.order_age_s",
    ):
        assert compiled(condition({"fact": fact, "exists": False}))(facts)


LEAVES = st.builds(
    lambda fact, bound, value: {"fact": fact, bound: value},
    st.sampled_from(["user.n_orders", "product.price", "item.price", "event.total", "user.n_views"]),
    st.sampled_from(["at_least", "at_most", "above", "below", "is"]),
    st.sampled_from([0, 2, 19.5, 20, 30]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda many: {"all": many}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda many: {"any": many}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda one: {"not": one}, inner),
    ),
    max_leaves=12,
).filter(lambda tree: depth(tree) <= MAX_DEPTH)


def depth(tree: dict[str, Any]) -> int:
    """Levels of a tree as written."""
    inner = [*tree.get("all", ()), *tree.get("any", ()), *([tree["not"]] if "not" in tree else ())]
    return 1 + max(map(depth, inner), default=0)


def read(tree: dict[str, Any]) -> bool:
    """Read the tree as a person would: the oracle."""
    if "all" in tree:
        return all(read(one) for one in tree["all"])
    if "any" in tree:
        return any(read(one) for one in tree["any"])
    if "not" in tree:
        return not read(tree["not"])
    known = {"user.n_orders": 2, "product.price": 19.5, "item.price": 20.0, "user.n_views": 0}
    value = known.get(tree["fact"])
    [(bound, limit)] = [(name, limit) for name, limit in tree.items() if name != "fact"]
    if value is None:
        return False
    compared: dict[str, bool] = {
        "at_least": value >= limit,
        "at_most": value <= limit,
        "above": value > limit,
        "below": value < limit,
        "is": value == limit,
    }
    return compared[str(bound)]


@given(TREES)
def test_a_tree_is_answered_as_it_reads(tree: dict[str, Any]) -> None:
    """Any nesting of all, any and not."""
    assert read(tree) is compiled(condition(tree))(FACTS)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({}, "exactly one of"),
        ({"all": [{"fact": "user.n_orders", "is": 1}], "fact": "user.known", "is": True}, "exactly one of"),
        ({"fact": "user.n_orders"}, "needs a bound"),
        ({"all": [{"fact": "user.known", "is": True}], "at_least": 1}, "needs a fact"),
        ({"fact": "user.orders", "at_least": 1}, "did you mean 'user.n_orders'"),
        ({"fact": "item.attributes.", "exists": True}, "not a known fact"),
        ({"fact": ""}, "needs a bound"),
        ({"fact": "", "is": 1}, "not a known fact"),
        ({"all": []}, "length >= 1"),
        ({"fact": "user.stage", "in": []}, "of no values"),
        ({"fact": "user.n_orders", "above": float("inf")}, "above: needs a number that is finite"),
        ({"fact": "user.n_orders", "at_least": float("nan")}, "at_least: needs a number that is finite"),
    ],
)
def test_what_has_no_one_meaning_is_refused(said: dict[str, Any], fault: str) -> None:
    """Each with what is wrong."""
    with pytest.raises(msgspec.ValidationError, match=fault):
        condition(said)


def test_nesting_is_bounded() -> None:
    """A condition cannot be deeper than a reader can follow."""
    tree: dict[str, Any] = {"fact": "user.known", "is": True}
    for _ in range(MAX_DEPTH):
        tree = {"not": tree}

    with pytest.raises(msgspec.ValidationError, match="nested deeper"):
        condition(tree)
