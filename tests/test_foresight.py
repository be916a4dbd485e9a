"""Recordings without a broker's clock: which jumps of time are believed, and what comes due in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.campaigns import CampaignConsent
from stream.core.config import CleaningConfig
from stream.core.records import Record
from stream.core.reference import Reference
from stream.foresight import LOOK_AHEAD, with_foresight
from stream.recording import Recording, file_recording
from stream.replay import replay
from stream.settings import Settings
from stream.testing import EPOCH, cart_campaign, event

DAY = 86_400.0
NOW = EPOCH + 400 * DAY
BOUNDS = CleaningConfig()
SMALL: dict[str, Any] = {"max_items": 256, "click_slots": 1024, "campaigns": {"holdout_share": 0.0}}


def viewed(user: str, at: float) -> bytes:
    """A product is looked at."""
    return event("Product Viewed", user=user, at=at, product_id="p1")


def strays(*lines: bytes) -> list[int]:
    """Places of the records whose time is not surely reached."""
    records = [Record(line, NOW, n) for n, line in enumerate(lines)]
    told = list(with_foresight(records, BOUNDS))
    assert [r.value for r in records] == [r.value for r in told]
    return [record.offset for record in told if record.reached == float("-inf")]


def sent(tmp_path: Path, *lines: bytes, **rules: Any) -> list[tuple[str, str]]:
    """Users and times of the messages of a reminder an hour after the cart."""
    events = tmp_path / "e.jsonl"
    events.write_bytes(b"\n".join(lines) + b"\n")
    campaign = cart_campaign(consent=CampaignConsent(when_unknown="allow"), **rules)
    replay(
        Settings(**SMALL),
        file_recording(events, NOW),
        tmp_path / "out",
        Reference(campaigns={"cart": campaign}),
    )
    triggers = map(orjson.loads, (tmp_path / "out" / "triggers.jsonl").read_bytes().splitlines())
    return [(t["recipient"]["user_id"], t["send_at"][:16]) for t in triggers]


def carted(user: str, at: float) -> bytes:
    """A product comes into the cart."""
    return event("Product Added", user=user, at=at, product_id="p1")


def ordered(user: str, at: float) -> bytes:
    """It is bought."""
    return event("Order Completed", user=user, at=at, order_id=f"o{user}", products=[{"product_id": "p1"}])


def test_a_day_off_is_not_jumped_over_before_what_came_due_in_it(tmp_path: Path) -> None:
    """One user, who buys five days later: the reminder went out live, so it does on replay."""
    story = carted("u1", 0), ordered("u1", 5 * DAY), viewed("u1", 15 * DAY)

    assert [("u1", "2026-01-01T01:05")] == sent(tmp_path, *story)
    assert [("u1", "2026-01-01T01:05")] == sent(tmp_path, *story[:2])


def test_a_faulty_order_moves_no_time_and_spoils_no_jump(tmp_path: Path) -> None:
    """It ends its buyer's reminder; the events that stand with it behind a closed weekend are believed."""
    faulty = ordered("b", 3 * DAY).replace(b'"products":', b'"total":"?","products":')
    lines = [carted("a", 0), carted("b", 0), faulty, viewed("c", 3 * DAY), viewed("d", 3 * DAY + 60)]

    assert [1, 2] == strays(*lines)
    assert [("a", "2026-01-01T01:05")] == sent(tmp_path, *lines)


def test_when_a_file_is_read_changes_nothing(tmp_path: Path) -> None:
    """Nor for what has no time that can be read: it happened where it stands."""
    lines = [carted("a", 0), ordered("a", 60).replace(b"2026-01-01T00:01:00.000Z", b"noon"), carted("a", 120)]
    (tmp_path / "e.jsonl").write_bytes(b"\n".join(lines))
    campaign = cart_campaign(consent=CampaignConsent(when_unknown="allow"))
    outputs = []
    for now in (NOW, NOW + 9 * DAY):
        recording = file_recording(tmp_path / "e.jsonl", now)
        report = replay(
            Settings(**SMALL), recording, tmp_path / "out", Reference(campaigns={"cart": campaign})
        )
        assert {"bad_time": 1} == report["events"]["faulty"]
        files = sorted((tmp_path / "out").glob("*.jsonl"))
        outputs.append(([one.read_bytes() for one in files], report["campaigns"]["cart"]["armed"]))

    assert outputs[0] == outputs[1]
    assert 2 == outputs[0][1]


def test_a_closed_weekend_is_believed_with_its_first_event(tmp_path: Path) -> None:
    """The first to come back is who left a cart; the others follow."""
    story = carted("u1", 0), viewed("u2", 60), ordered("u1", 3 * DAY), viewed("u2", 3 * DAY + 60)

    assert [("u1", "2026-01-01T01:05")] == sent(tmp_path, *story)


@pytest.mark.parametrize("gap_s", [2 * 3600, 20 * 3600, 30 * 3600, 20 * DAY])
def test_a_quiet_time_is_no_backlog(tmp_path: Path, gap_s: float) -> None:
    """A message that is worth sending for ten minutes goes out although the next event comes hours later."""
    story = carted("u1", 0), viewed("u2", gap_s)

    assert [("u1", "2026-01-01T01:05")] == sent(tmp_path, *story, expires_after_s=600.0)


