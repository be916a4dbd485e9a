"""Feeds: in order, never ahead of their end, and the same however often they pause."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import orjson
import pytest

from schemas.codec import parse_time
from stream.demo.feeds import Feed, FileFeed, ShopFeed

END = 1_767_225_600.0


def always() -> bool:
    """Say that nothing stops the feed."""
    return True


def every_third() -> Callable[[], bool]:
    """Build a brake that says no at each third question."""
    questions = count(1)
    return lambda: next(questions) % 3 != 0


def shop() -> ShopFeed:
    """Open a shop with about two thousand events in an hour."""
    return ShopFeed(5, shop_s=3600.0, n_events=2000.0, end=END)


def drain(feed: Feed, go_on: Callable[[], bool]) -> list[bytes]:
    """Take chapter after chapter until the feed has ended."""
    records: list[bytes] = []
    for _ in range(10_000):
        records += feed.chapter(go_on)
        if feed.done >= 1.0:
            return records
    raise AssertionError("the feed did not end")


def test_a_shops_events_end_at_its_end() -> None:
    """Sound events lie between start and end, and about as many come as were asked for, less reactions."""
    feed = shop()
    records = drain(feed, always)
    times = []
    for record in records:
        try:
            times.append(parse_time(orjson.loads(record)["timestamp"]))
        except (ValueError, KeyError, TypeError):
            continue  # hostile on purpose
    sound = [time for time in times if END - 3600.0 <= time <= END]
    assert len(sound) > 0.95 * len(records)
    assert len(records) == feed.sent
    assert 1000 < len(records) < 2000


@pytest.mark.parametrize("make", [shop, lambda: FileFeed(iter([b"%d" % n for n in range(500)]), 400)])
def test_pauses_change_nothing(make: Callable[[], Feed]) -> None:
    """The records are the same with and without pauses."""
    assert drain(make(), always) == drain(make(), every_third())


def test_a_file_ends_with_its_last_line_or_with_its_share() -> None:
    """Fewer lines than asked for, or more: the feed ends, and says how many it gave."""
    short, long = FileFeed(iter([b"a", b"b"]), 10), FileFeed(iter([b"a"] * 10), 4)
    assert [b"a", b"b"] == drain(short, always)
    assert [b"a"] * 4 == drain(long, always)
    assert (2, 4) == (short.sent, long.sent)


def test_an_offer_reaches_the_shoppers() -> None:
    """What is published comes back as events that name the decision."""
    feed = shop()
    user = feed.shop.user_ids[0]
    feed.react({"kind": "offer", "user_id": user, "action": "free-gift", "decision_id": "d-1"})
    assert any(b'"d-1"' in record for record in drain(feed, always))
