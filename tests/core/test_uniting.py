"""Rows of one user that meet when partitions grow: no refusal, purchase or message is forgotten."""

from __future__ import annotations

from stream.core.caps import MAX_SENDS, MAX_SENT_TIMES
from stream.core.rows import Profile, Send
from stream.core.uniting import unite

DAY = 86_400.0


def united(newer: Profile, older: Profile) -> Profile:
    """The newer row after it has met the older one."""
    unite(newer, older)
    return newer


def test_the_latest_answer_counts_whichever_row_has_it() -> None:
    """A refusal does not outlive a later grant, nor a grant a later refusal; what has no date refuses."""
    newer = Profile(
        consent={"ads": True, "email": False, "learn": True},
        answered_at={"ads": 5.0, "email": 9.0, "learn": 1.0},
    )
    older = Profile(
        consent={"ads": False, "email": True, "learn": False, "sms": False},
        answered_at={"ads": 4.0, "email": 8.0, "learn": 2.0},
    )

    found = united(newer, older)

    assert {"ads": True, "email": False, "learn": False, "sms": False} == found.consent


def test_what_was_left_and_bought_in_either_row_counts() -> None:
    """Channels, products with the later time, orders; a user who is known in one row is known."""
    newer = Profile(unsubscribed=["sms"], bought={"p": 3.0}, n_orders=1, last_order_at=3.0, order_ids=[3])
    older = Profile(
        known=True,
        unsubscribed=["email"],
        bought={"p": 2.0, "q": 1.0},
        n_orders=2,
        last_order_at=2.0,
        order_ids=[1, 2],
    )

    found = united(newer, older)

    assert found.known
    assert {"sms", "email"} == set(found.unsubscribed)
    assert ({"p": 3.0, "q": 1.0}, 3, 3.0) == (found.bought, found.n_orders, found.last_order_at)
    assert [1, 2, 3] == found.order_ids


def test_messages_of_both_rows_count() -> None:
    """Caps of the day add up where it is the same day; logs keep the latest, cooldowns the later time."""
    newer = Profile(
        cap_day=7,
        cap_count=1,
        campaign_day={"a": [7, 1], "b": [6, 2]},
        sends=[Send(7.5 * DAY, "a", "email", 7)],
        sent_times={"a": 7.5 * DAY},
        sent_keys={"a\x1fp": 7.5 * DAY, "b\x1fq": 0.5},
    )
    older = Profile(
        cap_day=7,
        cap_count=2,
        campaign_day={"a": [7, 1], "b": [7, 1], "c": [5, 4]},
        sends=[Send(n * DAY / 10, "b", "email", 0) for n in range(MAX_SENDS)],
        sent_times={f"x{n}": n / 10 for n in range(MAX_SENT_TIMES)} | {"a": 8.0},
        sent_keys={"a\x1fp": 9.0, "b\x1fq": 1.0},
    )

    found = united(newer, older)

    assert (7, 3) == (found.cap_day, found.cap_count)
    assert {"a": [7, 2], "b": [7, 1], "c": [5, 4]} == found.campaign_day
    assert (MAX_SENDS, 7.5 * DAY) == (len(found.sends), found.sends[-1].time)
    assert (MAX_SENT_TIMES, 7.5 * DAY) == (len(found.sent_times), found.sent_times["a"])
    assert {"a\x1fp": 7.5 * DAY, "b\x1fq": 1.0} == found.sent_keys
