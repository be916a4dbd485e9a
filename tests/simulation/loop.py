"""An asyncio event loop on a virtual clock, and the machines whose work it runs.

Nothing sleeps: when nothing is ready, the clock jumps to the next timer. Which machine goes on next is drawn
from the seed, so one seed is one order of events. A machine stands for a process: it can be frozen, so that
its work waits, and it can be killed, so that its work never goes on, `finally` included.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final

TICK_S: Final = 1e-6  # a clock that stood still would never end a wait that rounding left a little short
UNWIND_S: Final = 60.0
UNWIND_ROUNDS: Final = 5
STALL_STEPS: Final = 200_000  # callbacks without the clock moving: something spins


class DeadlockError(Exception):
    """Nothing is ready and no timer is set: whoever waits will wait for ever."""


class Machine:
    """What one process of the simulation has to do; tasks started inside belong to it.

    Attributes
    ----------
    frozen : bool
        Its work waits until it is thawed; timers that end meanwhile wait, too.
    dead : bool
        Its work never goes on.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.dead = False
        self.ready: deque[asyncio.Handle] = deque()
        self.context: Context = copy_context()
        self.context.run(_MACHINE.set, self)

    def __repr__(self) -> str:
        return f"Machine({self.name})"

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Begin a task of this machine."""
        return asyncio.get_running_loop().create_task(work, name=name, context=self.context.copy())


_MACHINE: ContextVar[Machine] = ContextVar("machine")
WORLD: Final = Context()  # of what no machine does: broker, network, faults


def current_machine() -> Machine | None:
    """Machine whose work runs now; ``None`` for the world around: broker, network and the test itself."""
    return _MACHINE.get(None)


class _Future(asyncio.Future[Any]):
    """A future with a hash that is the same in every run: sets of futures keep their order."""

    def __init__(self, *, loop: SimulatedLoop) -> None:
        self._serial = next(loop.serials)
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._serial


class _Task(asyncio.Task[Any]):
    """A task with a hash that is the same in every run."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: SimulatedLoop,
        name: str | None = None,
        context: Context | None = None,
    ) -> None:
        self._serial = next(loop.serials)
        self.machine = current_machine() if context is None else context.get(_MACHINE)
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._serial


def _task_factory(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], context: Context | None = None
) -> asyncio.Task[Any]:
    assert isinstance(loop, SimulatedLoop)
    return _Task(coro, loop=loop, context=context)


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs callbacks in an order drawn from the seed, on a clock that only timers move.

    Attributes
    ----------
    service : object
        What the simulated network is for clients that are opened on this loop.
    errors : list
        What the tasks and callbacks of living machines raised unseen.
    """

    def __init__(self, seed: Hashable = 0, start: float = 0.0) -> None:
        super().__init__()
        self.serials = itertools.count(1)
        self.random = random.Random(f"loop {seed}")
        self.service: Any = None
        self.errors: list[dict[str, Any]] = []
        self._now = start
        self._world = Machine.__new__(Machine)
        self._world.name, self._world.frozen, self._world.dead = "world", False, False
        self._world.ready = deque()
        self._machines: list[Machine] = []
        self._runnable: list[Machine] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._steps = 0
        self.set_task_factory(_task_factory)  # type: ignore[arg-type]  # typeshed wants a generic one
        self.set_exception_handler(self._note_error)

    def time(self) -> float:
        """Virtual time, s."""
        return self._now

    def create_future(self) -> asyncio.Future[Any]:
        """Future whose hash does not depend on where it lies in memory."""
        return _Future(loop=self)

    def call_at(  # type: ignore[override]  # typeshed spells the arguments with a TypeVarTuple
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback at a time."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (max(when, self._now), next(self.serials), timer))
        return timer

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback after a while."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def freeze(self, machine: Machine) -> None:
        """Let a machine do nothing until :meth:`thaw`."""
        machine.frozen = True
        self._machines.append(machine)
        self._unlist(machine)

    def thaw(self, machine: Machine) -> None:
        """Let a machine go on with all that came up meanwhile."""
        machine.frozen = False
        self._list(machine)

    def kill(self, machine: Machine) -> None:
        """Stop a machine between two of its steps, for ever."""
        machine.dead = True
        self._machines.append(machine)
        self._unlist(machine)

    def unwind(self) -> None:
        """End all tasks, those of the dead included, so that nothing is left to the garbage collector.

        Nobody may hear them any more: their network has to be gone.
        """
        for machine in self._machines:
            machine.dead = machine.frozen = False
            self._list(machine)
        for _ in range(UNWIND_ROUNDS):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self._steps = 0
            self.run_until_complete(asyncio.wait(tasks, timeout=UNWIND_S))

    def run_in_executor(  # type: ignore[override]  # typeshed spells the arguments with a TypeVarTuple
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run it here and now: threads end in an order that nobody draws."""
        done = self.create_future()
        done.set_result(func(*args))
        return done

    def _call_soon(
        self, callback: Callable[..., object], args: Any, context: Context | None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def _enqueue(self, handle: asyncio.Handle) -> None:
        machine = handle._context.get(_MACHINE, self._world)  # type: ignore[attr-defined]  # CPython's slot
        machine.ready.append(handle)
        if len(machine.ready) == 1:
            self._list(machine)

    def _list(self, machine: Machine) -> None:
        if machine.ready and not (machine.frozen or machine.dead) and machine not in self._runnable:
            self._runnable.append(machine)

    def _unlist(self, machine: Machine) -> None:
        if machine in self._runnable:
            self._runnable.remove(machine)

    def _run_once(self) -> None:
        """Run one callback; let time pass first when there is none."""
        runnable = self._runnable
        if not runnable:
            self._pass_time()
            return
        self._steps += 1
        if self._steps > STALL_STEPS:
            raise DeadlockError(f"{STALL_STEPS} steps at {self._now}: something spins")
        machine = runnable[0] if len(runnable) == 1 else self.random.choice(runnable)
        handle = machine.ready.popleft()
        if not machine.ready:
            runnable.remove(machine)
        if not handle.cancelled():
            handle._run()

    def _pass_time(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise DeadlockError(f"nothing will ever happen after {self._now}")
        self._steps, self._now = 0, max(timers[0][0], self._now + TICK_S)
        while timers and timers[0][0] <= self._now:
            timer = heapq.heappop(timers)[2]
            if not timer.cancelled():
                self._enqueue(timer)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to do: cancelled timers are passed by."""

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def _write_to_self(self) -> None:
        """There is no other thread to wake us from."""
