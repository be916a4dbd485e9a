"""Segments: who is in them, when that changes, and that nobody is told twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from schemas.campaigns import Campaign, CampaignConsent
from schemas.codec import rfc3339
from schemas.conditions import Condition
from schemas.segments import Centre, Segment
from stream.campaign_files import read_campaigns, read_segments
from stream.core import lifecycle
from stream.core.records import Record
from stream.core.rows import Profile
from stream.core.segments import GRAIN_S, MAX_SEGMENTS
from stream.reading import BadFileError
from stream.runtime.statecodec import ROWS
from stream.settings import Settings
from stream.testing import EPOCH, Driver, event

DAY = 86_400.0
SMALL: dict[str, Any] = {"max_items": 256, "click_slots": 1024}
STAGES = [
    Segment(segment_id=name, version=1, when=Condition(fact="user.stage", is_=name))
    for name in lifecycle.STAGES
]
BUYERS = Segment(segment_id="buyers", version=2, when=Condition(fact="user.n_orders", at_least=2))
RECENT = Segment(segment_id="recent", version=1, when=Condition(fact="user.order_age_s", at_most=3 * DAY))
VIP = Segment(
    segment_id="vip",
    version=1,
    when=Condition(
        all=[Condition(fact="user.monetary", at_least=4), Condition(fact="user.recency", is_=5.0)]
    ),
)


def driver(*segments: Segment, batch_size: int = 1, **more: Any) -> Driver:
    """A partition with segments and no experiment."""
    settings = Settings(**SMALL, campaigns={"holdout_share": 0.0})
    return Driver(settings=settings, segments=segments, batch_size=batch_size, codec=ROWS, **more)


def view(at: float, user: str = "u1") -> bytes:
    """A user looked at a product."""
    return event("Product Viewed", user=user, at=at, product_id="p1")


def ordered(at: float, total: float = 10.0, user: str = "u1") -> bytes:
    """A user bought something."""
    return event("Order Completed", user=user, at=at, order_id=f"o{at}", total=total, currency="EUR")


def story(stream: Driver, user: str = "u1") -> list[tuple[str, bool, str]]:
    """Segment, whether a member, and when, in the order told."""
    changes = stream.take("segments")
    return [(c.segment, c.member, c.changed_at) for c in changes if c.user_id == user]


def at(seconds: float) -> str:
    """A time after the epoch of the tests, as it is told."""
    return rfc3339(EPOCH + seconds)


def test_a_life_is_told_stage_by_stage() -> None:
    """New, at risk after 30 days, lapsed after 90, won back by an event, active 30 days after that."""
    stream = driver(*STAGES)
    stream.pipe(view(0))
    stream.advance(100 * DAY)
    stream.pipe(view(101 * DAY), view(120 * DAY))
    stream.advance(20 * DAY)

    assert [
        ("new", True, at(0)),
        ("new", False, at(30 * DAY + GRAIN_S)),
        ("at_risk", True, at(30 * DAY + GRAIN_S)),
        ("at_risk", False, at(90 * DAY + GRAIN_S)),
        ("lapsed", True, at(90 * DAY + GRAIN_S)),
        ("lapsed", False, at(101 * DAY)),
        ("won_back", True, at(101 * DAY)),
        ("won_back", False, at(131 * DAY + GRAIN_S)),
        ("active", True, at(131 * DAY + GRAIN_S)),
    ] == story(stream)


def test_an_event_finds_what_no_timer_had_told() -> None:
    """Nothing else moves time: the next event of the user applies the thresholds before itself."""
    quiet, watched = driver(*STAGES), driver(*STAGES)
    quiet.pipe(view(0), view(100 * DAY))
    watched.pipe(view(0))
    watched.advance(99 * DAY)
    watched.pipe(view(100 * DAY))

    assert story(quiet) == story(watched)


def test_rules_follow_orders_and_time() -> None:
    """Two orders make a buyer; three days without an order end `recent`, one millisecond after."""
    stream = driver(BUYERS, RECENT)
    stream.pipe(ordered(0), ordered(DAY))
    stream.advance(10 * DAY)

    assert [
        ("recent", True, at(0)),
        ("buyers", True, at(DAY)),
        ("recent", False, at(4 * DAY + GRAIN_S)),
    ] == story(stream)


def test_what_is_told_names_value_cause_and_version() -> None:
    """Scores of RFM, net revenue, the event; a change that came with time names none."""
    stream = driver(RECENT)
    stream.pipe(ordered(0, 300.0), ordered(60, 30.0))
    stream.advance(10 * DAY)
    entered, left = stream.take("segments")

    assert ("1", "Order Completed") == (entered.segment_version, entered.cause.event)
    assert (5, 1, 4) == (entered.recency, entered.frequency, entered.monetary)
    assert ({"EUR": 330.0}, 2, None) == (left.lifetime_value, left.frequency, left.cause)


@pytest.mark.parametrize(
    ("orders", "revenue", "days", "scores"),
    [
        (0, {}, 0.0, (1, 1, 1)),
        (1, {"EUR": 49.0}, 29.0, (5, 1, 1)),
        (2, {"EUR": 50.0}, 30.0, (4, 2, 2)),
        (4, {"EUR": 1.0, "USD": 100.0}, 90.0, (3, 3, 3)),
        (5, {"JPY": 25_000.0}, 180.0, (2, 4, 4)),
        (10, {"EUR": 500.0}, 365.0, (1, 5, 5)),
    ],
)
def test_scores_by_hand(
    orders: int, revenue: dict[str, float], days: float, scores: tuple[int, int, int]
) -> None:
    """Each threshold on its lower edge; amounts of two currencies are not added."""
    profile = Profile(n_orders=orders, revenue=revenue)
    if orders:
        profile.last_order_at = 0.0
    now = days * DAY

    assert scores == (
        lifecycle.recency(profile, now),
        lifecycle.frequency(profile),
        lifecycle.monetary(profile),
    )


def test_mail_that_arrives_is_no_activity() -> None:
    """Delivered and opened mails do not keep a user from lapsing; a click does."""
    stream = driver(*STAGES)
    stream.pipe(view(0), event("Email Delivered", user="u1", at=80 * DAY), view(80 * DAY, "other"))
    stream.pipe(event("Email Opened", user="u1", at=85 * DAY))
    stream.advance(10 * DAY)

    assert ("lapsed", True, at(90 * DAY + GRAIN_S)) in story(stream)


def test_a_segment_that_is_gone_is_left() -> None:
    """Deleted, its users leave it at their next event, without a version."""
    stream = driver(BUYERS)
    stream.pipe(ordered(0), ordered(1))
    stream.flush()
    stream.reference.segments.drop("buyers")
    stream.pipe(view(2))

    assert [True, False] == [change.member for change in stream.take("segments")]
    assert {} == stream.engine.state.profile("u1").segments


def test_a_campaign_writes_on_entry() -> None:
    """Who becomes a buyer gets the campaign's message once; time alone can be the reason, too."""
    consent = CampaignConsent(when_unknown="allow")
    common: dict[str, Any] = {"version": 1, "kind": "segment_entry", "message_class": "marketing"}
    common |= {"consent": consent, "delay_s": 60.0}
    campaigns = [
        Campaign(campaign_id="thanks", segment="buyers", **common),
        Campaign(campaign_id="hello-again", segment="lapsed", **common),
    ]
    stream = driver(BUYERS, *STAGES, campaigns=campaigns)
    stream.pipe(ordered(0), ordered(10), ordered(20))
    stream.advance(100 * DAY)

    assert ["thanks", "hello-again"] == [trigger.campaign_id for trigger in stream.take("triggers")]


