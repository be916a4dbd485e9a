"""Promises of the whole flow: counting, order, independence of batches, crash and resume."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.campaigns import CampaignConsent
from schemas.catalogue import Offer
from schemas.codec import encode
from stream.core.engine import Engine
from stream.core.records import Record
from stream.settings import Settings
from stream.testing import EPOCH, Driver, cart_campaign, event
from tests.hostile import HOSTILE

CAMPAIGNS = [
    cart_campaign(delay_s=600.0, cooldown_s=900.0, consent=CampaignConsent(when_unknown="allow")),
    cart_campaign(
        "browse",
        kind="browse_abandonment",
        delay_s=900.0,
        offers=True,
        consent=CampaignConsent(when_unknown="allow"),
    ),
]
OFFERS = [Offer(offer_id=f"o{n}", version=1, cost=n, value=10.0 * n, currency="EUR") for n in (1, 2)]
CONFIG = Settings(max_items=256, click_slots=2**10, recommend={"min_interval_s": 30.0})
USERS, PRODUCTS = [f"u{n}" for n in range(4)], [f"p{n}" for n in range(6)]


def drive(batch_size: int) -> Driver:
    """A small shop with both campaigns and two offers."""
    return Driver(settings=CONFIG, campaigns=CAMPAIGNS, offers=OFFERS, batch_size=batch_size)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Some minutes of a shop: views, carts, orders, lists, clicks, offers, consent; mildly out of order."""
    names = st.sampled_from(
        [
            "Product Viewed",
            "Product Viewed",
            "Product Added",
            "Product Added",
            "Order Completed",
            "Product List Viewed",
            "Product Clicked",
            "Cart Viewed",
            "Promotion Clicked",
            "Order Refunded",
            "Consent Changed",
            "Recommendations Requested",
            "Something Else",
        ]
    )
    lines, at = [], 0.0
    for n in range(draw(st.integers(1, 40))):
        at += draw(st.sampled_from([0.0, 1.0, 30.0, 400.0, 1500.0]))
        product = draw(st.sampled_from(PRODUCTS))
        lines.append(
            event(
                draw(names),
                user=draw(st.sampled_from(USERS)),
                at=max(0.0, at - draw(st.sampled_from([0.0, 0.0, 100.0]))),
                message_id=f"m{n}",
                product_id=product,
                products=[{"product_id": product}, {"product_id": draw(st.sampled_from(PRODUCTS))}],
                promotion_id=draw(st.sampled_from(["o1", "o2"])),
                purposes={"contact": draw(st.booleans())},
            )
        )
    return lines


def everything(stream: Driver) -> list[bytes]:
    """All outputs, each kind in its order."""
    kinds = ("recommendations", "triggers", "decisions")
    return [encode(output) for kind in kinds for output in stream.take(kind)]  # type: ignore[arg-type]


def memory_of(stream: Driver) -> tuple[dict[str, bytes], str]:
    """Everything the partition and the models remember."""
    state = stream.engine.state
    rows = {user: msgspec.msgpack.encode((state.profile(user), state.memory(user))) for user in state}
    return rows | {"": msgspec.msgpack.encode(state.header)}, stream.models.fold.digest()


@settings(max_examples=40)
@given(streams(), st.integers(2, 50))
def test_no_result_depends_on_where_a_batch_ends(lines: list[bytes], size: int) -> None:
    """One record a batch, or many: the same outputs, the same state, the same models, bit for bit."""
    ones, many = drive(1), drive(size)
    ones.pipe(*lines)
    many.pipe(*lines)
    ones.advance(4000)
    many.advance(4000)

    assert everything(ones) == everything(many)
    assert memory_of(ones) == memory_of(many)


@settings(max_examples=40)
@given(streams(), st.integers(0, 40), st.integers(1, 7))
def test_a_crash_before_the_commit_leaves_no_trace(lines: list[bytes], at: int, size: int) -> None:
    """Process, lose it, rebuild from what was committed, read again: as if nothing had happened."""
    calm, crashed = drive(size), drive(size)
    calm.pipe(*lines)
    for n, line in enumerate(lines):
        if n == at:
            crashed.crash()
        crashed.pipe(line)
    calm.advance(4000)
    crashed.advance(4000)

    assert everything(calm) == everything(crashed)
    assert memory_of(calm) == memory_of(crashed)


