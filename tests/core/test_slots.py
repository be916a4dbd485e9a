"""Slots: what a request by each name is answered with, and that knobs reorder only when they are on."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.catalogue import Item
from schemas.outputs import Recommendation
from stream.core.slots import Slot
from stream.settings import Settings
from stream.testing import Driver, event

DAY = 86_400.0


def driver(*items: Item, **recommend: float) -> Driver:
    """A stream whose slates come on request only."""
    knobs = {"min_interval_s": 1e9} | recommend
    return Driver(settings=Settings(max_items=512, click_slots=2**10, recommend=knobs), items=items)


def asked(stream: Driver, slot: str, at: float, user: str = "u1", **properties: Any) -> Recommendation | None:
    """The answer to a request, None when there is nothing to list."""
    stream.take("recommendations")
    stream.pipe(event("Recommendations Requested", user=user, at=at, slot=slot, **properties))
    answers = stream.take("recommendations")
    return answers[0] if answers else None


def ids(answer: Recommendation | None) -> list[str]:
    """Items of an answer, in order."""
    return [] if answer is None else [item.item_id for item in answer.items]


def ordered(stream: Driver, user: str, at: float, *item_ids: str) -> None:
    """An order of these items."""
    products = [{"product_id": item_id} for item_id in item_ids]
    stream.pipe(event("Order Completed", user=user, at=at, products=products))


def shop(stream: Driver) -> Driver:
    """Forty users: pasta with sauce, beer with chips, wine alone; u1 has bought pasta and viewed beer."""
    for n in range(40):
        ordered(stream, f"s{n}", 60.0 * n, *(["pasta", "sauce"] if n % 2 else ["beer", "chips"]))
        ordered(stream, f"w{n}", 60.0 * n + 1, "wine")
    ordered(stream, "u1", 3000.0, "pasta")
    stream.pipe(event("Product Viewed", user="u1", at=3060.0, product_id="wine"))
    stream.pipe(event("Product Viewed", user="u1", at=3120.0, product_id="beer"))
    return stream


def test_bought_together_lists_what_was_in_one_order_with_the_page() -> None:
    """With the page's item, else with the last one met; never an item alone in its orders."""
    stream = shop(driver())

    assert ["sauce"] == ids(asked(stream, "bought_together", 3200, "u2", product_id="pasta"))
    answer = asked(stream, "bought_together", 3300)
    assert ["chips"] == ids(answer)
    assert answer is not None
    assert ("orders", ["bought_together:beer"]) == (answer.items[0].source, answer.items[0].reasons)


def test_recently_viewed_is_the_latest_first_without_what_was_bought_since() -> None:
    """And without the page's own item."""
    stream = shop(driver())

    assert ["beer", "wine"] == ids(asked(stream, "recently_viewed", 3200))
    assert ["wine"] == ids(asked(stream, "recently-viewed", 3300, product_id="beer"))
    ordered(stream, "u1", 3400.0, "wine")
    assert ["beer"] == ids(asked(stream, "recently_viewed", 3500))


def test_buy_again_lists_the_most_often_bought_first() -> None:
    """Of items bought equally often the one bought last; nothing for somebody who never bought."""
    stream = driver()
    for at, items in enumerate([["milk"], ["bread", "milk"], ["oil"], ["bread", "milk"], ["salt"]]):
        ordered(stream, "u1", 100.0 * at, *items)

    assert ["milk", "bread", "salt", "oil"] == ids(asked(stream, "buy_again", 1000))
    assert [] == ids(asked(stream, "buy_again", 1000, "u2"))


