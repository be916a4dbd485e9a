"""The data plane with one of its precautions taken out."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from stream.runtime.assignment import Assignment
from stream.runtime.outbox import Outbox
from stream.runtime.partition import PartitionTask
from stream.runtime.transport import Producer, Sent
from stream.runtime.turns import Lesson, ModelTurns


@dataclass(frozen=True, slots=True)
class Mutation:
    """One precaution less, the kinds of findings that must follow, and the seed where the search begins."""

    name: str
    patches: Callable[[], list[Any]]
    kinds: frozenset[str]
    first_seed: int = 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run the data plane without the precaution."""
        with ExitStack() as stack:
            for patch in self.patches():
                stack.enter_context(patch)
            yield


def _without_fence() -> list[Any]:
    """Each opening takes a transactional id of its own, so it fences nobody."""
    numbers = itertools.count()

    def new_producer(self: PartitionTask) -> Producer:
        group = self._shared.settings.kafka.group
        fence = f"{group}.{next(numbers)}" if self._exactly_once else None
        return self._shared.transport.producer(f"{group}-{self._partition}", fence)

    return [mock.patch.object(PartitionTask, "_new_producer", new_producer)]


def _fence_last() -> list[Any]:
    """Restore first and fence then: what the former owner commits in between is not in the state."""
    new_producer, open_ = PartitionTask._new_producer, PartitionTask.open
    late: dict[int, Callable[[], Awaitable[None]]] = {}

    async def nothing() -> None:
        """Do not start yet."""

    def starts_late(self: PartitionTask) -> Producer:
        producer = new_producer(self)
        late[id(self)] = producer.start
        producer.start = nothing  # type: ignore[method-assign]  # that is the mutation
        return producer

    async def open_and_fence(self: PartitionTask) -> None:
        await open_(self)
        await late.pop(id(self))()

    return [
        mock.patch.object(PartitionTask, "_new_producer", starts_late),
        mock.patch.object(PartitionTask, "open", open_and_fence),
    ]


def _without_looking_at_sends() -> list[Any]:
    """Commit whether or not the broker took each batch."""

    async def send(self: Outbox) -> dict[str, int]:
        batches, self._batches = self._batches, {}
        ends: dict[str, int] = {}
        for topic, several in batches.items():
            for batch in several:
                batch.close()
                future: Awaitable[Sent] = await self._producer.send_batch(
                    batch, topic, partition=self._partition
                )
                (result,) = await asyncio.gather(future, return_exceptions=True)
                if not isinstance(result, BaseException):
                    ends[topic] = result.offset + self._in_last[topic]
        return ends

    return [mock.patch.object(Outbox, "send", send)]


def _without_epochs() -> list[Any]:
    """Take whatever was fetched and whatever was opened as if no rebalance could come between."""

    async def let_go(self: Assignment, limit_s: float) -> None:
        """Go on with what we have."""

    def is_next(self: Assignment, task: PartitionTask, records: object, epoch: int) -> bool:
        return True

    def still_opens(self: Assignment, partition: int, epoch: int) -> bool:
        return self.opening.get(partition) is asyncio.current_task()

    return [
        mock.patch.object(Assignment, "let_go", let_go),
        mock.patch.object(Assignment, "_is_next", is_next),
        mock.patch.object(Assignment, "_still_opens", still_opens),
    ]


def _without_rebuilt_state() -> list[Any]:
    """After an error go on with the users as the failed batch left them."""
    rebuild, open_ = Assignment._rebuild, PartitionTask.open
    left: dict[tuple[int, int], Any] = {}

    async def keep_state(self: Assignment, task: PartitionTask, records: Any, error: Exception) -> None:
        left[id(self._shared), task.source.partition] = task._engine
        await rebuild(self, task, records, error)

    async def open_with_old_state(self: PartitionTask) -> None:
        await open_(self)
        self._engine = left.pop((id(self._shared), self._partition), self._engine)

    return [
        mock.patch.object(Assignment, "_rebuild", keep_state),
        mock.patch.object(PartitionTask, "open", open_with_old_state),
    ]


def _without_rollback() -> list[Any]:
    """Keep what a batch taught although its commit failed."""

    def abandon(self: ModelTurns, lesson: Lesson) -> None:
        if lesson is self._waiting:
            self._models.keep()
            self._waiting = None

    return [mock.patch.object(ModelTurns, "abandon", abandon)]


_WRITTEN = frozenset({"lost", "duplicate", "invented", "order", "state differs"})

# The first seeds are those that found it when this was written: a run takes seconds, a search minutes.
MUTATIONS = (
    Mutation(
        "no fence",
        _without_fence,
        _WRITTEN | {"two owners", "goes back", "learned twice", "worker failed"},
        first_seed=5,
    ),
    Mutation(
        "fence last", _fence_last, _WRITTEN | {"goes back", "learned twice", "worker failed"}, first_seed=7
    ),
    Mutation("sends unseen", _without_looking_at_sends, _WRITTEN | {"torn", "models differ"}, first_seed=14),
    # A partition that is not let go is held to be ours, and what its next owner teaches is not folded.
    Mutation(
        "no epochs",
        _without_epochs,
        _WRITTEN | {"two owners", "goes back", "no progress", "models differ"},
        first_seed=190,
    ),
    Mutation("state not rebuilt", _without_rebuilt_state, _WRITTEN, first_seed=4),
    Mutation("no rollback", _without_rollback, frozenset({"models differ"}), first_seed=4),
)
