"""The data plane: a consumer in a group, one task per assigned partition, each fed by a pump of its own.

This service connects, restores what the partitions share, joins the group and watches that offsets advance;
:mod:`stream.runtime.assignment` opens, feeds, rebuilds and lets go of partitions.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import mode
from aiokafka.errors import KafkaError

from stream.core.measuring import merged
from stream.core.quality import ENOUGH
from stream.core.reference import Reference
from stream.report import lift
from stream.runtime.assignment import Assignment, Listener
from stream.runtime.errors import BrokerUnreachableError, WorkerError
from stream.runtime.kafka import KafkaTransport
from stream.runtime.shared import restore_shared

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from stream.runtime.metrics import Metrics
    from stream.runtime.shared import Shared
    from stream.runtime.transport import Transport
    from stream.settings import Settings

__all__ = ["DataPlane"]

STALLED_S: Final = 30.0  # lag without a commit, or no answer from a broker: not ready
DEAD_S: Final = 120.0  # the same: give up, and let the supervisor start afresh
WATCH_S: Final = 0.25
STOP_S: Final = 3.0
SAVE_S: Final = 10.0  # to write the caches of user state; what is not done by then is left out


class DataPlane(mode.Service):
    """Consumes the events topic and runs the engine on it until stopped.

    Attributes
    ----------
    finished : asyncio.Future
        Ends with the exception that the worker cannot go on from.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        reference: Reference | None = None,
        transport: Transport | None = None,
    ) -> None:
        super().__init__()
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._metrics = metrics
        self._reference = reference if reference is not None else Reference()
        self._transport = transport if transport is not None else KafkaTransport(settings.kafka)
        self._stopping = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._loop_task: asyncio.Task[None] | None = None
        self._shared: Shared | None = None
        self._assignment: Assignment | None = None

    async def on_start(self) -> None:
        """Start the loop; it connects and restores by itself, so that the probes answer meanwhile."""
        self._loop_task = self.spawn(self._main(), "data plane")

    async def on_stop(self) -> None:
        """Finish the batches in hand, then leave the group."""
        self._stopping.set()
        if self._loop_task is not None and self._assignment is not None:
            await asyncio.wait({self._loop_task}, timeout=self.stop_limit_s)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run work in the background; its error is the worker's end."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._on_done)
        return task

    def fail(self, error: BaseException) -> None:
        """End the worker with an error; the first one counts."""
        if not self.finished.done():
            self.finished.set_exception(error)

    @property
    def stop_limit_s(self) -> float:
        """How long a clean stop may take: longer with a cache of user state, which is written then."""
        return STOP_S + (SAVE_S if self._settings.cache_dir is not None else 0.0)

    def unready(self) -> str | None:
        """Say why the worker has not recovered or does not advance; ``None`` when it does."""
        if self.finished.done():
            return "stopped by an error"
        if self._assignment is None:
            return "restoring models and reference data"
        if not self._assignment.heard:
            return "no partitions assigned yet"
        if self._assignment.opening:
            return f"restoring partitions {sorted(self._assignment.opening)}"
        if self._assignment.ends.silent_s() > STALLED_S:
            return f"no answer from the brokers of the input for {STALLED_S:.0f} s"
        stalled = self._assignment.stalled(STALLED_S)
        return f"partitions {stalled} have lag and no commit for {STALLED_S:.0f} s" if stalled else None

    def refresh_gauges(self) -> None:
        """Bring lag, users, lift and model measures up to date."""
        metrics = self._metrics
        for gauge in ("consumer_lag_records", "partition_stalled_seconds", "state_users", "switches_stopped"):
            metrics[gauge].clear()
        metrics["loop_tasks"].set(len(asyncio.all_tasks()))
        if self._assignment is None or self._shared is None:
            return
        metrics["broker_silent_seconds"].set(self._assignment.ends.silent_s())
        for partition, seconds in self._assignment.standstill().items():
            metrics["partition_stalled_seconds"].labels(str(partition)).set(seconds)
        for partition, task in self._assignment.tasks.items():
            metrics["consumer_lag_records"].labels(str(partition)).set(self._assignment.lag(task))
            metrics["state_users"].labels(str(partition)).set(task.n_users)
            metrics["switches_stopped"].labels(str(partition)).set(task.n_stopped)
        tallies = merged(task.lift for task in self._assignment.tasks.values())
        rules = self._settings.lift
        metrics.show_lift(lift(tallies, rules.alpha, rules.sample_ratio_p_value))
        models = self._shared.models
        for model, watch in models.drift.items():
            metrics["model_drift_alarms"].labels(model).inc(watch.take_alarms())
        quality = metrics["model_quality"]
        for model, snapshot in (
            ("recommend", models.recommend_metrics.snapshot()),
            ("clicks", models.click_metrics.snapshot()),
            ("offers", models.offer_metrics.snapshot()),
        ):
            for measure, value in snapshot.items():
                quality.labels(model, measure).set(value)
        for model, trial in models.trials.items():
            metrics.show_trial(model, trial.gate, serves=trial.serves)
        metrics.show_quality(models.live.snapshot(len(self._shared.reference.items), ENOUGH))

    async def _main(self) -> None:
        """Connect, restore what the worker shares, join the group, watch."""
        counts = await self._transport.partition_counts()
        shared = self._shared = await restore_shared(
            self._settings, self._transport, counts, self._metrics, self._reference, self.spawn
        )
        consumer = self._transport.group_consumer()
        await consumer.start()
        assignment = self._assignment = Assignment(shared, consumer, self.spawn)
        try:
            consumer.subscribe([shared.names.events], listener=Listener(assignment, self.fail))
            _ = self.spawn(assignment.fetch(), "fetch")
            _ = self.spawn(assignment.ends.follow(), "ends")
            await self._watch(assignment)
            await assignment.finish(STOP_S / 2)
        finally:
            await assignment.let_go(STOP_S / 2)
            with suppress(TimeoutError, KafkaError, OSError):
                async with asyncio.timeout(STOP_S):
                    await consumer.stop()

    async def _watch(self, assignment: Assignment) -> None:
        """Measure how late the loop comes to its callers, and end a worker that stands still."""
        clock, lag = asyncio.get_running_loop().time, self._metrics["loop_lag_seconds"]
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            while not stopping.done():
                due = clock() + WATCH_S
                # Not `wait_for`: on Python 3.11 it takes five turns of the loop to time out, this takes two.
                _, waiting = await asyncio.wait({stopping}, timeout=WATCH_S)
                if waiting:
                    late = max(clock() - due, 0.0)
                    lag.observe(late)
                    assignment.excuse(late)
                assignment.check_group()
                if assignment.ends.silent_s() > DEAD_S:
                    raise BrokerUnreachableError(
                        f"no answer from the brokers of the input for {DEAD_S:.0f} s"
                    )
                if dead := assignment.stalled(DEAD_S):
                    raise WorkerError(
                        f"partitions {dead} have lag and no commit for {DEAD_S:.0f} s; a new process may help"
                    )
        finally:
            stopping.cancel()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if task.cancelled():
            if not task.cancelling():  # a request that aiokafka cancelled when its connection went
                self.fail(BrokerUnreachableError(f"{task.get_name()}: the client cancelled a request"))
            return
        error = task.exception()
        if error is None:
            return
        if isinstance(error, KafkaError | OSError):
            named = BrokerUnreachableError(f"{task.get_name()}: {error!r}")
            named.__cause__ = error
            error = named
        self.fail(error)
