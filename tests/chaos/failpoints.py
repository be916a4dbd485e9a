"""A worker that kills itself by SIGKILL at a chosen point of its work: ``python -m tests.chaos.failpoints``.

The production worker runs with a transport that counts the calls of one kind. ``NUDGE_FAILPOINT=point:n``
names the call that is the last; a line on the log says that it was reached.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import ConsumerRebalanceListener, TopicPartition

from stream.runtime.kafka import KafkaTransport
from stream.runtime.transport import Batch, GroupConsumer, Producer, Reader, Sent
from stream.sections import KafkaSettings
from stream.settings import Settings
from stream.worker import run_worker

BETWEEN_SENDS: Final = "mid_send"
POINTS: Final = (
    "after_begin",
    BETWEEN_SENDS,
    "before_offsets",
    "after_offsets",
    "during_commit",
    "after_commit",
    "in_restore",
    "in_revoke",
    "in_snapshot",
    "before_trim",
    "before_rename",
)
IN_FLIGHT_S: Final = 0.001  # a request is on the wire then, and its answer, as often as not, not back


class Failpoint:
    """Ends the process when its point was reached for the n-th time."""

    def __init__(self, chosen: str) -> None:
        self._point, _, n = chosen.partition(":")
        self._left = int(n or "1")

    def due(self, point: str) -> bool:
        """Whether this is the call that is the last."""
        if point != self._point:
            return False
        self._left -= 1
        return self._left == 0

    def reach(self, point: str) -> None:
        """End here if it is."""
        if self.due(point):
            self.end()

    def end(self) -> None:
        """End at once, having said so."""
        os.write(sys.stderr.fileno(), b'{"event": "failpoint", "point": "%s"}\n' % self._point.encode())
        os.kill(os.getpid(), signal.SIGKILL)


class FailingProducer:
    """A producer that passes on every call and may die beside it."""

    def __init__(self, producer: Producer, failpoint: Failpoint, *, snapshots: bool) -> None:
        self._inner = producer
        self._failpoint = failpoint
        self._snapshots = snapshots
        self.start, self.stop, self.create_batch = producer.start, producer.stop, producer.create_batch

    async def begin_transaction(self) -> None:
        """Begin, then die."""
        await self._inner.begin_transaction()
        self._failpoint.reach("after_begin")

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Awaitable[Sent]:
        """Send, wait until the broker has it, then die, the other batches unsent."""
        if self._snapshots and self._failpoint.due("in_snapshot"):
            await (await self._inner.send_batch(batch, topic, partition=partition))
            self._failpoint.end()
        if not self._snapshots and self._failpoint.due(BETWEEN_SENDS):
            await (await self._inner.send_batch(batch, topic, partition=partition))
            self._failpoint.end()
        return await self._inner.send_batch(batch, topic, partition=partition)

    async def send_offsets_to_transaction(self, offsets: Mapping[TopicPartition, int], group: str) -> None:
        """Die before or after."""
        self._failpoint.reach("before_offsets")
        await self._inner.send_offsets_to_transaction(offsets, group)
        self._failpoint.reach("after_offsets")

    async def commit_transaction(self) -> None:
        """Die with the request on its way, or when it was answered and nobody knows yet."""
        if self._failpoint.due("during_commit"):
            commit = asyncio.ensure_future(self._inner.commit_transaction())
            await asyncio.wait({commit}, timeout=IN_FLIGHT_S)
            self._failpoint.end()
        await self._inner.commit_transaction()
        self._failpoint.reach("after_commit")


class FailingTransport(KafkaTransport):
    """aiokafka's clients, wrapped."""

    def __init__(self, kafka: KafkaSettings, failpoint: Failpoint) -> None:
        super().__init__(kafka)
        self._failpoint = failpoint

    def producer(self, client_id: str, transactional_id: str | None = None) -> Producer:
        """Wrap a producer; without a transactional id it writes snapshots."""
        inner = super().producer(client_id, transactional_id)
        return FailingProducer(inner, self._failpoint, snapshots=transactional_id is None)

    @asynccontextmanager
    async def reader(self, partitions: Sequence[TopicPartition]) -> AsyncIterator[Reader]:
        """Die between two fetches of a partition's user state."""
        async with super().reader(partitions) as inner:
            if "user-state" in partitions[0].topic:
                inner.getmany = _after(inner.getmany, lambda: self._failpoint.reach("in_restore"))  # type: ignore[method-assign,assignment]
            yield inner

    def group_consumer(self) -> GroupConsumer:
        """Die while partitions are revoked."""
        inner = super().group_consumer()
        subscribe = inner.subscribe

        def subscribe_dying(topics: Sequence[str], *, listener: ConsumerRebalanceListener) -> None:
            subscribe(topics, listener=_DyingListener(listener, self._failpoint))

        inner.subscribe = subscribe_dying  # type: ignore[method-assign]
        return inner

    async def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Die with the snapshot written and the log not yet trimmed."""
        self._failpoint.reach("before_trim")
        await super().delete_before(offsets)


class _DyingListener(ConsumerRebalanceListener):
    """Dies with the batch in hand finished or not."""

    def __init__(self, inner: ConsumerRebalanceListener, failpoint: Failpoint) -> None:
        self._inner = inner
        self._failpoint = failpoint

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if self._failpoint.due("in_revoke"):
            letting_go = asyncio.ensure_future(self._inner.on_partitions_revoked(revoked))
            await asyncio.wait({letting_go}, timeout=IN_FLIGHT_S)
            self._failpoint.end()
        await self._inner.on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._inner.on_partitions_assigned(assigned)


def _watch_renames(failpoint: Failpoint) -> None:
    """Die with a copy of user state written beside its place: the interpreter tells of a rename before it."""

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.rename" and str(arguments[1]).endswith(".cache"):
            failpoint.reach("before_rename")

    sys.addaudithook(hear)


def _after(call: Callable[..., Awaitable[Any]], then: Callable[[], None]) -> Callable[..., Awaitable[Any]]:
    async def called(*args: Any, **options: Any) -> Any:
        result = await call(*args, **options)
        then()
        return result

    return called


if __name__ == "__main__":
    SETTINGS = Settings()
    FAILPOINT = Failpoint(os.environ.get("NUDGE_FAILPOINT", ""))
    _watch_renames(FAILPOINT)
    sys.exit(run_worker(SETTINGS, transport=FailingTransport(SETTINGS.kafka, FAILPOINT)))
