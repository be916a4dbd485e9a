"""The models of one worker, lent to one batch at a time, and which batch may process and commit."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from online_models.delta import DeltaWriter
    from online_models.fold import ModelSet

__all__ = ["NOTHING", "Lesson", "ModelTurns"]


class Lesson:
    """What a batch taught, from its last record to the end of its commit.

    Attributes
    ----------
    delta : bytes
        As others read it; empty where nothing was taught.
    """

    __slots__ = ("_written", "delta")

    def __init__(self, written: DeltaWriter | None) -> None:
        self._written = written
        self.delta = b"" if written is None or written.empty else written.to_bytes()

    def fold(self, models: ModelSet) -> None:
        """Teach the models, which have forgotten it; its bytes need not be read for that."""
        models.fold(self.delta, self._written.reader() if self._written is not None else None)


NOTHING = Lesson(None)


class ModelTurns:
    """Who has the floor, and who has the models.

    One at a time has the floor: a batch from its first record to the end of its commit. Batches whose commits
    overlap keep each other waiting, for each answer of the broker comes to a loop that computes; and what
    was learned before must be undone for the next, and folded after. A commit that takes longer than
    ``patience_s`` loses the floor, so that a broker that is slow for one partition does not stop the others:
    its batch stays in the models until somebody else takes a turn; then it is rolled back, and folded anew
    after the commit. No batch reads what another has not committed.
    """

    def __init__(self, models: ModelSet, patience_s: float = 0.0) -> None:
        self._models = models
        self._patience_s = patience_s
        self._floor = asyncio.Lock()
        self._speaker: asyncio.Task[object] | None = None
        self._losing: asyncio.TimerHandle | None = None
        self._lock = asyncio.Lock()
        self._waiting: Lesson | None = None  # its batch is still open in the models

    @asynccontextmanager
    async def floor(self) -> AsyncIterator[None]:
        """Have the floor inside the block, or until the commit in it has taken too long."""
        await self._floor.acquire()
        self._speaker = speaker = asyncio.current_task()
        try:
            yield
        finally:
            self._pass_on(speaker)

    def commits(self) -> None:
        """Note that the speaker's commit begins: from here on the others' patience counts."""
        if (speaker := asyncio.current_task()) is self._speaker and self._losing is None:
            loop = asyncio.get_running_loop()
            self._losing = loop.call_later(self._patience_s, self._pass_on, speaker)

    def _pass_on(self, speaker: asyncio.Task[object] | None) -> None:
        """Give the next one the floor, if the speaker still has it."""
        if self._speaker is not speaker:
            return
        if self._losing is not None:
            self._losing.cancel()
        self._speaker = self._losing = None
        self._floor.release()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[ModelSet]:
        """Lend the models: they hold committed deltas only, and are nobody else's inside the block."""
        async with self._lock:
            if self._waiting is not None:
                self._models.rollback()
                self._waiting = None
            yield self._models

    def leave(self) -> Lesson:
        """End a turn with the open batch in the models: it waits for its commit."""
        self._waiting = Lesson(self._models.write())
        return self._waiting

    def abandon(self, lesson: Lesson) -> None:
        """Forget a lesson whose commit failed, or whose result only the log knows."""
        if lesson is self._waiting:
            self._models.rollback()
            self._waiting = None

    async def settle(self, lesson: Lesson) -> None:
        """Keep a lesson that is committed. What the caller does next, before it awaits, happens at once."""
        if lesson is self._waiting:
            self._models.keep()
            self._waiting = None
        elif lesson.delta:
            async with self.turn() as models:
                lesson.fold(models)
