"""Commands: what operators stop stays stopped, resumes where it was, and the erased are gone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Rejected
from schemas.commands import Command, CommandKind, Switch, decode_command
from schemas.reasons import SuppressionReason
from stream.core.commands import is_stopped
from stream.settings import Settings
from stream.testing import Driver, cart_campaign, event

SETTINGS = Settings(
    max_items=512,
    click_slots=2**10,
    recommend={"min_interval_s": 1.0},
    consent={"when_unknown": "allow"},
    campaigns={"holdout_share": 0.0, "daily_cap": None},
)


def tell(stream: Driver, **fields: Any) -> None:
    """Give the engine a command."""
    stream.tell(msgspec.json.encode({"command_id": "c"} | fields))


def abandon(stream: Driver, user: str, at: float, item_id: str = "p1") -> None:
    """A cart is left; an hour and a half later the message is due."""
    stream.pipe(event("Product Added", user=user, at=at, product_id=item_id))
    stream.advance(7200)


def reasons(stream: Driver) -> list[str | None]:
    """Why messages were or were not sent, in order."""
    return [d.reason for d in stream.take("decisions") if d.campaign_id is not None]


def test_messages_stop_and_resume_for_all_or_for_one_campaign() -> None:
    """What was eligible meanwhile is suppressed with its own reason, and is not sent later."""
    stream = Driver(settings=SETTINGS, campaigns=[cart_campaign("a"), cart_campaign("b")])
    abandon(stream, "u1", 0)
    tell(stream, kind="stop", switch="messages", campaign_id="a")
    abandon(stream, "u2", 10_000)
    tell(stream, kind="stop", switch="messages")
    abandon(stream, "u3", 20_000)
    tell(stream, kind="resume", switch="messages")
    abandon(stream, "u4", 30_000)
    tell(stream, kind="resume", switch="messages", campaign_id="a")
    abandon(stream, "u5", 40_000)

    sent = [(t.recipient.user_id, t.campaign_id) for t in stream.take("triggers")]
    assert [("u1", "a"), ("u1", "b"), ("u2", "b"), ("u4", "b"), ("u5", "a"), ("u5", "b")] == sent
    stopped = SuppressionReason.STOPPED.value
    assert [None, None, stopped, None, stopped, stopped, stopped, None, None, None] == reasons(stream)


def test_no_stop_is_forgotten_for_room() -> None:
    """Three hundred campaigns are stopped one by one: there is no room for all names, so everything stops."""
    names = ("c0", "c299")
    stream = Driver(settings=SETTINGS, campaigns=[cart_campaign(name) for name in names])
    for n in range(300):
        tell(stream, kind="stop", switch="messages", campaign_id=f"c{n}")
    tell(stream, kind="stop", switch="learning")
    abandon(stream, "u1", 0)

    stopped = SuppressionReason.STOPPED.value
    assert [stopped, stopped] == reasons(stream)
    assert is_stopped(stream.engine.state.header, Switch.LEARNING)
    assert len(stream.engine.state.header.stopped) < 300


def test_a_stopped_transactional_campaign_is_silent_too() -> None:
    """The switch is for emergencies: no class of messages is exempt."""
    stream = Driver(settings=SETTINGS, campaigns=[cart_campaign(message_class="transactional")])
    tell(stream, kind="stop", switch="messages")
    abandon(stream, "u1", 0)

    assert [] == stream.take("triggers")


def test_learning_stops_and_the_models_keep_every_bit() -> None:
    """Events and expiring windows teach nothing; the profile goes on."""
    stream = Driver(settings=SETTINGS)
    for n in range(20):
        stream.pipe(event("Product Viewed", user=f"u{n}", at=10.0 * n, product_id=f"p{n % 3}"))
    stream.flush()
    before = stream.models.fold.digest()
    tell(stream, kind="stop", switch="learning")
    for n in range(20):
        at = 1000.0 + 10 * n
        products = [{"product_id": "p7"}]
        stream.pipe(event("Product Viewed", user=f"u{n}", at=at, product_id=f"p{n % 5}"))
        stream.pipe(event("Product List Viewed", user=f"u{n}", at=at + 1, products=products))
    stream.advance(9 * 86_400)

    assert before == stream.models.fold.digest()
    assert 2 == stream.engine.state.profile("u3").n_views
    tell(stream, kind="resume", switch="learning")
    stream.pipe(event("Product Viewed", user="u1", at=9 * 86_400 + 60, product_id="p9"))
    stream.flush()
    assert before != stream.models.fold.digest()


def test_without_models_every_slate_is_what_is_popular() -> None:
    """Whatever the slot asks for, and no offer is made on the site."""
    stream = Driver(settings=SETTINGS)
    for n in range(30):
        item_id = ["hit", "second", "hit", "second", "hit", "third"][n % 6]
        stream.pipe(event("Product Viewed", user=f"u{n}", at=10.0 * n, product_id=item_id))
    tell(stream, kind="stop", switch="models")
    stream.take("recommendations")
    for slot in ("for_you", "recently_viewed"):
        stream.pipe(event("Recommendations Requested", user="new", at=1000, slot=slot))
    slates = stream.take("recommendations")

    assert [["hit", "second", "third"]] * 2 == [[i.item_id for i in slate.items] for slate in slates]
    assert {"popular_this_week"} == {r for slate in slates for i in slate.items for r in i.reasons}


def test_the_erased_are_gone_with_their_timers() -> None:
    """No row, no message, a tombstone; others keep theirs."""
    stream = Driver(settings=SETTINGS, campaigns=[cart_campaign()])
    for user in ("u1", "u2"):
        stream.pipe(event("Product Added", user=user, at=0, product_id="p1"))
    tell(stream, kind="erase", user_id="u1")
    tell(stream, kind="erase", user_id="nobody")

    assert {"u2"} == set(stream.committed)
    assert ["u2"] == list(stream.engine.state)
    stream.advance(7200)
    assert ["u2"] == [t.recipient.user_id for t in stream.take("triggers")]


def test_what_is_stopped_survives_a_crash() -> None:
    """The switch is state like any other."""
    stream = Driver(settings=SETTINGS, campaigns=[cart_campaign()])
    stream.pipe(event("Product Viewed", user="u0", at=0, product_id="p1"))
    tell(stream, kind="stop", switch="messages")
    stream.flush()
    stream.crash()
    abandon(stream, "u1", 100)

    assert [] == stream.take("triggers")


@pytest.mark.parametrize(
    ("value", "code", "path"),
    [
        (b"stop it", "not_json", "$"),
        (b'{"command_id":"c","kind":"explode"}', "bad_shape", "$"),
        (b'{"kind":"stop","switch":"messages"}', "bad_shape", "$"),
        (b'{"command_id":"c","kind":"stop"}', "bad_shape", "$.switch"),
        (b'{"command_id":"c","kind":"erase","user_id":""}', "bad_id", "$.user_id"),
        (b'{"command_id":"c","kind":"erase"}', "missing_user", "$.user_id"),
        (
            b'{"command_id":"c","kind":"stop","switch":"models","campaign_id":"a"}',
            "bad_shape",
            "$.campaign_id",
        ),
        (b'{"command_id":"' + b"c" * 5000 + b'"}', "too_large", "$"),
    ],
)
def test_a_bad_command_becomes_a_dead_letter(value: bytes, code: str, path: str) -> None:
    """With its code and place, and it stops nothing."""
    stream = Driver(settings=SETTINGS)
    stream.tell(value)

    assert [(code, path)] == [(letter.code, letter.path) for letter in stream.take("dead_letters")]
    assert 1 == stream.counts["command", "rejected"]
    assert [] == stream.engine.state.header.stopped


@given(
    st.lists(
        st.tuples(st.sampled_from(["stop", "resume"]), st.sampled_from(Switch), st.none() | st.text("ab")),
        max_size=30,
    )
)
def test_the_last_word_on_a_switch_counts(words: list[tuple[str, Switch, str | None]]) -> None:
    """Stopping twice is stopping once; resuming names the same thing in the same words."""
    stream = Driver(settings=SETTINGS)
    expected: dict[str, None] = {}
    for kind, switch, campaign in words:
        command = Command("c", CommandKind(kind), switch=switch, campaign_id=campaign)
        value = msgspec.json.encode(command)
        stream.tell(value)
        if isinstance(decode_command(value), Rejected):
            continue
        if kind == "stop":
            expected.setdefault(command.stops)
        else:
            expected.pop(command.stops, None)

    assert [*expected] == stream.engine.state.header.stopped
