"""Promises of a partition's state: cold rows change nothing, age and number are bounded, refusals stay."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.campaigns import CampaignConsent
from schemas.catalogue import Offer
from schemas.codec import encode
from stream.core.rows import Glance, ModelMemory, Profile, glance_at
from stream.core.state import PartitionState
from stream.runtime.statecodec import ROWS
from stream.settings import Settings
from stream.testing import EPOCH, Driver, cart_campaign, event

HOUR, DAY = 3600.0, 86_400.0
CAMPAIGNS = [
    cart_campaign(delay_s=600.0, cooldown_s=900.0, consent=CampaignConsent(when_unknown="allow")),
    cart_campaign("later", delay_s=30_000.0, consent=CampaignConsent(when_unknown="allow")),
]
OFFERS = [Offer(offer_id="o1", version=1, cost=1.0, value=10.0, currency="EUR")]
NAMES = [
    *("Product Viewed", "Product Viewed", "Product Added", "Product Added", "Order Completed"),
    *("Product List Viewed", "Product Clicked", "Cart Viewed", "Consent Changed", "Unsubscribed"),
]


class Recorder:
    """The changelog's codec, with all that it was asked to write."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.n_decoded = 0

    def encode(self, profile: Profile, memory: ModelMemory) -> bytes:
        """Note the bytes."""
        self.written.append(ROWS.encode(profile, memory))
        return self.written[-1]

    def decode(self, value: bytes) -> tuple[Profile, ModelMemory]:
        """Count the row."""
        self.n_decoded += 1
        return ROWS.decode(value)

    def glance(self, value: bytes) -> Glance:
        """Look at the prefix."""
        return ROWS.glance(value)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Some hours of a shop with eight users, mildly out of order; orders may come days late."""
    lines, at = [], 3 * DAY
    for n in range(draw(st.integers(1, 40))):
        at += draw(st.sampled_from([1.0, 30.0, 400.0, 1500.0, 4000.0]))
        name, product = draw(st.sampled_from(NAMES)), draw(st.sampled_from(["p1", "p2", "p3"]))
        late = 2 * DAY if name == "Order Completed" else 100.0
        properties: dict[str, Any] = {"purposes": {"contact": draw(st.booleans())}}
        lines.append(
            event(
                name,
                user=f"u{draw(st.integers(0, 7))}",
                at=at - draw(st.sampled_from([0.0, 0.0, 0.0, late])),
                message_id=f"m{n}",
                product_id=product,
                products=[{"product_id": product, "price": 3, "quantity": 2}],
                **(properties if name == "Consent Changed" else {}),
            )
        )
    return lines


def shop(recorder: Recorder, *, batch_size: int, hot_users: int, **bounds: Any) -> Driver:
    """A small shop with bounds that bite."""
    config = Settings(
        max_items=256, click_slots=2**10, recommend={"min_interval_s": 30.0}, hot_users=hot_users, **bounds
    )
    return Driver(settings=config, campaigns=CAMPAIGNS, offers=OFFERS, batch_size=batch_size, codec=recorder)


def everything(stream: Driver) -> list[object]:
    """All outputs, and all that is committed, in the order in which users would be forgotten."""
    kinds = ("recommendations", "triggers", "decisions")
    outputs = [encode(output) for kind in kinds for output in stream.take(kind)]  # type: ignore[arg-type]
    state = stream.engine.state
    return [
        outputs,
        list(state),
        stream.committed,
        msgspec.structs.asdict(state.header),
        state.pending_timers(),
    ]


@settings(max_examples=100)
@given(
    streams(),
    st.integers(1, 9),
    st.integers(1, 3),
    st.sets(st.integers(0, 40), max_size=4),
    st.integers(3, 8),
    st.sampled_from([0.0, 0.05, 0.2]),
)
def test_cold_rows_and_restarts_change_nothing(
    lines: list[bytes], size: int, hot: int, restarts: set[int], max_users: int, ttl_days: float
) -> None:
    """All rows hot, or next to none, with restarts: the same outputs, changelog and order of forgetting."""
    plain, cold = Recorder(), Recorder()
    bounds: dict[str, Any] = {"max_users": max_users, "user_ttl_days": ttl_days}
    one = shop(plain, batch_size=size, hot_users=1000, **bounds)
    other = shop(cold, batch_size=size, hot_users=hot, **bounds)
    for n, line in enumerate(lines):
        if n in restarts:
            one.flush()
            other.restart()
        one.pipe(line)
        other.pipe(line)
    one.advance(2 * HOUR)
    other.advance(2 * HOUR)

    assert everything(one) == everything(other)
    assert plain.written == cold.written


@settings(max_examples=60)
@given(streams(), st.integers(2, 40))
def test_who_is_forgotten_does_not_depend_on_where_a_batch_ends(lines: list[bytes], size: int) -> None:
    """One record a batch, or many: the same users remain, in the same order, with the same rows."""
    bounds: dict[str, Any] = {"max_users": 5, "user_ttl_days": 0.05}
    ones = shop(Recorder(), batch_size=1, hot_users=2, **bounds)
    many = shop(Recorder(), batch_size=size, hot_users=2, **bounds)
    ones.pipe(*lines)
    many.pipe(*lines)
    ones.advance(2 * HOUR)
    many.advance(2 * HOUR)

    assert everything(ones) == everything(many)


def view(user: str, at: float) -> bytes:
    """A view of a product."""
    return event("Product Viewed", user=user, at=at, product_id="p")


def days(ttl_days: float, **more: Any) -> Driver:
    """A partition with a time to live."""
    rules = {"holdout_share": 0.0}  # no experiment that a user would wait for
    return Driver(settings=Settings(max_items=256, user_ttl_days=ttl_days, campaigns=rules), **more)


def test_a_user_is_forgotten_when_the_watermark_has_left_the_last_event_behind() -> None:
    """Ten days without an event are not too long, ten days and an hour are; the row gets a tombstone."""
    stream = days(10)
    stream.pipe(view("old", 0), view("young", HOUR + 1), view("now", 10 * DAY))
    assert ["old", "young", "now"] == list(stream.engine.state)
    stream.pipe(view("now", 10 * DAY + HOUR))

    assert ["young", "now"] == list(stream.engine.state)
    assert {"young", "now"} == set(stream.committed)


def test_a_user_is_never_forgotten_by_age_when_the_time_to_live_is_zero() -> None:
    """0 days: never."""
    stream = days(0)
    stream.pipe(view("old", 0), view("now", 5000 * DAY))

    assert ["old", "now"] == list(stream.engine.state)


def test_of_a_user_who_refused_the_refusal_stays() -> None:
    """Who unsubscribed is too old: the refusal stays, nothing else, for good, without being written again."""
    recorder = Recorder()
    stream = days(10, codec=recorder)
    stream.pipe(view("no", 0), event("Unsubscribed", user="no", at=1.0))
    stream.pipe(view("now", 11 * DAY), view("now", 11 * DAY + 1))
    kept = stream.engine.state.profile("no")
    n_written = len(recorder.written)
    stream.pipe(*(view("now", (12 + n) * DAY) for n in range(30)))

    assert (["email"], [], 0) == (kept.unsubscribed, kept.ring, kept.n_events)
    assert ["no", "now"] == list(stream.engine.state)
    assert {"no", "now"} == set(stream.engine.state.users())
    assert 30 == len(recorder.written) - n_written


def test_who_refused_and_comes_back_is_a_user_again() -> None:
    """A shrunk row that gets an event has its place among the active, and its refusal."""
    stream = days(10)
    stream.pipe(event("Unsubscribed", user="no", at=1.0), view("now", 11 * DAY), view("now", 11 * DAY + 1))
    stream.restart()
    stream.pipe(view("no", 12 * DAY), view("other", 12 * DAY))
    profile = stream.engine.state.profile("no")

    assert ["now", "no", "other"] == list(stream.engine.state)
    assert (["email"], ["p"]) == (profile.unsubscribed, profile.ring)


def test_a_live_timer_keeps_its_user() -> None:
    """A reminder due after twelve days, a life of ten: the user goes after the reminder."""
    late = cart_campaign(delay_s=12 * DAY, consent=CampaignConsent(when_unknown="allow"))
    stream = days(10, campaigns=[late])
    stream.pipe(event("Product Added", user="waits", at=0, product_id="p"), view("gone", 1.0))
    stream.pipe(view("now", 11 * DAY), view("now", 11 * DAY + 1))
    assert ["waits", "now"] == list(stream.engine.state)
    assert {"cart": 1} == stream.engine.state.pending_timers()
    stream.pipe(view("now", 12 * DAY + HOUR), view("now", 13 * DAY + HOUR))

    assert ["waits"] == [trigger.recipient.user_id for trigger in stream.take("triggers")]
    assert ["now"] == list(stream.engine.state)


def test_a_late_order_of_a_new_user_does_not_undo_itself() -> None:
    """An order that is older than the time to live is applied; its user goes when others are active."""
    stream = days(10)
    stream.pipe(view("now", 20 * DAY), event("Order Completed", user="late", at=0, product_id="p"))
    assert ["now", "late"] == list(stream.engine.state)


def test_no_event_forgets_more_than_a_few() -> None:
    """A hundred users are too old at once: each event lets go of four."""
    stream = days(10)
    stream.pipe(*(view(f"u{n:03d}", float(n)) for n in range(100)))
    for n in range(1, 26):
        stream.pipe(view("now", 12 * DAY + n))
        assert 100 - 4 * n + 1 == len(stream.engine.state)


def test_a_restored_partition_decodes_only_who_comes_or_is_due() -> None:
    """Of a hundred restored users one is active and two wait for a reminder: three rows are decoded."""
    recorder = Recorder()
    allowed = cart_campaign(consent=CampaignConsent(when_unknown="allow"))
    stream = Driver(
        settings=Settings(max_items=256, campaigns={"holdout_share": 0.0}),
        campaigns=[allowed],
        codec=recorder,
    )
    stream.pipe(*(event("Cart Viewed", user=f"u{n}", at=float(n)) for n in range(100)))
    stream.pipe(*(event("Product Added", user=f"u{n}", at=100.0 + n, product_id="p") for n in (1, 2)))
    stream.restart()
    recorder.n_decoded = 0
    assert {"cart": 2} == stream.engine.state.pending_timers()
    assert 2 == recorder.n_decoded
    stream.pipe(event("Cart Viewed", user="u50", at=200.0))
    stream.advance(2 * HOUR)

    assert ["u1", "u2"] == [trigger.recipient.user_id for trigger in stream.take("triggers")]
    assert 2 + 3 == recorder.n_decoded


def test_rows_stay_hot_up_to_the_bound_and_until_they_are_committed() -> None:
    """In a batch of ten users all are hot; after its commit the two most recent are."""
    state = PartitionState(codec=ROWS, hot_users=2)
    for n in range(10):
        state.touch(f"u{n}", Profile(n_events=1), ModelMemory())
    assert 10 == len(state._hot)
    rows = dict(state.encode())
    state.committed()

    assert ["u8", "u9"] == list(state._hot)
    assert {user: state.committed_row(user) for user in state} == rows


def test_what_changed_must_be_encoded_before_it_counts_as_committed() -> None:
    """To drop a row that was never encoded would lose it."""
    state = PartitionState(codec=ROWS)
    state.touch("u", Profile(n_events=1), ModelMemory())
    with pytest.raises(ValueError, match="1 rows changed, but 0 were encoded"):
        state.committed()


def test_without_a_codec_nothing_goes_cold() -> None:
    """A replay has no changelog: all rows stay decoded."""
    state = PartitionState(hot_users=1)
    for n in range(5):
        state.touch(f"u{n}", Profile(n_events=n), ModelMemory())
    state.committed()

    assert [0, 1, 2, 3, 4] == [state.profile(f"u{n}").n_events for n in range(5)]
    with pytest.raises(ValueError, match="codec"):
        list(state.encode())


def test_a_flood_of_new_ids_stays_within_the_bound() -> None:
    """Two thousand ids, half of them refusing, room for a hundred: never 5 % over, each loss a tombstone."""
    stream = Driver(settings=Settings(max_items=256, max_users=100), batch_size=50)
    most = 0
    for n in range(2000):
        stream.pipe(view(f"u{n}", float(n)))
        if n % 2:
            stream.pipe(event("Unsubscribed", user=f"u{n}", at=n + 0.5))
        most = max(most, len(stream.engine.state))
    stream.flush()

    assert most <= 105
    assert set(stream.committed) == set(stream.engine.state)
    assert 100 == len(stream.engine.state)


def test_a_glance_names_the_first_thing_that_waits() -> None:
    """Impressions and decisions are looked at when the earlier of the two is due; 0 means nothing waits."""
    looks = glance_at(Profile(n_events=1, impressions_due_at=EPOCH), ModelMemory(due_at=EPOCH - 1)).looks_due
    nothing = glance_at(Profile(n_events=1), ModelMemory())

    assert EPOCH - 1 == looks
    assert (float("inf"), float("inf")) == (nothing.timers_due, nothing.looks_due)
