"""The index of rules against asking each rule."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.conditions import Condition
from stream.core.conditions import Facts, all_of, compiled
from stream.core.indexing import Index, split
from stream.core.rows import Profile

NUMBERS = st.sampled_from([-1, 0, 0.5, 1, 2, 3])
FACTS = ["user.n_orders", "user.revenue.EUR", "user.order_age_s", "user.stage", "item.price"]
COMPARISONS = st.fixed_dictionaries(
    {"fact": st.sampled_from(FACTS)},
    optional=dict.fromkeys(("at_least", "at_most", "above", "below", "is"), NUMBERS),
).filter(lambda fields: len(fields) > 1)
CONDITIONS = st.one_of(
    COMPARISONS,
    st.lists(COMPARISONS, min_size=1, max_size=3).map(lambda inner: {"all": inner}),
    st.lists(COMPARISONS, min_size=1, max_size=2).map(lambda inner: {"any": inner}),
    COMPARISONS.map(lambda inner: {"not": inner}),
)
NAMES = st.sampled_from([None, frozenset({"a"}), frozenset({"a", "b"})])


@given(
    st.lists(st.tuples(NAMES, st.none() | CONDITIONS), max_size=12),
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 3),
    NUMBERS,
    st.sampled_from([float("-inf"), 0.0, 7.0, 9.0]),
)
def test_the_index_finds_what_asking_each_rule_finds(
    rules: list[tuple[frozenset[str] | None, dict[str, object] | None]],
    name: str,
    n_orders: int,
    revenue: float,
    ordered_at: float,
) -> None:
    """In the same order; what the index cannot look up is left over, and asked."""
    profile = Profile(n_orders=n_orders, revenue={"EUR": revenue}, last_order_at=ordered_at)
    facts = Facts(profile, 10.0)
    audiences = [None if data is None else msgspec.convert(data, Condition) for _, data in rules]
    parts = [split(audience) for audience in audiences]
    index = Index([(n, names, parts[n][0]) for n, (names, _) in enumerate(rules)])
    found = [n for n in index.concerned(name, facts) if all_of(parts[n][1])(facts)]

    assert found == [
        n
        for n, (names, _) in enumerate(rules)
        if (names is None or name in names) and compiled(audiences[n])(facts)
    ]


def test_bounds_of_the_user_are_looked_up_and_the_rest_is_asked() -> None:
    """Of what must all hold; an alternative as a whole is asked."""
    orders, price = {"fact": "user.n_orders", "at_least": 1}, {"fact": "item.price", "below": 5}
    both = msgspec.convert({"all": [orders, price]}, Condition)
    either = msgspec.convert({"any": [orders, price]}, Condition)

    assert ([msgspec.convert(orders, Condition)], [msgspec.convert(price, Condition)]) == split(both)
    assert ([], [either]) == split(either)
    assert ([], []) == split(None)
