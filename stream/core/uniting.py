"""Two rows of one user that meet: what either says against messages goes on to count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.core.caps import MAX_SENDS, MAX_SENT_TIMES
from stream.core.cleaning import MAX_ORDER_IDS
from stream.core.profiles import note_answers, remember_bought, unsubscribe

if TYPE_CHECKING:
    from stream.core.rows import Profile

__all__ = ["unite"]


def unite(profile: Profile, older: Profile) -> None:
    """Take over from an older row of the same user what may keep a message from being sent.

    That is: answers to purposes, channels that were left, purchases, and messages that were sent. Whatever
    else an older row holds (counts, timers, what models remember) is its own, and goes with it.
    """
    profile.known = profile.known or older.known
    for purpose, answer in older.consent.items():
        note_answers({purpose: answer}, older.answered_at.get(purpose, float("-inf")), profile)
    for channel in older.unsubscribed:
        unsubscribe(channel, profile)
    profile.n_orders += older.n_orders
    profile.order_ids = [*older.order_ids, *profile.order_ids][-MAX_ORDER_IDS:]
    profile.last_order_at = max(profile.last_order_at, older.last_order_at)
    for item_id, time in older.bought.items():
        remember_bought(profile, item_id, time)
    _unite_messages(profile, older)


def _unite_messages(profile: Profile, older: Profile) -> None:
    """Add what caps, cooldowns and messages that go once are kept by."""
    ours, theirs = (profile.cap_day, profile.cap_count), (older.cap_day, older.cap_count)
    profile.cap_day, profile.cap_count = _of_day(ours, theirs)
    for name, (day, count) in older.campaign_day.items():
        known, sent = profile.campaign_day.get(name, (day, 0))
        profile.campaign_day[name] = [*_of_day((known, sent), (day, count))]
    profile.sends = sorted([*older.sends, *profile.sends], key=lambda send: send.time)[-MAX_SENDS:]
    # Beyond its room the first table counts from the oldest that it knows; the second lets nothing new go.
    times = sorted(_latest(older.sent_times, profile.sent_times).items(), key=lambda entry: entry[1])
    profile.sent_times = dict(times[-MAX_SENT_TIMES:])
    profile.sent_keys = _latest(older.sent_keys, profile.sent_keys)


def _of_day(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """The count of the later day; both, where it is the same day."""
    return (one[0], one[1] + other[1]) if one[0] == other[0] else max(one, other)


def _latest(older: dict[str, float], newer: dict[str, float]) -> dict[str, float]:
    return older | {name: max(time, older.get(name, time)) for name, time in newer.items()}