@settings(max_examples=40)
@given(streams(), st.data())
def test_duplicates_change_nothing(lines: list[bytes], data: st.DataObject) -> None:
    """Each event once, or some of them again later: the same outputs, and the repeats are counted."""
    clean, doubled = drive(5), drive(5)
    known = [line for line in lines if b"Something Else" not in line]
    clean.pipe(*known)
    again = data.draw(st.lists(st.integers(0, max(0, len(known) - 1)), max_size=8)) if known else []
    doubled.pipe(*known, *(known[n] for n in again))
    clean.advance(4000)
    doubled.advance(4000)

    assert everything(clean) == everything(doubled)
    assert len(again) == doubled.counts["duplicate",]


@settings(max_examples=40)
@given(streams())
def test_every_input_is_accounted_for(lines: list[bytes]) -> None:
    """Read = accepted + duplicate + rejected, whatever comes."""
    stream = drive(3)
    stream.pipe(*lines, *(case[1] for case in HOSTILE[:12]), *lines[:3])
    stream.flush()
    counts = stream.counts
    rejected = sum(n for key, n in counts.items() if key[0] == "rejected")

    assert counts["read",] == counts["accepted",] + counts["duplicate",] + rejected
    assert rejected == len(stream.take("dead_letters"))


@settings(max_examples=40)
@given(streams())
def test_ids_of_outputs_are_unique_and_propensities_are_probabilities(lines: list[bytes]) -> None:
    """No id repeats; each offer's propensities sum to 1 and hold the one of the action."""
    stream = drive(4)
    stream.pipe(*lines)
    stream.advance(4000)
    triggers, decisions = stream.take("triggers"), stream.take("decisions")

    assert len(triggers) == len({t.id for t in triggers})
    assert len(decisions) == len({d.decision_id for d in decisions})
    for decision in decisions:
        assert 0 < decision.propensity <= 1
        if decision.kind == "offer":
            assert abs(sum(decision.propensities) - 1) < 1e-9
            assert decision.propensity == decision.propensities[decision.eligible.index(decision.action)]


def test_hostile_lines_disturb_nothing_around_them() -> None:
    """Between any two good events stands every hostile line: the good ones have the same effects."""
    good = [event("Product Viewed", user=f"u{n % 3}", at=10.0 * n, product_id=f"p{n % 5}") for n in range(60)]
    alone, among = drive(7), drive(7)
    alone.pipe(*good)
    hostile = [case[1] for case in HOSTILE if case[2] not in {"accepted", "unknown"}]
    for n, line in enumerate(good):
        among.pipe(hostile[n % len(hostile)], ingest_time=EPOCH + 10.0 * n)
        among.pipe(line)
    alone.advance(4000)
    among.advance(4000)

    assert everything(alone) == everything(among)


def test_each_hostile_line_has_its_fate_in_the_engine() -> None:
    """The engine ends each line as the decoder or the cleaner says, with the code of the list."""
    for name, raw, fate in HOSTILE:
        stream = drive(1)
        # A watermark in November 2017, so that 1970 is late and 2099 is in the future.
        shop_day = b'{"messageId":"w","userId":"w","timestamp":"2017-11-25T00:59:00Z","event":"Cart Viewed"}'
        stream.pipe(shop_day, raw, ingest_time=1511571600.0)
        letters = [letter.code for letter in stream.take("dead_letters")]
        unknown = stream.counts["unknown",]

        got = letters[0] if letters else ("unknown" if unknown else "accepted")
        assert (name, fate) == (name, got)


def test_unknown_events_are_counted_and_change_nothing() -> None:
    """An unknown name is accepted; no profile appears."""
    stream = drive(1)
    stream.pipe(event("Something Else", user="u1", at=0))

    assert (1, 1, 0) == (stream.counts["accepted",], stream.counts["unknown",], len(stream.engine.state))


def test_users_are_bounded_and_the_least_active_is_forgotten() -> None:
    """With room for three users the fourth pushes out the one that was active longest ago."""
    stream = Driver(settings=Settings(max_items=256, max_users=3))
    for at, user in enumerate(["a", "b", "c", "a", "d"]):
        stream.pipe(event("Product Viewed", user=user, at=at, product_id="p"))

    assert ["c", "a", "d"] == list(stream.engine.state)