def test_a_user_who_is_forgotten_leaves_tombstones() -> None:
    """The keys of the memberships are known until the commit, so that they can be deleted on the topic."""
    stream = driver(BUYERS)
    stream.pipe(ordered(0), ordered(1))
    stream.flush()
    stream.engine.state.forget("u1")

    assert ["u1|buyers"] == list(stream.engine.state.left_behind)


def test_memberships_are_bounded() -> None:
    """Of a hundred segments the first 64 by id are in force."""
    many = [
        Segment(segment_id=f"s{n:03}", version=1, when=Condition(fact="user.n_events", at_least=1.0))
        for n in range(100)
    ]
    stream = driver(*many)
    stream.pipe(view(0))

    assert MAX_SEGMENTS == len(story(stream))


@limits(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 2), st.booleans()), min_size=1, max_size=25),
    st.integers(1, 30),
    st.integers(0, 25),
)
def test_batches_crashes_partitions_and_restarts_change_nothing(
    days: list[tuple[int, int, bool]], batch_size: int, crash: int
) -> None:
    """The same changes with the same ids, each once; a user alone in a partition has the same story."""
    lines = [
        (ordered if buys else view)(day * DAY + n, user=f"u{user}")
        for n, (day, user, buys) in enumerate(sorted(days))
    ]
    segments = [*STAGES, BUYERS, RECENT, VIP]
    plain, other = driver(*segments), driver(*segments, batch_size=batch_size)
    for n, line in enumerate(lines):
        if n == crash:
            other.crash()
            other.restart()
        plain.pipe(line)
        other.pipe(line)
    for stream in (plain, other):
        stream.advance(500 * DAY)
    changes = plain.take("segments")

    assert changes == other.take("segments")
    assert len(changes) == len({change.id for change in changes})
    assert plain.committed == other.committed
    alone = driver(*segments)
    alone.pipe(*(line for line in lines if b'"userId":"u1"' in line))
    alone.advance(700 * DAY)
    assert [c for c in changes if c.user_id == "u1"] == alone.take("segments")[
        : sum(c.user_id == "u1" for c in changes)
    ]


STYLES = [
    Segment(
        segment_id="buyers",
        version=1,
        nearest=Centre(clustering="style", at={"user.n_orders": 3.0, "user.n_views": 20.0}),
    ),
    Segment(segment_id="lookers", version=1, nearest=Centre(clustering="style", at={"user.n_views": 20.0})),
]


