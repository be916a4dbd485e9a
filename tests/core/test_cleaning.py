"""Clean: hand-made sequences of times, rates and amounts."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.codec import Rejected
from schemas.events import Event, Product, Properties
from schemas.reasons import ALWAYS_APPLIED, EventKind, RejectCode
from stream.core.cleaning import Cleaner
from stream.core.config import CleaningConfig
from stream.core.rows import Header, Profile

DAY = 86_400.0
NOW = 1_000_000.0


def fact(
    time: float = NOW,
    user: str = "u1",
    kind: EventKind = EventKind.VIEW,
    message_id: str = "m",
    product: dict[str, Any] | None = None,
) -> Event:
    """An event of one product."""
    item = Product(product_id="p1", **(product or {}))
    return Event(message_id, user, True, time, "Product Viewed", kind, Properties(), (item,))


def verdict(event: Event, watermark: float = NOW, ingest_time: float = NOW) -> str:
    """The code of the rejection, "accepted", or "applied" where it may not teach."""
    result = Cleaner(CleaningConfig()).judge(event, Profile(), Header(watermark=watermark), ingest_time)
    if isinstance(result, Rejected):
        return result.code.value
    return "accepted" if result else "applied"


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (NOW - DAY, "accepted"),
        (NOW - DAY - 1, "late"),
        (NOW + 300, "accepted"),
        (NOW + 301, "future"),
        (4_070_908_800.0, "future"),
        (15.0, "late"),
    ],
)
def test_bounds_of_event_time(time: float, expected: str) -> None:
    """24 h behind the watermark and 5 min ahead of ingest are the last that pass."""
    assert expected == verdict(fact(time))


@pytest.mark.parametrize("kind", sorted(ALWAYS_APPLIED))
def test_conversions_and_consent_are_never_dropped(kind: EventKind) -> None:
    """Late, early or odd, they are applied; they only do not teach."""
    odd = (
        fact(NOW - 9 * DAY, kind=kind),
        fact(NOW + DAY, kind=kind),
        fact(kind=kind, product={"price": -5.0}),
    )

    assert ["applied"] * 3 == [verdict(event) for event in odd]


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        ({"price": 0.0}, "accepted"),
        ({"price": -0.01}, "outlier"),
        ({"price": 1e7}, "accepted"),
        ({"price": 2e7}, "outlier"),
        ({"quantity": 0.0}, "outlier"),
        ({"quantity": 1e5}, "accepted"),
        ({"quantity": 80_995_000.0}, "outlier"),
    ],
)
def test_bounds_of_price_and_quantity(product: dict[str, float], expected: str) -> None:
    """Zero is a price, not a quantity."""
    assert expected == verdict(fact(product=product))


def test_nothing_may_be_left_of_what_is_taken_out_of_a_cart() -> None:
    """Shops send the quantity that is left: a removal of the last one is a removal."""
    assert "accepted" == verdict(fact(kind=EventKind.CART_REMOVE, product={"quantity": 0.0}))
    assert "outlier" == verdict(fact(kind=EventKind.CART_REMOVE, product={"quantity": -1.0}))


@pytest.mark.parametrize(("ahead", "kept"), [(300, 300), (301, 0), (-DAY, -DAY)])
def test_what_is_applied_from_the_future_happened_when_it_came(ahead: float, kept: float) -> None:
    """A time that cannot be is not kept: it would be later than all that follows."""
    assert NOW + kept == Cleaner(CleaningConfig()).dated(fact(NOW + ahead), Header(), NOW).time


@pytest.mark.parametrize(("watermark", "time"), [(NOW - 90 * DAY, NOW - 90 * DAY), (float("-inf"), NOW)])
def test_of_a_file_it_happened_at_the_watermark(watermark: float, time: float) -> None:
    """When the file is read says nothing of when its events came."""
    header = Header(watermark=watermark)

    assert time == Cleaner(CleaningConfig()).dated(fact(NOW + DAY), header, NOW, float("-inf")).time


def test_a_duplicate_is_known_by_its_message_id() -> None:
    """The same messageId of the same user is a duplicate, whatever else changed."""
    cleaner, profile, header = Cleaner(CleaningConfig()), Profile(last_seen=NOW), Header()
    cleaner.remember(fact(message_id="m1"), profile)
    again = cleaner.judge(fact(NOW + 5, message_id="m1", kind=EventKind.ORDER), profile, header, NOW + 5)

    assert isinstance(again, Rejected)
    assert again.code is RejectCode.DUPLICATE


@pytest.mark.parametrize("kind", list(EventKind))
def test_what_counts_is_known_again_after_any_time(kind: EventKind) -> None:
    """Sent again after days of silence and many events: a duplicate or late, and never counted twice."""
    cleaner, profile = Cleaner(CleaningConfig(max_seen_ids=8)), Profile()
    event = fact(kind=kind, message_id="first")
    cleaner.remember(event, profile)
    profile.last_seen = NOW
    for n in range(40):
        cleaner.remember(fact(NOW + 3 * DAY + n, message_id=f"m{n}"), profile)
    again = cleaner.judge(event, profile, Header(watermark=NOW + 3 * DAY), NOW + 3 * DAY)
    harmless = {EventKind.CONSENT, EventKind.UNSUBSCRIBE, EventKind.ORDER_UPDATE}

    assert isinstance(again, Rejected) == (kind not in harmless)


def test_the_orders_that_are_known_again_are_bounded() -> None:
    """Of a thousand orders the last 32."""
    cleaner, profile = Cleaner(CleaningConfig()), Profile()
    for n in range(1000):
        cleaner.remember(fact(NOW + n, kind=EventKind.ORDER, message_id=f"m{n}"), profile)

    assert 32 == len(profile.order_ids)


def test_the_window_of_ids_is_bounded() -> None:
    """The newest 512 ids are known, the one before them is not."""
    cleaner, profile = Cleaner(CleaningConfig()), Profile(last_seen=NOW)
    for n in range(513):
        cleaner.remember(fact(NOW + n, message_id=f"m{n}"), profile)
    results = [cleaner.judge(fact(NOW, message_id=f"m{n}"), profile, Header(), NOW) for n in (0, 1, 512)]

    assert [False, True, True] == [isinstance(result, Rejected) for result in results]


def test_a_bot_is_stopped_within_its_minute() -> None:
    """300 events of one user in a minute pass, the next does not; the next minute starts anew."""
    cleaner, profile, header = Cleaner(CleaningConfig()), Profile(last_seen=NOW), Header()
    start = NOW - NOW % 60
    for n in range(300):
        event = fact(start + n / 10, message_id=f"m{n}")
        assert cleaner.judge(event, profile, header, NOW) is True
        cleaner.remember(event, profile)
    too_fast = cleaner.judge(fact(start + 40, message_id="x"), profile, header, NOW)
    later = cleaner.judge(fact(start + 61, message_id="y"), profile, header, NOW + 100)

    assert isinstance(too_fast, Rejected)
    assert (RejectCode.BOT_RATE, True) == (too_fast.code, later)


def advance(*events: Event, confirm: bool = True, ingest_time: float = 9e9) -> float:
    """The watermark after some events, from 0 on."""
    cleaner, header = Cleaner(CleaningConfig(confirm_jumps=confirm)), Header()
    for event in (fact(0.0), *events):
        cleaner.advance(event, header, ingest_time)
    return header.watermark


def test_the_watermark_is_the_highest_accepted_time() -> None:
    """It never goes back."""
    assert 500.0 == advance(fact(500.0), fact(100.0))


def test_the_watermark_never_leads_the_broker_by_more_than_five_minutes() -> None:
    """A producer's fast clock cannot drag everybody's time along."""
    assert 1300.0 == advance(fact(1250.0), fact(2000.0), confirm=False, ingest_time=1000.0)


def test_a_jump_in_replay_waits_for_a_second_user() -> None:
    """One user two days ahead is a stray; a second user there confirms it at the earlier time."""
    ahead = fact(2 * DAY, user="a")

    assert 0.0 == advance(ahead)
    assert 0.0 == advance(ahead, fact(2 * DAY + 5, user="a"))
    assert 2 * DAY + 9 == advance(ahead, fact(2 * DAY + 9, user="b"))
    assert 2 * DAY == advance(ahead, fact(2 * DAY - 5, user="a"), fact(2 * DAY, user="b"))


def test_what_a_recording_knows_needs_no_second_user() -> None:
    """What was not reached moves nothing, whoever else says so, nor as the first event."""
    cleaner, header = Cleaner(CleaningConfig(confirm_jumps=True)), Header()
    never = float("-inf")
    found = []
    for user, time, reached in (
        ("a", 9 * DAY, never),
        ("b", 9 * DAY, never),
        ("a", 0.0, 0.0),
        ("a", 2 * DAY, 2 * DAY),
        ("a", 4 * DAY, never),
        ("b", 4 * DAY, never),
        ("c", DAY, never),
    ):
        cleaner.advance(fact(time, user=user), header, 9e9, reached)
        found.append(header.watermark)

    assert [never, never, 0.0, 2 * DAY, 2 * DAY, 2 * DAY, 2 * DAY] == found


def test_a_far_stray_does_not_hide_a_nearer_jump() -> None:
    """A stray of 2098 first, then the real next day: the second user confirms the day, not the year."""
    stray = fact(4_000_000_000.0, user="a")

    assert 2 * DAY + 1 == advance(stray, fact(2 * DAY, user="b"), fact(2 * DAY + 1, user="c"))


def test_strays_among_ordinary_events_confirm_nothing() -> None:
    """Two users two days ahead, with an ordinary event between them: time goes on as before."""
    strays = fact(2 * DAY, user="a"), fact(2 * DAY, user="b")

    assert 60.0 == advance(strays[0], fact(60.0, user="c"), strays[1])
    assert 120.0 == advance(strays[0], fact(60.0, user="c"), strays[1], fact(120.0, user="d"))


def test_live_needs_no_confirmation() -> None:
    """Where the broker's clock bounds time, one user may jump."""
    assert 2 * DAY == advance(fact(2 * DAY, user="a"), confirm=False)
