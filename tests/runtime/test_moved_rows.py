"""Users' rows on their way to another number of partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stream.core.rows import Header, ModelMemory, Profile
from stream.runtime.growing import PARTITIONERS, _move_users
from stream.runtime.outbox import Outbox
from stream.runtime.restoring import Restored
from stream.runtime.statecache import Mark
from stream.runtime.statecodec import HEADER_KEY, decode_row, encode_row


class Written(Outbox):
    """Records that go nowhere."""

    def __init__(self) -> None:
        self.rows: list[tuple[bytes | None, bytes | None]] = []

    def add(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """Keep a record."""
        self.rows.append((key, value))

    async def send(self) -> dict[str, int]:
        """Nothing is sent."""
        return {}


def test_a_user_with_two_rows_has_one_after_the_move() -> None:
    """The one that was active last, which refuses what the other refused."""
    left = Profile(n_events=5, unsubscribed=["email"], last_seen=100.0)
    active = Profile(n_events=1, last_seen=200.0)
    states = [
        Restored(Header(), {"u": encode_row(profile, ModelMemory())}, 5, Mark(b"", 0, 0), 0, None)
        for profile in (active, left)
    ]
    outboxes = [Written() for _ in range(3)]

    moved = asyncio.run(_move_users(outboxes, "t", states, PARTITIONERS["murmur2"], None))

    rows = [decode_row(value or b"")[0] for box in outboxes for key, value in box.rows if key != HEADER_KEY]
    assert 1 == moved
    assert [(1, ["email"], 1)] == [(row.n_events, row.unsubscribed, row.touched) for row in rows]
