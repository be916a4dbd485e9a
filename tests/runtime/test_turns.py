"""Batches of several partitions follow each other; none reads what another has not committed."""

from __future__ import annotations

import asyncio

import pytest

from online_models.fold import ModelSet
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary
from stream.runtime.chunks import Joiner, cut
from stream.runtime.turns import Lesson, ModelTurns


class Counter:
    """Models that count items, and turns on them."""

    def __init__(self, patience_s: float = 0.0) -> None:
        vocabulary = Vocabulary(16)
        self.popularity = DecayedPopularity(vocabulary)
        self.models = ModelSet([self.popularity], vocabulary)
        self.turns = ModelTurns(self.models, patience_s)

    async def learn(self, item: str) -> Lesson:
        """One batch of one event, up to its commit."""
        async with self.turns.turn() as models:
            models.begin()
            self.popularity.learn_one(item, at=1.0)
            return self.turns.leave()

    async def speak(self, item: str, committed: asyncio.Event) -> None:
        """One batch that has the floor within 5 s, and whose commit ends with an event."""
        async with asyncio.timeout(5), self.turns.floor():
            lesson = await self.learn(item)
            self.turns.commits()
            await committed.wait()
            await self.turns.settle(lesson)

    def count(self, item: str) -> float:
        """How often an item is in the models."""
        return self.popularity.count(item, 1.0, 0)


async def test_a_lonely_batch_is_kept_without_a_fold() -> None:
    """Nobody needs the models meanwhile: the batch stays in them."""
    counter = Counter()
    lesson = await counter.learn("a")
    assert 1.0 == counter.count("a")
    await counter.turns.settle(lesson)
    assert 1.0 == counter.count("a")
    assert not counter.models.vocabulary.is_open


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
async def test_overlapping_batches_see_committed_ones_only(order: tuple[int, ...]) -> None:
    """Three batches wait for their commits at once, which come in any order."""
    counter, lessons = Counter(), []
    for item in ("a", "b", "c"):
        lessons.append(await counter.learn(item))
        assert [item] == [other for other in ("a", "b", "c") if counter.count(other)]
    for place in order:
        await counter.turns.settle(lessons[place])
        async with counter.turns.turn():
            settled = [bool(counter.count(item)) for item in ("a", "b", "c")]
        assert settled == [n in order[: order.index(place) + 1] for n in range(3)]


async def test_an_aborted_batch_leaves_no_trace() -> None:
    """Whether it was in the models still, or rolled back before."""
    counter = Counter()
    before = counter.models.digest()
    first = await counter.learn("a")
    second = await counter.learn("b")
    counter.turns.abandon(second)
    counter.turns.abandon(first)
    assert before == counter.models.digest()


async def test_turns_are_taken_one_by_one() -> None:
    """A turn that is cancelled gives the models back."""
    counter, entered = Counter(), asyncio.Event()

    async def linger() -> None:
        async with counter.turns.turn():
            entered.set()
            await asyncio.sleep(3600)

    holder = asyncio.create_task(linger())
    await entered.wait()
    waiter = asyncio.create_task(counter.learn("a"))
    await asyncio.sleep(0)
    assert not waiter.done()
    holder.cancel()
    await counter.turns.settle(await waiter)
    assert 1.0 == counter.count("a")


async def test_a_batch_waits_for_the_commit_of_the_one_before() -> None:
    """So nothing is undone: the second finds the first in the models."""
    counter, commit = Counter(patience_s=3600.0), asyncio.Event()
    first = asyncio.create_task(counter.speak("a", commit))
    second = asyncio.create_task(counter.speak("b", commit))
    await asyncio.sleep(0.01)
    assert (1.0, 0.0) == (counter.count("a"), counter.count("b"))
    commit.set()
    await asyncio.gather(first, second)
    assert (1.0, 1.0) == (counter.count("a"), counter.count("b"))


async def test_a_commit_that_takes_long_lets_the_others_go_on() -> None:
    """It is undone for them, and folded when it is there; it does not pass on a floor that it has lost."""
    counter, slow, commit = Counter(patience_s=0.01), asyncio.Event(), asyncio.Event()
    commit.set()
    first = asyncio.create_task(counter.speak("a", slow))
    await asyncio.sleep(0)
    await counter.speak("b", commit)
    assert (0.0, 1.0) == (counter.count("a"), counter.count("b"))
    async with counter.turns.floor():
        slow.set()
        await first
        third = asyncio.create_task(counter.speak("c", commit))
        await asyncio.sleep(0.02)
        assert not third.done()
    await third
    assert [1.0] * 3 == [counter.count(item) for item in "abc"]


async def test_patience_counts_from_the_commit() -> None:
    """However long a batch is learned, nobody comes between; one that is cancelled passes the floor on."""
    counter = Counter(patience_s=0.0)

    async def linger() -> None:
        async with counter.turns.floor():
            await asyncio.sleep(3600)

    holder = asyncio.create_task(linger())
    await asyncio.sleep(0)
    commit = asyncio.Event()
    commit.set()
    waiter = asyncio.create_task(counter.speak("a", commit))
    await asyncio.sleep(0.01)
    assert not waiter.done()
    holder.cancel()
    await waiter
    assert 1.0 == counter.count("a")


def test_parts_without_their_rest_are_dropped() -> None:
    """A writer that died within a delta leaves parts that nobody joins to the next one."""
    joiner = Joiner()
    torn, whole = list(cut(b"torn delta", 4)), list(cut(b"whole", 4))
    assert [None, None] == [joiner.add(*part) for part in torn[:2]]
    assert [None, b"whole"] == [joiner.add(*part) for part in whole]
    assert [None, None] == [joiner.add(*part) for part in torn[1:]]
    assert [b""] == [joiner.add(*part) for part in cut(b"", 4)]
