"""What must not have been before a message is remembered, however much else a user does."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import msgspec
import pytest

from schemas.aliases import ALIASES
from schemas.campaigns import Campaign
from schemas.events import EVENT_NAMES
from stream.settings import Settings
from stream.testing import Driver, event

DAY = 86_400.0
BROWSING = {"campaign_id": "browsing", "kind": "browse_abandonment", "min_views": 2, "priority": 1}


def driver(*campaigns: dict[str, Any]) -> Driver:
    """A driver whose users agreed to everything."""
    settings = Settings(
        max_items=1024,
        consent={"when_unknown": "allow"},
        campaigns={"holdout_share": 0.0, "lateness_s": 0.0, "daily_cap": None},
        cleaning={"max_events_per_minute": 10_000},
    )
    basis = {"version": 1, "message_class": "marketing", "delay_s": 3600.0}
    return Driver(settings=settings, campaigns=[msgspec.convert(basis | one, Campaign) for one in campaigns])


def unless(*names: str, **more: Any) -> dict[str, Any]:
    """A campaign about what is added to a cart, unless something was within the week before."""
    return {
        "campaign_id": "added",
        "kind": "sequence",
        "when": {"events": ["Product Added"], "at_least": 1},
        "unless_before": {"events": [*names], "within_s": 7 * DAY},
        "cancel_on": ["Order Refunded"],
        **more,
    }


def written(stream: Driver) -> list[str]:
    """What messages of the campaign were about."""
    stream.advance(2 * 3600.0)
    found = [t for t in stream.take("triggers") if t.campaign_id == "added"]
    return [str(t.context.get("product_id", "")) for t in found]


@pytest.mark.parametrize("n_viewed", [1, 400])
def test_browsing_does_not_displace_an_order(n_viewed: int) -> None:
    """A user orders and then views hundreds of pages, which a campaign counts; the order is still known."""
    stream = driver(BROWSING, unless("Order Completed"))
    stream.pipe(event("Order Completed", user="u1", at=0, products=[{"product_id": "p"}]))
    views = (event("Product Viewed", user="u1", at=10 + n, product_id=f"v{n}") for n in range(n_viewed))
    stream.pipe(*views, event("Product Added", user="u1", at=DAY, product_id="q"))
    assert [] == written(stream)

    stream.pipe(event("Product Added", user="u2", at=DAY, product_id="q"))
    assert [""] == written(stream)


def test_browsing_does_not_make_an_objection_to_one_product_one_to_all() -> None:
    """One was removed, one was not; four hundred counted views later q may be written about, p not."""
    stream = driver(BROWSING, unless("Product Removed", key="product"))
    views = (event("Product Viewed", user="u1", at=10 + n, product_id=f"v{n}") for n in range(400))
    stream.pipe(event("Product Removed", user="u1", at=0, product_id="p"), *views)
    stream.pipe(*(event("Product Added", user="u1", at=DAY, product_id=one) for one in ("p", "q")))

    assert ["q"] == written(stream)


def test_browsing_does_not_displace_what_ends_a_timer() -> None:
    """A product was put into a cart and taken out; that it was put in comes late, after hundreds of views."""
    cart = {"campaign_id": "added", "kind": "cart_abandonment"}
    stream = driver(BROWSING, cart)
    views = (event("Product Viewed", user="u1", at=200 + n, product_id=f"v{n}") for n in range(400))
    stream.pipe(event("Product Removed", user="u1", at=100, product_id="p"), *views)
    stream.pipe(*(event("Product Added", user="u1", at=50, product_id=one) for one in ("p", "q")))

    assert ["q"] == written(stream)


@pytest.mark.parametrize("n_removed", [3, 400])
def test_of_many_products_none_is_taken_for_new(n_removed: int) -> None:
    """Of hundreds of products that were removed the first is not written about, nor the last."""
    stream = driver(unless("Product Removed", key="product"))
    products = [f"p{n}" for n in range(n_removed)]
    stream.pipe(
        *(event("Product Removed", user="u1", at=n, product_id=one) for n, one in enumerate(products))
    )
    stream.pipe(
        event("Product Added", user="u1", at=DAY, product_id=products[0]),
        event("Product Added", user="u1", at=DAY + 1, product_id=products[-1]),
    )
    assert [] == written(stream)
    stream.advance(8 * DAY)
    stream.pipe(event("Product Added", user="u1", at=10 * DAY, product_id=products[0]))
    assert [products[0]] == written(stream)
    assert len(stream.engine.state.profile("u1").matched) <= 128


def test_there_is_room_for_what_each_campaign_objects_to() -> None:
    """More campaigns than keys are kept, each against another pair of events: none writes."""
    unmeant = {"Product Added", "Order Cancelled", "Order Refunded", "Unsubscribed", "Consent Changed"}
    names = sorted(set(EVENT_NAMES) - set(ALIASES) - unmeant)[:18]
    pairs = list(combinations(names, 2))
    campaigns = [unless(*pair, campaign_id=f"c{n}") for n, pair in enumerate(pairs)]
    stream = driver(*campaigns)
    stream.pipe(*(event(name, user="u1", at=n, product_id="p") for n, name in enumerate(names)))
    assert len(names) == stream.counts["accepted",]
    stream.pipe(event("Product Added", user="u1", at=100, product_id="p"))
    stream.advance(DAY)
    assert len(campaigns) > 128
    assert [] == stream.take("triggers")


def test_what_is_counted_of_a_user_is_bounded_in_all() -> None:
    """Forty views of each of a hundred products, where thirty-two count: the newest do, and the order."""
    counting = {"campaign_id": "added", "kind": "event", "key": "product"}
    views = {"when": {"events": ["Product Viewed"], "at_least": 32}}
    stream = driver(counting | views, unless("Order Completed", campaign_id="other"))
    stream.pipe(event("Order Completed", user="u1", at=0, products=[{"product_id": "p"}]))
    for product in range(100):
        for n in range(40):
            at = 10.0 + 40 * product + n
            stream.pipe(event("Product Viewed", user="u1", at=at, product_id=f"v{product}"))
    stream.flush()
    matched = stream.engine.state.profile("u1").matched

    assert sum(map(len, matched.values())) <= 1024
    assert "v99" in {name.partition("\x1f")[2] for name in matched}
    assert any(name.endswith("\x1fp") for name in matched)
