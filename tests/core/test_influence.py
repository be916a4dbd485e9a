"""What one user or one item can teach is bounded."""

from __future__ import annotations

from typing import Any

import pytest

from stream.core.attribution import Feedback
from stream.core.config import AttributionConfig
from stream.core.influence import Influence
from stream.core.rows import ModelMemory
from stream.core.state import PartitionState
from stream.settings import Settings
from stream.testing import Driver, event

DAY = 86_400.0
SMALL: dict[str, Any] = {"max_items": 256, "click_slots": 2**12}


def click(item_id: str = "a", at: float = 0.0) -> Feedback:
    """A clicked impression."""
    return Feedback("click", item_id, [0, 1], 1.0, at)


def test_a_user_teaches_so_much_a_day() -> None:
    """Of 50 clicks 10 teach; the next day 10 more; offers are counted apart."""
    influence = Influence(AttributionConfig(max_clicks_per_day=10, max_offers_per_day=2), PartitionState())
    memory = ModelMemory()
    for day in (0.0, 1.0):
        assert 10 == len(influence.bounded([click(at=day * DAY)] * 50, memory))
        assert 2 == len(influence.bounded([Feedback("offer", "o", [1.0], 0.0, day * DAY)] * 5, memory))
    assert 0 == len(influence.bounded([click(at=0.5 * DAY)], memory))


def test_an_item_teaches_a_share_of_an_hour() -> None:
    """Of 4,000 clicks on one item among 8,000 on others, at most a fifth of what is learned is its own."""
    influence = Influence(AttributionConfig(item_share=0.2), PartitionState())
    learned = {"flood": 0, "others": 0}
    for n in range(12_000):
        name = "flood" if n % 3 == 0 else "others"
        item_id = "flood" if n % 3 == 0 else f"i{n % 500}"
        learned[name] += len(influence.bounded([click(item_id, 100.0)], ModelMemory()))
    assert 8000 == learned["others"]
    assert learned["flood"] / (learned["flood"] + 8000) == pytest.approx(0.2, abs=1 / 64)
    assert 1 == len(influence.bounded([click("flood", 4000.0)], ModelMemory()))  # the next hour


def probability_after_a_flood(cap: int) -> tuple[float, float]:
    """Probability that another user clicks an item, before and after one user clicked it 1,000 times."""
    stream = Driver(settings=Settings(**SMALL, attribution={"max_clicks_per_day": cap}), batch_size=500)

    def see(user: str, at: float, *, clicks: bool) -> None:
        products = [{"product_id": "a", "position": 1}]
        stream.pipe(event("Product List Viewed", user=user, at=at, list_id="home", products=products))
        if clicks:
            stream.pipe(event("Product Clicked", user=user, at=at + 0.4, product_id="a"))

    def probability() -> float:
        stream.flush()
        stream.advance(1800)
        fields = {"item": "a", "category": "?", "position": "1", "list": "home", "views": "0"}
        return stream.models.clicks.predict_proba_one(fields | {"buyer": "no", "seen": "no", "user": "new"})

    for n in range(1000):
        see(f"u{n}", 20 * n, clicks=n % 10 == 0)
    before = probability()
    for n in range(1000):
        see("flood", 30_000 + 20 * n, clicks=True)
    return before, probability()


def test_a_flood_by_one_user_moves_a_probability_by_little() -> None:
    """After 1,000 outcomes of others a flood of 1,000 moves it by less than .12; uncapped by over .2."""
    before, after = probability_after_a_flood(10)
    assert 0.03 < before < 0.15
    assert after - before < 0.12
    before, after = probability_after_a_flood(100_000)
    assert after - before > 0.2
