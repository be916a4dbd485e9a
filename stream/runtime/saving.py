"""When the cache of a partition's state is written: now and then beside the batches, and on a clean stop."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING

from stream.runtime.statecache import Mark

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from stream.core.state import PartitionState
    from stream.runtime.statecache import StateCache

__all__ = ["StateSaver"]


class StateSaver:
    """Writes the state of one partition as committed to its cache.

    Parameters
    ----------
    busy : asyncio.Lock
        Held while a batch is in hand.
    interval_s : float
        Least time between two copies, seconds of the loop's clock.
    count : callable
        Told ``written`` or ``failed``.
    """

    def __init__(
        self,
        cache: StateCache,
        state: PartitionState,
        busy: asyncio.Lock,
        interval_s: float,
        count: Callable[[str], None],
    ) -> None:
        self.mark: Mark | None = None
        self._cache = cache
        self._state = state
        self._busy = busy
        self._interval_s = interval_s
        self._count = count
        self._clock = asyncio.get_running_loop().time
        self._saved_at = self._clock()
        self._saving: asyncio.Task[None] | None = None

    def committed(self, mark: Mark) -> None:
        """Note what is committed now, and begin a copy if the last one is old enough."""
        self.mark = mark
        due = self._clock() - self._saved_at > self._interval_s
        if due and (self._saving is None or self._saving.done()):
            self._saving = asyncio.create_task(self._save(self._busy), name="state cache")

    async def save_last(self) -> None:
        """Write the cache once more while no batch can come; a copy that is being made is given up."""
        await self.stop()
        await self._save(nullcontext())

    async def stop(self) -> None:
        """Give up a copy that is being made."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)

    async def _save(self, gate: AbstractAsyncContextManager[None]) -> None:
        self._saved_at = self._clock()
        if self.mark is not None:
            done = await self._cache.save(self._state, lambda: self.mark, gate)
            self._count("written" if done else "failed")
