"""When a slate goes out, and what is in it, through the driver."""

from __future__ import annotations

import pytest

from schemas.catalogue import Item
from schemas.codec import rfc3339
from stream.settings import Settings
from stream.testing import EPOCH, Driver, event
from tests.core.shop_events import SMALL, viewed

DAY = 86_400.0


def test_a_user_who_refuses_personalisation_gets_what_everybody_gets() -> None:
    """Without history the slate is that of an unknown user, less what this one has seen."""
    stream = Driver(settings=Settings(**SMALL, recommend={"min_interval_s": 1e6}))
    for n in range(40):
        stream.pipe(viewed(f"v{n}", n, "x"), viewed(f"v{n}", n + 0.5, f"y{n % 4}"))
    refuses = {"context": {"consent": {"categoryPreferences": {"personalise": False}}}}
    stream.pipe(viewed("u1", 100, "x", **refuses))
    stream.flush()
    slate = stream.take("recommendations")[-1]

    assert "u1" == slate.user_id
    assert {"popularity", "freshness"} >= {item.source for item in slate.items}


def shop() -> Driver:
    """Forty users who each looked at bread and then at butter."""
    stream = Driver(settings=Settings(**SMALL, recommend={"min_interval_s": 60.0}))
    for n in range(40):
        stream.pipe(viewed(f"v{n}", 10.0 * n, "bread"), viewed(f"v{n}", 10.0 * n + 5, "butter"))
    for n in range(10):
        stream.pipe(viewed(f"w{n}", 400.0 + n, f"other{n}"))
    stream.take("recommendations")
    stream.take("decisions")
    return stream


def test_who_looks_at_bread_is_shown_butter_and_told_why() -> None:
    """The slate's best item follows the history, and its reason names the history item."""
    stream = shop()
    stream.pipe(viewed("u1", 500, "bread"))
    [slate] = stream.take("recommendations")

    assert ("u1", "for_you", "butter") == (slate.user_id, slate.slot, slate.items[0].item_id)
    assert "follows_history:bread" in slate.items[0].reasons
    assert rfc3339(EPOCH + 500 + DAY) == slate.valid_until


def test_hidden_and_sold_out_items_are_filtered_on_current_state() -> None:
    """The catalogue at emission decides, not the one at learning."""
    stream = shop()
    stream.reference.items["butter"] = Item(item_id="butter", version=1, stock=0)
    stream.reference.items["other3"] = Item(item_id="other3", version=1, hidden=True)
    stream.pipe(viewed("u1", 500, "bread"))
    [slate] = stream.take("recommendations")

    assert set() == {"butter", "other3", "bread"} & {item.item_id for item in slate.items}
    assert len(slate.items) > 3


@pytest.mark.parametrize("before", [False, True])
def test_a_view_answers_the_newest_slate_that_showed_the_item(before: bool) -> None:
    """Whole ids count, not parts of them; slates of rows written before keep their items in a list."""
    stream = shop()
    stream.pipe(viewed("u1", 500, "bread"))
    [slate] = stream.take("recommendations")
    waiting = stream.engine.state.memory("u1").open
    if before:
        waiting[slate.decision_id].action = "for_you"
        waiting[slate.decision_id].items = [item.item_id for item in slate.items]
    for at, (item_id, still_open) in enumerate([("utte", True), ("for_you", True), ("butter", False)]):
        stream.pipe(viewed("u1", 510.0 + at, item_id))
        stream.flush()
        assert still_open == (slate.decision_id in stream.engine.state.memory("u1").open)


def test_what_was_bought_is_not_recommended() -> None:
    """Neither bought nor already seen items come back."""
    stream = shop()
    products = [{"product_id": "butter"}]
    stream.pipe(event("Order Completed", user="u1", at=490, products=products), viewed("u1", 600, "bread"))
    slates = stream.take("recommendations")

    assert ["u1", "u1"] == [slate.user_id for slate in slates]
    assert "butter" not in {item.item_id for slate in slates for item in slate.items}


def test_slates_keep_their_distance_unless_asked_for() -> None:
    """Within min_interval_s there is no second slate; a request gets one at once, in its own slot."""
    stream = shop()
    stream.pipe(viewed("u1", 500, "bread"), viewed("u1", 530, "other1"), viewed("u1", 561, "other2"))
    stream.pipe(event("Recommendations Requested", user="u1", at=562, slot="basket"))
    slates = stream.take("recommendations")

    times_and_slots = [(slate.produced_at, slate.slot) for slate in slates]
    assert [
        (rfc3339(EPOCH + 500), "for_you"),
        (rfc3339(EPOCH + 561), "for_you"),
        (rfc3339(EPOCH + 562), "basket"),
    ] == times_and_slots


@pytest.mark.parametrize("memory", [b"", b"garbage", b"\x01" * 300])
def test_a_damaged_model_memory_is_not_fatal(memory: bytes) -> None:
    """A user's model memory of another format counts as none."""
    stream = shop()
    stream.pipe(viewed("u1", 500, "bread"))
    stream.flush()
    stream.engine.state.memory("u1").factors = memory
    stream.pipe(viewed("u1", 600, "other1"))

    assert [1, 1] == [1 for slate in stream.take("recommendations") if slate.user_id == "u1"]


def test_a_visit_that_begins_with_a_request_is_shown_what_visits_begin_with() -> None:
    """Users come for tea and go on with others; who is back after a day is asked as rankers have learned.

    A request shows no interest in an item: it does not end the silence before the view that follows.
    """
    stream = Driver(settings=Settings(**SMALL, recommend={"min_interval_s": 1e6}))
    seen = [viewed("u1", 0.0, "tea0")]
    for day in range(1, 6):
        for n in range(12):
            start = day * DAY + 1000.0 * n
            seen.append(event("Recommendations Requested", user=f"v{n}", at=start, slot="home"))
            seen.append(viewed(f"v{n}", start + 10, f"tea{day}"))
            seen += [viewed(f"v{n}", start + 20 + k, f"cake{(n + k) % 9}-{day}") for k in range(9)]
    stream.pipe(*seen)
    stream.flush()
    stream.take("recommendations")
    stream.pipe(event("Recommendations Requested", user="u1", at=6 * DAY, slot="for_you"))
    [back] = stream.take("recommendations")
    stream.pipe(viewed("u1", 6 * DAY + 30, "cake1-4"))
    stream.pipe(event("Recommendations Requested", user="u1", at=6 * DAY + 40, slot="for_you"))
    later = stream.take("recommendations")[-1]

    assert 4 <= sum(item.item_id.startswith("tea") for item in back.items[:5])
    assert "popular_first" in back.items[0].reasons
    assert all("popular_first" not in item.reasons for item in later.items)
    assert 2 > sum(item.item_id.startswith("tea") for item in later.items[:5])