def test_a_user_is_in_the_nearest_of_the_clusters_and_in_no_other() -> None:
    """Views lead to one, orders to the other; each change is an exit and an entry of the same event."""
    stream = Driver(segments=STYLES)
    stream.pipe(*(event("Product Viewed", user="u1", at=60.0 * n, product_id="p") for n in range(20)))
    looked = [(change.segment, change.member) for change in stream.take("segments")]
    stream.pipe(*(event("Order Completed", user="u1", at=2000.0 + n, products=[]) for n in range(40)))
    bought = [(change.segment, change.member) for change in stream.take("segments")]
    [left, entered] = bought

    assert ("lookers", True) == looked[-1]
    assert {("lookers", False), ("buyers", True)} == {left, entered}


def test_files_hold_segments_beside_campaigns(tmp_path: Path) -> None:
    """Read from the same folder, told apart by their id; a mistake is said with its place."""
    path = tmp_path / "segments.yaml"
    path.write_text("- segment_id: buyers\n  version: 1\n  when: {fact: user.n_orders, at_least: 2}\n")
    assert (["buyers"], []) == (list(read_segments(tmp_path)), list(read_campaigns(tmp_path)))

    for wrong, says in (
        ("{fact: event.name, is: x}", "no fact of the user"),
        ("{fact: user.segments, contains: x}", "cannot be made of segments"),
        ("{fact: user.recensy, is: 5}", "did you mean 'user.recency'"),
    ):
        path.write_text(f"- segment_id: buyers\n  version: 1\n  when: {wrong}\n")
        with pytest.raises(BadFileError, match=r"segments\.yaml:3") as refusal:
            read_segments(path)
        assert says in str(refusal.value)


def test_the_example_is_valid() -> None:
    """Its segments are read, and the stages are those that there are."""
    segments = read_segments(Path(__file__).resolve().parents[2] / "examples" / "segments.yaml")

    assert set(lifecycle.STAGES) <= {
        str(segment.when.is_) for segment in segments.values() if segment.when is not None
    }


def test_the_published_form_is_what_is_read() -> None:
    """A segment survives its encoding."""
    assert msgspec.json.decode(msgspec.json.encode(VIP), type=Segment) == VIP


def inactive(name: str, days: float) -> Segment:
    """Who did nothing for so many days."""
    return Segment(segment_id=name, version=1, when=Condition(fact="user.active_age_s", at_least=days * DAY))


def test_a_segment_with_an_earlier_threshold_does_not_wait_for_the_later() -> None:
    """Quiet for 90 days is waited for already when quiet for 7 is defined: the next event waits for both."""
    stream = driver(inactive("quiet90", 90))
    stream.pipe(view(0))
    stream.flush()
    stream.reference.segments["quiet7"] = inactive("quiet7", 7)
    stream.pipe(view(3600))
    stream.advance(8 * DAY)

    assert ["quiet7"] == [change.segment for change in stream.take("segments")]


def test_a_threshold_that_an_odd_event_finds_is_told_of() -> None:
    """Half an hour without activity arms a campaign, also where the next event is an odd order."""
    found = []
    for price in (5.0, 1e9):
        entry = {"campaign_id": "c", "version": 1, "kind": "segment_entry", "message_class": "marketing"}
        rule = msgspec.convert(entry | {"segment": "quiet", "delay_s": 0}, Campaign)
        settings = Settings(**SMALL, campaigns={"holdout_share": 0.0}, consent={"when_unknown": "allow"})
        stream = Driver(settings=settings, segments=[inactive("quiet", 1 / 48)], campaigns=[rule])
        products = [{"product_id": "p1", "price": price}]
        stream.pipe(view(0), event("Order Completed", user="u1", at=1900, products=products))
        stream.advance(4000)
        found.append([trigger.send_at for trigger in stream.take("triggers")])

    assert [rfc3339(EPOCH + 1800 + GRAIN_S + 300)] == found[0] == found[1]


def test_who_is_forgotten_and_comes_back_in_one_batch_is_a_member() -> None:
    """The tombstone of the membership before does not come after the membership of now."""
    stream = driver(BUYERS, batch_size=1)
    stream.pipe(ordered(0), ordered(1))
    stream.flush()
    state = stream.engine.state
    state.forget("u1")
    assert {"u1|buyers"} == set(state.left_behind)
    outputs = stream.engine.process([Record(ordered(n), EPOCH + n, n) for n in (2, 3)])

    assert [True] == [change.member for change in outputs.segments]
    assert not state.left_behind


def test_who_is_erased_right_after_a_restart_leaves_no_membership() -> None:
    """No event has come since: what rows hold is not known yet, and must not be forgotten."""
    stream = driver(BUYERS)
    stream.pipe(ordered(0), ordered(1))
    stream.restart()
    stream.engine.obey(Record(b'{"command_id":"c","kind":"erase","user_id":"u1"}', EPOCH))

    assert {"u1|buyers"} == set(stream.engine.state.left_behind)