def test_a_clock_that_is_ahead_moves_nothing(tmp_path: Path) -> None:
    """Whose clock is ahead for many events, and two such users side by side, are not believed."""
    ahead = [viewed("a", 9 * DAY + n) for n in range(50)]
    story = [carted("u1", 0), *ahead, viewed("b", 9 * DAY), *(viewed(f"u{n}", 60 + n) for n in range(10))]

    assert list(range(1, 52)) == strays(*story)
    assert [] == sent(tmp_path, *story, ordered("u1", 600), viewed("u2", DAY), viewed("u3", DAY + 1))


@pytest.mark.parametrize(
    ("after", "believed"),
    [
        ([], True),
        ([viewed("u1", 60)], False),
        ([viewed("u1", 3 * DAY)], True),
        ([viewed("u1", 3 * DAY), viewed("u2", 60)], False),
        ([viewed("u2", 60), viewed("u3", 3 * DAY)], True),
        ([viewed("u2", 60), viewed("u3", 61), viewed("u4", 3 * DAY)], False),
        ([viewed("u2", 2.5 * DAY)], True),
        ([b"no event", viewed("u2", 500 * DAY)], True),
        ([*(viewed("u1", 3 * DAY + n) for n in range(LOOK_AHEAD)), viewed("u2", 60)], True),
        ([*(viewed("u1", 3 * DAY + n) for n in range(LOOK_AHEAD - 1)), viewed("u2", 60)], False),
    ],
)
def test_others_are_asked_first(after: list[bytes], *, believed: bool) -> None:
    """Half of the next ten events of others; where there are none, what the user does next; then nothing."""
    assert believed == (1 not in strays(viewed("u1", 0), viewed("u1", 3 * DAY), *after))


def test_what_nobody_can_have_done_yet_is_not_reached() -> None:
    """An event from after now is rejected, and moves nothing; what clocks differ by is no such time."""
    assert [1] == strays(viewed("u1", 0), viewed("u1", 500 * DAY))
    assert [1] == strays(viewed("u1", 0), viewed("u1", 400 * DAY + 301))
    assert [] == strays(viewed("u1", 0), viewed("u1", 400 * DAY + 299))


@pytest.mark.parametrize("places", [(0,), (0, 1), (3,), (3, 4), (3, 9), (0, 5, 10, 15)])
def test_clocks_that_are_ahead_make_nobody_late(tmp_path: Path, places: tuple[int, ...]) -> None:
    """Of one user, of two side by side, and of the file's first event: all are accepted, one is reminded."""
    lines = [carted("u1", 0), *(viewed(f"v{n}", 60.0 * n) for n in range(1, 70)), ordered("u2", 4200)]
    for n, place in enumerate(places):
        lines.insert(place, viewed(f"ahead{n}", 9 * DAY + n))
    events = tmp_path / "e.jsonl"
    events.write_bytes(b"\n".join(lines))
    campaign = cart_campaign(consent=CampaignConsent(when_unknown="allow"), delay_s=3000.0)
    reference = Reference(campaigns={"cart": campaign})
    told = replay(Settings(**SMALL), file_recording(events, NOW), tmp_path / "out", reference)

    assert {} == told["events"]["rejected"]
    assert 1 == told["campaigns"]["cart"]["sent"]
    assert list(places) == strays(*lines)


@pytest.mark.parametrize("between", [b"no event", viewed("u2", 30.0), viewed("u1", 500 * DAY)])
def test_what_does_not_move_time_does_not_end_a_quiet_time(tmp_path: Path, between: bytes) -> None:
    """A line that cannot be read, one that is late and one from the future stand in the gap."""
    story = carted("u1", 0), viewed("u2", 60.0), between, viewed("u3", 3 * 3600)

    assert [("u1", "2026-01-01T01:05")] == sent(tmp_path, *story, expires_after_s=600.0)


def test_of_a_topic_nobody_knows_how_long_it_was_quiet(tmp_path: Path) -> None:
    """A worker that was behind reads the same records: what would have expired for it has expired."""
    lines = carted("u1", 0), viewed("u2", 5 * 3600)
    records = [(0, Record(line, EPOCH + n * 5 * 3600, n)) for n, line in enumerate(lines)]
    campaign = cart_campaign(consent=CampaignConsent(when_unknown="allow"), expires_after_s=600.0)
    topic = Recording("by hand", 1, lambda: iter(records), broker_clock=True)
    told = replay(Settings(**SMALL), topic, tmp_path, Reference(campaigns={"cart": campaign}))

    assert {"expired": 1} == told["campaigns"]["cart"]["suppressed"]


def test_many_jumps_keep_no_more_than_one() -> None:
    """Every record is a day and more after the one before it."""
    taken = 0

    def records() -> Iterator[Record]:
        nonlocal taken
        for n in range(4000):
            taken += 1
            yield Record(viewed("u1", n * 1.1 * DAY), EPOCH + 9e9, n)

    told = with_foresight(records(), BOUNDS)
    assert max([taken - n for n, _ in enumerate(told)]) <= 1 + LOOK_AHEAD


def test_nothing_is_read_far_ahead() -> None:
    """The first record, and one that jumps, waits for a thousand of them, no more."""
    taken = 0

    def records() -> Iterator[Record]:
        nonlocal taken
        for n in range(5000):
            taken += 1
            yield Record(viewed("u1", n if n < 3 else 3 * DAY), NOW, n)

    told = with_foresight(records(), BOUNDS)
    counts = [(next(told), taken)[1] for _ in range(5)]

    assert [1 + LOOK_AHEAD] * 3 == counts[:3]
    assert [4 + LOOK_AHEAD, 4 + LOOK_AHEAD] == counts[3:]
