"""Orders after clicks: labels are learned at once and come out right, and messages are valued by them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from schemas.campaigns import CampaignConsent
from stream.settings import Settings
from stream.testing import Driver, cart_campaign, event

DAY = 86_400.0
SMALL: dict[str, Any] = {"max_items": 256, "click_slots": 2**10}


def driver(**more: Any) -> Driver:
    """A driver with a window of three days, in which item good may be ordered."""
    return Driver(settings=Settings(**SMALL, **({"conversions": {"window_s": 3 * DAY}} | more)))


def seen(user: str, at: float, *items: str) -> bytes:
    """A list."""
    products = [{"product_id": item, "position": n + 1} for n, item in enumerate(items)]
    return event("Product List Viewed", user=user, at=at, list_id="home", products=products)


def clicked(user: str, at: float, item: str) -> bytes:
    """A click in it."""
    return event("Product Clicked", user=user, at=at, product_id=item)


def ordered(user: str, at: float, *items: str) -> bytes:
    """An order."""
    products = [{"product_id": item} for item in items]
    return event("Order Completed", user=user, at=at, order_id=f"{user}-{at}", products=products)


def learned(stream: Driver) -> tuple[int, float]:
    """Examples of the model of conversions, and the sum of those that were orders, weights left out."""
    stream.flush()
    loss = stream.models.live.losses["conversions"]._loss
    return loss.n, loss._positives


def test_an_order_before_the_click_is_not_its_doing() -> None:
    """One that comes late, of a second before, makes no one; the next order does."""
    stream = driver()
    stream.pipe(seen("u1", 90, "a"), clicked("u1", 100, "a"), ordered("u1", 99, "a"))
    assert (1, 0.0) == learned(stream)

    stream.pipe(ordered("u1", 101, "a"))
    n, ones = learned(stream)
    assert 2 == n
    assert ones > 0.0


def test_zeros_at_once_and_ones_when_they_come_give_the_rate_of_orders() -> None:
    """Half of the clicks on good lead to an order a day later, a tenth of those on bad; the model says so."""
    rng = np.random.default_rng(6)
    stream = driver()
    orders: list[tuple[float, bytes]] = []
    for n in range(1500):
        user, at = f"u{n}", 600.0 * n
        while orders and orders[0][0] < at:
            stream.pipe(orders.pop(0)[1])
        item, rate = ("good", 0.5) if n % 2 else ("bad", 0.1)
        stream.pipe(seen(user, at, item), clicked(user, at + 5, item))
        if rng.random() < rate:
            orders.append((at + DAY, ordered(user, at + DAY, item)))
    stream.flush()
    model = stream.models.conversions
    assert model is not None

    shown = {"category": "?", "position": "1", "list": "home", "views": "0", "buyer": "no", "seen": "no"}
    for item, rate in (("good", 0.5), ("bad", 0.1)):
        asked = shown | {"item": item, "user": "new"}
        assert rate == pytest.approx(model.predict_proba_one(asked), abs=0.1)  # unweighted: .33, .09


def test_only_the_newest_click_on_an_ordered_item_is_a_conversion() -> None:
    """Two clicks make two zeros, their order one positive; the same order again, of what is left, none."""
    stream = driver()
    stream.pipe(seen("u1", 0, "a", "b"), clicked("u1", 5, "a"))
    stream.pipe(seen("u1", 100, "a", "b"), clicked("u1", 105, "a"))
    assert 2 == learned(stream)[0]
    stream.pipe(ordered("u1", 500, "a", "never-clicked"), ordered("u1", 600, "a"))

    n, positives = learned(stream)
    assert 3 == n
    assert positives > 0.0
    assert [] == stream.engine.state.memory("u1").clicked


def test_an_order_after_the_window_is_none() -> None:
    """Three days and a second after the click."""
    stream = driver()
    stream.pipe(seen("u1", 0, "a"), clicked("u1", 5, "a"), ordered("u1", 6 + 3 * DAY, "a"))

    assert (1, 0.0) == learned(stream)


def test_a_restart_keeps_what_waits_for_an_order() -> None:
    """The click is committed with its user's row."""
    stream = driver()
    stream.pipe(seen("u1", 0, "a"), clicked("u1", 5, "a"))
    stream.restart()
    stream.pipe(ordered("u1", 500, "a"))

    assert 2 == learned(stream)[0]


def test_clicks_that_wait_are_bounded() -> None:
    """A user who clicks a hundred items keeps the newest sixteen."""
    stream = driver()
    for n in range(100):
        stream.pipe(seen("u1", 10 * n, f"i{n}"), clicked("u1", 10 * n + 5, f"i{n}"))
    stream.flush()

    assert [f"i{n}" for n in range(84, 100)] == [i.item_id for i in stream.engine.state.memory("u1").clicked]


def test_a_message_is_valued_by_its_order_where_that_is_configured() -> None:
    """The expected value is the product of both probabilities times the value, less the cost."""
    settings = Settings(
        **SMALL,
        conversions={"window_s": 3 * DAY, "values_orders": True},
        campaigns={"holdout_share": 0.0, "exploration": 0.0},
    )
    campaign = cart_campaign(
        value=100.0, cost=1.0, currency="EUR", consent=CampaignConsent(when_unknown="allow")
    )
    stream = Driver(settings=settings, campaigns=[campaign])
    for n in range(50):
        stream.pipe(seen(f"v{n}", 100 * n, "a"), clicked(f"v{n}", 100 * n + 5, "a"))
        stream.pipe(ordered(f"v{n}", 100 * n + 50, "a"))
    stream.pipe(event("Product Added", user="u1", at=6000, product_id="a"))
    stream.advance(DAY)
    (decision,) = [d for d in stream.take("decisions") if d.campaign_id == "cart"]
    told = decision.features
    assert told is not None

    assert 0.0 < told["conversion_probability"] < 1.0
    worth = told["click_probability"] * told["conversion_probability"] * 100.0 - 1.0
    assert worth == pytest.approx(told["expected_value"])


def test_values_of_orders_need_the_model() -> None:
    """A setting that could only mislead is refused."""
    with pytest.raises(ValidationError, match="NUDGE_CONVERSIONS__WINDOW_S"):
        Settings(conversions={"values_orders": True})


def test_without_a_window_nothing_is_kept() -> None:
    """The model is off by default."""
    stream = Driver(settings=Settings(**SMALL))
    stream.pipe(seen("u1", 0, "a"), clicked("u1", 5, "a"))
    stream.flush()

    assert stream.models.conversions is None
    assert [] == stream.engine.state.memory("u1").clicked
