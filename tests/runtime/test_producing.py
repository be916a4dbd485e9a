"""A user's events go to one partition because they have one key."""

from __future__ import annotations

import asyncio

import pytest

from stream.runtime import producing
from stream.runtime.producing import KeyField, key_of


@pytest.mark.parametrize(
    ("line", "field", "key"),
    [
        (b'{"userId":"u1","anonymousId":"a1"}', "user", b"u1"),
        (b'{"userId":"","anonymousId":"a1"}', "user", b"a1"),
        (b'{"userId":17}', "user", b"17"),
        (b'{"event":"Cart Viewed"}', "user", None),
        (b"[1]", "user", None),
        (b"{nonsense", "user", None),
        (b'{"item_id":"i1"}', "item_id", b"i1"),
        (b'{"item_id":{}}', "item_id", None),
    ],
)
def test_key_of_a_line(line: bytes, field: KeyField, key: bytes | None) -> None:
    """``userId``, else ``anonymousId``; what has neither is sent without a key and never stops the rest."""
    assert key == key_of(line, field)


async def test_no_more_are_in_flight_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends waits for the first that is done."""
    monkeypatch.setattr(producing, "MAX_IN_FLIGHT", 2)
    loop = asyncio.get_running_loop()
    one: asyncio.Future[object] = loop.create_future()
    other: asyncio.Future[object] = loop.create_future()
    with_room = asyncio.ensure_future(producing._with_room({one, other}))
    await asyncio.sleep(0.01)
    assert not with_room.done()
    one.set_result(None)

    assert {other} == await with_room
    assert {other} == await producing._with_room({other})