def test_trending_lists_what_rises_before_what_is_always_popular() -> None:
    """Thirty days of a steady favourite, and one morning of a newcomer with fewer events."""
    stream = driver()
    for hour in range(24 * 30):
        stream.pipe(event("Product Viewed", user=f"a{hour}", at=3600.0 * hour, product_id="evergreen"))
    for n in range(5):
        at = 30 * DAY - 600 + 60 * n
        stream.pipe(event("Product Viewed", user=f"b{n}", at=at, product_id="newcomer"))

    answer = asked(stream, "trending", 30 * DAY)
    assert ["newcomer", "evergreen"] == ids(answer)
    assert answer is not None
    assert ["trending"] == answer.items[0].reasons


def test_others_you_may_like_follows_the_page_and_not_the_past() -> None:
    """A user whose history says pasta asks from the page of beer."""
    stream = driver()
    for n in range(60):
        pair = ("pasta", "sauce") if n % 2 else ("beer", "chips")
        for k, item_id in enumerate(pair):
            stream.pipe(event("Product Viewed", user=f"s{n}", at=60.0 * n + k, product_id=item_id))
    stream.pipe(event("Product Viewed", user="u1", at=4000, product_id="pasta"))

    assert "sauce" == ids(asked(stream, "for_you", 4100))[0]
    answer = asked(stream, "others_you_may_like", 4200, product_id="beer")
    assert "chips" == ids(answer)[0]
    assert "beer" not in ids(answer)


@pytest.mark.parametrize("slot", list(Slot))
def test_without_leave_to_personalise_no_list_speaks_of_the_past(slot: Slot) -> None:
    """Lists of the own past are empty; the others are those of somebody unknown."""
    stream = shop(driver())
    stream.pipe(event("Consent Changed", user="u1", at=3150, purposes={"personalise": False}))
    empty = stream.counts["recommendation", "empty"]
    answer = asked(stream, slot.value, 3200)

    assert not {"pasta"} & set(ids(answer))
    if slot not in {Slot.TRENDING, Slot.POPULAR}:  # everybody's, whoever asks
        assert not {"beer", "wine"} & set(ids(answer))
    if slot in {Slot.BUY_AGAIN, Slot.RECENTLY_VIEWED, Slot.BOUGHT_TOGETHER}:
        assert answer is None
        assert 1 == stream.counts["recommendation", "empty"] - empty


def test_trending_categories_lists_one_item_of_each_that_rises() -> None:
    """Shoes rise by two items, neither as fast as a book; bread is looked at always; boots are sold out."""
    items = [
        Item(item_id="boots", version=1, category="shoes", stock=0),
        Item(item_id="clogs", version=1, category="shoes"),
        Item(item_id="novel", version=1, category="books"),
        Item(item_id="bread", version=1, category="food"),
    ]
    stream = driver(*items)
    views = [("bread", n * 3600.0) for n in range(24 * 30)]
    last = [*["boots"] * 8, *["clogs"] * 7, *["novel"] * 9, *["unlisted"] * 20]
    views += [(item_id, 30 * DAY - 600.0 + n) for n, item_id in enumerate(last)]
    stream.pipe(
        *(event("Product Viewed", user=f"v{n}", at=at, product_id=p) for n, (p, at) in enumerate(views))
    )
    answer = asked(stream, "trending_categories", 30 * DAY)

    assert ["clogs", "novel", "bread"] == ids(answer)
    assert answer is not None
    assert ["trending_category:shoes"] == answer.items[0].reasons


@pytest.mark.parametrize("slot", list(Slot))
def test_no_slot_shows_what_is_hidden_or_sold_out(slot: Slot) -> None:
    """Whatever the list is made of, the catalogue of this moment decides."""
    names = ["beer", "wine", "pasta", "sauce", "chips"]
    stream = driver(*(Item(item_id=name, version=1, stock=0) for name in names))
    shop(stream)

    assert [] == ids(asked(stream, slot.value, 3200, product_id="pasta"))


