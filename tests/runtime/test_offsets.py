"""Partitions that commit at the same time share a request, and nothing but that."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError

from stream.runtime.offsets import OffsetCommits
from stream.runtime.transport import GroupConsumer

SOURCES = A, B, C = tuple(TopicPartition("events", number) for number in range(3))


class Member:
    """A consumer that answers each request when it is told to, and refuses one of them."""

    def __init__(self, refused: int = -1) -> None:
        self.asked: list[dict[TopicPartition, int]] = []
        self.answer = asyncio.Semaphore(0)
        self._refused = refused

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Answer later."""
        number = len(self.asked)
        self.asked.append(dict(offsets))
        await self.answer.acquire()
        if number == self._refused:
            raise CommitFailedError


async def settled() -> None:
    """Let everything come as far as it comes by itself."""
    for _ in range(10):
        await asyncio.sleep(0)


async def commits_of(member: Member) -> list[asyncio.Task[None]]:
    """Three partitions commit: the first is on its way, the others wait."""
    offsets = OffsetCommits(cast("GroupConsumer", member))
    tasks = [asyncio.create_task(offsets.commit(source, 5 + n)) for n, source in enumerate(SOURCES)]
    await settled()
    return tasks


async def test_who_comes_while_a_request_is_on_its_way_shares_the_next() -> None:
    """Three partitions take two requests, and nobody goes on before the answer to its own."""
    member = Member()
    tasks = await commits_of(member)
    member.answer.release()
    await settled()

    assert [{A: 5}, {B: 6, C: 7}] == member.asked
    assert [True, False, False] == [task.done() for task in tasks]

    member.answer.release()
    await asyncio.wait_for(asyncio.gather(*tasks), 1.0)

    assert 2 == len(member.asked)


async def test_a_refusal_is_the_failure_of_who_asked() -> None:
    """Who shared the request asks again, for it cannot know whether its offset was moved."""
    member = Member(refused=1)
    tasks = await commits_of(member)
    for _ in range(3):
        member.answer.release()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1.0)

    assert [None, CommitFailedError, None] == [result and type(result) for result in results]
    assert [{A: 5}, {B: 6, C: 7}, {C: 7}] == member.asked


@pytest.mark.parametrize(
    ("answered", "cancelled", "asked_then"),
    [(0, 0, [{B: 6, C: 7}]), (0, 1, [{C: 7}]), (0, 2, [{B: 6}]), (1, 1, [{C: 7}]), (1, 2, [])],
    ids=["who asks", "who waits", "the last", "who asks for two", "who shares"],
)
async def test_one_that_is_cancelled_takes_nobody_with_it(
    answered: int, cancelled: int, asked_then: list[dict[TopicPartition, int]]
) -> None:
    """The others' offsets move, and its own is asked for no more: the partition may be somebody else's."""
    member = Member()
    tasks = await commits_of(member)
    for _ in range(answered):
        member.answer.release()
    await settled()
    n_asked = len(member.asked)
    tasks[cancelled].cancel()
    for _ in range(3):
        member.answer.release()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1.0)

    assert [number for number, result in enumerate(results) if result is not None] == [cancelled]
    assert asked_then == member.asked[n_asked:]
