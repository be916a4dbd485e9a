"""The simulated loop: asyncio's tools work on it, time costs nothing, and one seed is one order."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import stream.runtime
from tests.simulation.loop import DeadlockError, Machine, SimulatedLoop

# What runs inside a worker's loop; the broker, its jars and the producing command have a real clock.
ON_A_REAL_CLOCK = {"broker.py", "kafka_jars.py", "producing.py"}


def run(work: Callable[[SimulatedLoop], Coroutine[Any, Any, Any]], seed: int = 0) -> Any:
    """Run work on a fresh loop."""
    loop = SimulatedLoop(seed)
    try:
        return loop.run_until_complete(work(loop))
    finally:
        loop.unwind()
        loop.close()


def test_time_costs_nothing() -> None:
    """An hour of sleep, a timeout in it, a wait, a lock and a gather: no time of ours."""

    async def work(loop: SimulatedLoop) -> list[float]:
        times = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1800):
                await asyncio.sleep(3600)
        times.append(loop.time())
        lock = asyncio.Lock()

        async def hold(seconds: float) -> float:
            async with lock:
                await asyncio.sleep(seconds)
                return loop.time()

        times += await asyncio.gather(hold(10), hold(5))
        sleeping = asyncio.create_task(asyncio.sleep(100))
        done, waiting = await asyncio.wait({sleeping}, timeout=7)
        assert (set(), {sleeping}) == (done, waiting)
        return [*times, loop.time()]

    started = time.monotonic()
    assert [1800, 1810, 1815, 1822] == pytest.approx(run(work))
    assert time.monotonic() - started < 60


def test_waiting_for_nothing_is_an_error() -> None:
    """A future that nobody will end is found at once."""

    async def work(loop: SimulatedLoop) -> None:
        await loop.create_future()

    with pytest.raises(DeadlockError):
        run(work)


def test_spinning_is_an_error() -> None:
    """A task that never lets time pass is found, too."""

    async def work(_loop: SimulatedLoop) -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(DeadlockError, match="spins"):
        run(work)


def test_a_seed_draws_the_order() -> None:
    """Machines take turns in an order that the seed alone decides."""

    async def work(_loop: SimulatedLoop) -> str:
        turns: list[str] = []

        async def take(name: str) -> None:
            for _ in range(20):
                turns.append(name)
                await asyncio.sleep(0)

        await asyncio.gather(*(Machine(name).start(take(name), name) for name in "abc"))
        return "".join(turns)

    orders = [run(work, seed) for seed in (1, 1, 2, 3)]
    assert orders[0] == orders[1]
    assert 3 == len(set(orders))


def test_machines_freeze_and_die() -> None:
    """A frozen machine's timers wait; a dead one's `finally` does not run."""

    async def work(loop: SimulatedLoop) -> list[str]:
        said: list[str] = []

        async def live(name: str) -> None:
            try:
                await asyncio.sleep(1)
                said.append(f"{name} {loop.time():.0f}")
            finally:
                said.append(f"{name} ends")

        frozen, dead = Machine("frozen"), Machine("dead")
        tasks = [frozen.start(live("frozen"), "frozen"), dead.start(live("dead"), "dead")]
        await asyncio.sleep(0.5)
        loop.freeze(frozen)
        loop.kill(dead)
        await asyncio.sleep(5)
        assert not any(task.done() for task in tasks)
        loop.thaw(frozen)
        await asyncio.sleep(0.1)
        return list(said)

    assert ["frozen 6", "frozen ends"] == run(work)


def test_the_plane_has_no_clock_of_its_own() -> None:
    """Modules of the worker ask the loop for the time; the wall clock is for metrics alone."""
    found = []
    for path in sorted(Path(stream.runtime.__path__[0]).glob("*.py")):
        if path.name in ON_A_REAL_CLOCK:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"\btime\.(monotonic|perf_counter|sleep)\b", line):
                found.append(f"{path.name}:{number} {line.strip()}")
    assert not found