def test_knobs_at_zero_change_nothing_and_diversity_mixes_categories() -> None:
    """Ten equally popular shirts before two hats: with the knob on, a hat moves up behind the first shirt."""
    items = [Item(item_id=f"s{n}", version=1, category="shirts") for n in range(10)]
    items += [Item(item_id=f"h{n}", version=1, category="hats") for n in range(2)]
    plain, still, mixed = driver(*items), driver(*items, diversity=0.0), driver(*items, diversity=5.0)
    answers = []
    for stream in (plain, still, mixed):
        for n in range(60):
            item_id = items[n % 10].item_id if n % 6 else items[10 + n % 2].item_id
            stream.pipe(event("Product Viewed", user=f"v{n}", at=60.0 * n, product_id=item_id))
        answers.append(asked(stream, "for_you", 4000))

    assert answers[0] is not None
    assert answers[0] == answers[1]
    assert set(ids(answers[2])) <= {item.item_id for item in items}
    assert {"s", "h"} == {item_id[0] for item_id in ids(answers[2])[:2]}
    assert 1 == len({item_id[0] for item_id in ids(answers[0])[:3]}), "without the knob one category leads"


def test_an_item_that_was_listed_in_vain_gives_way() -> None:
    """Each slate that was not answered costs its items; a slate's worth of others comes up."""
    results = []
    for discount in (0.0, 10.0):
        stream = driver(impression_discount=discount, n_items=3)
        for n in range(90):
            stream.pipe(event("Product Viewed", user=f"v{n}", at=60.0 * n, product_id=f"p{n % 9}"))
        results.append([ids(asked(stream, "for_you", 6000.0 + n)) for n in range(3)])

    assert results[0][0] == results[0][1] == results[0][2]
    assert 9 == len({item_id for slate in results[1] for item_id in slate})
    assert results[0][0] == results[1][0]


def test_what_was_listed_does_not_count_for_who_refuses_personalisation() -> None:
    """The discount is of an own past: without one every list is the same."""
    stream = driver(impression_discount=10.0, n_items=3)
    for n in range(90):
        stream.pipe(event("Product Viewed", user=f"v{n}", at=60.0 * n, product_id=f"p{n % 9}"))
    stream.pipe(event("Consent Changed", user="u1", at=5900, purposes={"personalise": False}))
    slates = [ids(asked(stream, "for_you", 6000.0 + n)) for n in range(3)]

    assert 3 == len(slates[0])
    assert slates[0] == slates[1] == slates[2]


def test_other_slots_leave_room_for_the_one_that_fills_itself() -> None:
    """Somebody who asked for twelve slots still gets at most one unasked list in the interval."""
    stream = driver(min_interval_s=1000.0)
    for n in range(9):
        stream.pipe(event("Product Viewed", user=f"v{n}", at=n, product_id=f"p{n}"))
    for n in range(12):
        asked(stream, f"place-{n}", 100.0 + n)
    for n in range(9):
        stream.pipe(event("Product Viewed", user="u1", at=200.0 + n, product_id=f"p{n}"))

    assert 1 == len(stream.take("recommendations"))


def test_novelty_prefers_what_few_have_seen() -> None:
    """With the knob high the order of popularity turns round."""
    slates = []
    for novelty in (0.0, 10.0):
        stream = driver(novelty=novelty)
        for n in range(100):
            item_id = "hit" if n % 4 else f"niche{n % 8}"
            stream.pipe(event("Product Viewed", user=f"v{n}", at=60.0 * n, product_id=item_id))
        slates.append(ids(asked(stream, "for_you", 7000)))

    assert "hit" == slates[0][0]
    assert "hit" == slates[1][-1]


def test_a_request_without_an_item_is_no_error_and_a_bad_item_is() -> None:
    """The page's item is optional; an id that no event may have is refused as everywhere."""
    stream = driver()
    stream.pipe(event("Recommendations Requested", user="u1", at=0, slot="for_you"))
    stream.pipe(event("Recommendations Requested", user="u1", at=1, slot="for_you", product_id="x" * 500))

    assert 1 == stream.counts["accepted",]
    assert 1 == stream.counts["rejected", "bad_id"]