def test_keys_that_are_not_their_users_are_counted() -> None:
    """Of records under the user's id, another one and none, the last two; a rejected one says nothing."""
    stream = drive(1)
    lines = [event("Cart Viewed", user="ü1", at=n, message_id=f"m{n}") for n in range(3)]
    keys = ["ü1".encode(), b"u2", None]
    records = [
        Record(line, EPOCH + 60, n, key) for n, (line, key) in enumerate(zip(lines, keys, strict=True))
    ]
    counts = stream.engine.process([*records, Record(b"{}", EPOCH + 60, 3, b"u3")]).counts

    assert (3, 2) == (counts["accepted",], counts["foreign_key",])


def test_a_refusal_is_not_forgotten_for_room() -> None:
    """Full at three: who unsubscribed stays, as a row of that alone, and somebody else goes."""
    stream = Driver(settings=Settings(max_items=256, max_users=3))
    stream.pipe(event("Product Viewed", user="no", at=0, product_id="p"))
    stream.pipe(event("Unsubscribed", user="no", at=1))
    for at, user in enumerate(["a", "b", "c", "d"]):
        stream.pipe(event("Product Viewed", user=user, at=2 + at, product_id="p"))
    state = stream.engine.state
    kept = state.profile("no")

    assert {"no", "c", "d"} == set(state)
    assert (["email"], []) == (kept.unsubscribed, kept.ring)


def test_what_waits_is_bounded_by_the_users() -> None:
    """A day of slates and list impressions of three users leaves at most two entries for each of them."""
    stream = Driver(settings=Settings(max_items=256, recommend={"min_interval_s": 1.0}), batch_size=100)
    for n in range(600):
        user, at = f"u{n % 3}", 60.0 * n
        stream.pipe(event("Product Viewed", user=user, at=at, product_id=f"p{n % 200}"))
        stream.pipe(
            event("Product List Viewed", user=user, at=at + 1, products=[{"product_id": f"p{n % 7}"}])
        )
    stream.flush()

    assert 500 < len(stream.take("recommendations"))
    assert len(stream.engine.state._due) <= 6


def test_the_row_of_a_hostile_user_stays_far_below_the_message_limit() -> None:
    """Names, purposes and channels as long as a record allows, again and again: the row stays small."""
    stream = drive(50)
    long = "x" * 15_000
    for n in range(100):
        words: dict[str, Any] = {"name": f"{long}{n}", "category": long, "brand": long}
        stream.pipe(event("Product Added", user="u1", at=10.0 * n, product_id=f"{n:0128d}", **words))
        answers = {f"{n}-{k}": True for k in range(30)} | {f"{long}{n}": True}
        stream.pipe(event("Consent Changed", user="u1", at=10.0 * n + 1, purposes=answers))
        stream.pipe(event("Unsubscribed", user="u1", at=10.0 * n + 2, channel=f"{long}{n}"))
    stream.flush()
    rows, _ = memory_of(stream)

    assert {} == {key: n for key, n in stream.counts.items() if key[0] == "rejected"}
    assert 10_000 < len(rows["u1"]) < 200_000


def test_a_refusal_finds_room_where_consents_have_taken_it_all() -> None:
    """Forty consents fill the room; the refusal that comes then is kept."""
    stream = drive(1)
    stream.pipe(event("Consent Changed", user="u1", at=0, purposes={f"p{k}": True for k in range(40)}))
    stream.pipe(event("Consent Changed", user="u1", at=1, purposes={"contact": False}))
    consent = stream.engine.state.profile("u1").consent

    assert (32, False) == (len(consent), consent["contact"])


def test_the_flow_fits_on_one_screen() -> None:
    """The two methods that are the program stay short enough to read at a glance."""
    lines = sum(
        len(inspect.getsource(method).splitlines()) for method in (Engine.process, Engine._process_one)
    )

    assert lines <= 60


@pytest.mark.parametrize("name", ["engine", "cleaning", "campaigns", "messages", "offers", "recommending"])
def test_the_core_reads_no_clock(name: str) -> None:
    """No stage imports time, random or os."""
    source = (Path(__file__).parents[2] / "stream" / "core" / f"{name}.py").read_text()

    assert not {"import time", "import random", "import os"} & set(source.splitlines())


def test_orders_of_json_keys_do_not_matter() -> None:
    """The same event with its keys reversed is the same event."""
    line = event("Product Added", user="u1", at=0, product_id="p1", price=3.0)
    reversed_line = orjson.dumps(dict(reversed(orjson.loads(line).items())))
    one, other = drive(1), drive(1)
    one.pipe(line)
    other.pipe(reversed_line)
    one.advance(4000)
    other.advance(4000)

    assert everything(one) == everything(other)
