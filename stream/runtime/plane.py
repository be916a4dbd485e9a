"""The data plane: one consumer in a group, one task per assigned partition, one loop that feeds them.

Kafka's group protocol assigns partitions; the listener only notes what changed. The loop opens partitions
(fence, restore, position) in the background, hands fetched records to their tasks, rebuilds a task that
failed, and lets time pass in idle ones.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import mode
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    ProducerFenced,
)

from stream.core.reference import Reference
from stream.runtime.errors import (
    BrokerUnreachableError,
    OffsetGapError,
    TooManyRebuildsError,
    TopicMismatchError,
    WorkerError,
)
from stream.runtime.partition import EngineFailedError, PartitionTask
from stream.runtime.quarantine import Suspects
from stream.runtime.shared import Shared, restore_shared
from stream.runtime.topics import TopicNames, open_admin, plan, require_partitions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterable
    from typing import Any

    from stream.runtime.consuming import LogRecord
    from stream.runtime.metrics import Metrics
    from stream.settings import Settings

__all__ = ["DataPlane"]

MAX_REBUILDS: Final = 5
REBUILD_WINDOW_S: Final = 600.0
REBUILD_PAUSE_S: Final = 0.2
MAX_PAUSE_S: Final = 3.0
STALLED_S: Final = 30.0  # lag without a commit: not ready
DEAD_S: Final = 120.0  # the same: give up, and let the supervisor start afresh
TICK_S: Final = 1.0
STOP_S: Final = 3.0
SAVE_S: Final = 10.0  # to write the caches of user state; what is not done by then is left out
FETCH_BYTES: Final = 1 << 20

logger = structlog.get_logger(__name__)


class DataPlane(mode.Service):
    """Consumes the events topic and runs the engine on it until stopped.

    Attributes
    ----------
    finished : asyncio.Future
        Ends with the exception that the worker cannot go on from.
    """

    def __init__(self, settings: Settings, metrics: Metrics, reference: Reference | None = None) -> None:
        super().__init__()
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._metrics = metrics
        self._reference = reference if reference is not None else Reference()
        self._names = TopicNames(settings.kafka.topic_prefix)
        self._epoch = 0
        self._restoring = True
        self._assigned = False
        self._owned: dict[int, PartitionTask] = {}
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._suspects = Suspects()
        self._rebuilds: deque[float] = deque()
        self._background: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._consumer: AIOKafkaConsumer
        self._shared: Shared

    async def on_start(self) -> None:
        """Start the loop; it connects and restores by itself, so that the probes answer meanwhile."""
        self._loop_task = self._spawn(self._main(), "data plane")

    async def on_stop(self) -> None:
        """Finish the batch in hand, then leave the group."""
        self._stopping.set()
        if self._loop_task is not None and not self._restoring:
            limit_s = STOP_S + (SAVE_S if self._settings.cache_dir is not None else 0.0)
            await asyncio.wait({self._loop_task}, timeout=limit_s)
        for task in (*self._background, *self._opening.values()):
            task.cancel()
        await asyncio.gather(*self._background, *self._opening.values(), return_exceptions=True)

    def unready(self) -> str | None:
        """Say why the worker has not recovered or does not advance; ``None`` when it does."""
        if self.finished.done():
            return "stopped by an error"
        if self._restoring:
            return "restoring models and reference data"
        if not self._assigned:
            return "no partitions assigned yet"
        if self._opening:
            return f"restoring partitions {sorted(self._opening)}"
        stalled = [p for p in self._owned if self._stalled_s(p) > STALLED_S]
        return f"partitions {stalled} have lag and no commit for {STALLED_S:.0f} s" if stalled else None

    def refresh_gauges(self) -> None:
        """Bring lag, users and model measures up to date."""
        metrics = self._metrics
        for gauge in ("consumer_lag_records", "state_users"):
            metrics[gauge].clear()
        for partition, task in self._owned.items():
            metrics["consumer_lag_records"].labels(str(partition)).set(self._lag(task))
            metrics["state_users"].labels(str(partition)).set(task.n_users)
        if self._restoring:
            return
        models = self._shared.models
        quality = metrics["model_quality"]
        for model, snapshot in (
            ("recommend", models.recommend_metrics.snapshot()),
            ("clicks", models.click_metrics.snapshot()),
            ("offers", models.offer_metrics.snapshot()),
        ):
            for measure, value in snapshot.items():
                quality.labels(model, measure).set(value)

    async def _main(self) -> None:
        """Connect, restore what the worker shares, join the group, feed the partitions."""
        kafka = self._settings.kafka
        async with open_admin(kafka.bootstrap) as admin:
            counts = await require_partitions(admin, kafka)
            for change in await plan(admin, kafka):
                if change.action == "config":
                    logger.warning("topic_differs", topic=change.topic, detail=change.detail)
        self._shared = await restore_shared(
            self._settings, counts, self._metrics, self._reference, self._spawn
        )
        self._restoring = False
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap,
            group_id=kafka.group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=kafka.session_timeout_ms,
            heartbeat_interval_ms=kafka.session_timeout_ms // 5,
            partition_assignment_strategy=(RangePartitionAssignor,),
            fetch_max_wait_ms=kafka.batch_ms,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        listener = _Listener(self)
        await self._consumer.start()
        try:
            self._consumer.subscribe([self._names.events], listener=listener)
            while not self._stopping.is_set():
                await self._turn()
            await asyncio.gather(*(task.save_last() for task in self._owned.values()))
        finally:
            await self._drop(list(self._owned))
            with suppress(TimeoutError, KafkaError, OSError):
                async with asyncio.timeout(STOP_S):
                    await self._consumer.stop()

    async def _turn(self) -> None:
        """Fetch once and process what came."""
        ready = [task.source for task in self._owned.values()]
        if not ready:
            await asyncio.sleep(self._settings.kafka.batch_ms / 1000)
            return
        epoch = self._epoch
        try:
            fetched = await self._consumer.getmany(*ready, timeout_ms=self._settings.kafka.batch_ms)
        except OffsetOutOfRangeError as error:
            raise OffsetGapError(
                f"{self._names.events}: the log no longer holds the next record ({error}); retention overran "
                "the worker, or the broker lost its tail; nothing is skipped silently"
            ) from error
        except (NoOffsetForPartitionError, IllegalStateError):
            return  # the assignment changed while we asked
        # A batch of each in turn: a long fetch of one partition must not hold up the others.
        waiting = {tp.partition: records for tp, records in fetched.items()}
        while waiting and not self._stopping.is_set():
            for partition, records in list(waiting.items()):
                rest = await self._feed(partition, records, epoch)
                if rest:
                    waiting[partition] = rest
                else:
                    del waiting[partition]
        await self._tick_idle()

    async def _feed(self, partition: int, records: list[LogRecord], epoch: int) -> list[LogRecord]:
        """Process one batch of a partition; return the records to go on with."""
        task = self._owned.get(partition)
        # Records fetched before a rebalance, or before a rebuild's seek, are not this task's next ones.
        if task is None:
            return []
        if epoch != self._epoch or records[0].offset < task.position:
            if task.source in self._consumer.assignment():
                self._consumer.seek(task.source, task.position)
            return []
        size = self._suspects.batch_size(partition, records[0].offset, self._settings.kafka.batch_records)
        batch = records[:size]
        try:
            if self._suspects.is_culprit(partition, batch):
                logger.error("record_quarantined", partition=partition, offset=batch[0].offset)
                await task.quarantine(batch[0])
            else:
                await task.run(batch)
        except (EngineFailedError, KafkaError, TimeoutError, OSError) as error:
            if self._owned.get(partition) is not task:
                return []  # revoked under our hands: the new owner goes on from the last commit
            if isinstance(error, EngineFailedError):
                self._suspects.failed(partition, batch)
            await self._rebuild(partition, error)
            return []
        self._suspects.passed(partition, batch)
        return records[size:]

    async def _rebuild(self, partition: int, error: Exception) -> None:
        """Throw a partition's task away and restore it from the log, a bounded number of times."""
        now, epoch = time.monotonic(), self._epoch
        self._rebuilds.append(now)
        while self._rebuilds[0] < now - REBUILD_WINDOW_S:
            self._rebuilds.popleft()
        fenced = isinstance(error, ProducerFenced)
        logger.warning(
            "partition_rebuild", partition=partition, error=repr(error), cause=repr(error.__cause__)
        )
        if len(self._rebuilds) > MAX_REBUILDS and not fenced:
            raise TooManyRebuildsError(
                f"{len(self._rebuilds)} rebuilds within {REBUILD_WINDOW_S:.0f} s, the last for {error!r}; a "
                "new process may help, and the broker's log says more"
            ) from error
        self._metrics["rebuilds"].inc()
        await self._drop([partition])
        if epoch != self._epoch:
            return  # a rebalance came meanwhile: whoever has the partition now opens it
        # Fenced means that somebody else owns the partition, and the group will tell us within a session. If
        # it says nothing by then, the partition is still ours and the broker merely ended a slow transaction.
        pause = self._settings.kafka.session_timeout_ms / 1000 if fenced else REBUILD_PAUSE_S
        self._open(partition, epoch, pause)

    def _open(self, partition: int, epoch: int, pause_s: float = 0.0) -> None:
        self._opening[partition] = self._spawn(
            self._open_task(partition, epoch, pause_s), f"open {partition}"
        )

    async def _open_task(self, partition: int, epoch: int, pause_s: float) -> None:
        """Open a partition, as often as it takes while the broker is away, and give it to the loop."""
        deadline = time.monotonic() + DEAD_S
        while True:
            await asyncio.sleep(pause_s)
            if not self._still_opens(partition, epoch):
                return  # to open it now would fence its new owner
            task = PartitionTask(self._shared, self._consumer, partition)
            try:
                await task.open()
                break
            except (KafkaError, TimeoutError, OSError) as error:
                await task.close()
                if time.monotonic() > deadline:
                    raise BrokerUnreachableError(
                        f"partition {partition} could not be opened for {DEAD_S:.0f} s: {error!r}"
                    ) from error
                pause_s = min(max(2 * pause_s, REBUILD_PAUSE_S), MAX_PAUSE_S)
                logger.warning(
                    "partition_open_failed", partition=partition, error=repr(error), retry_s=pause_s
                )
            except BaseException:
                await task.close()
                raise
        if not self._still_opens(partition, epoch):
            await task.close()
            return
        del self._opening[partition]
        self._owned[partition] = task
        self._consumer.seek(task.source, task.position)
        self._consumer.resume(task.source)

    def _still_opens(self, partition: int, epoch: int) -> bool:
        """Whether the task that asks is the one to open a partition; a rebalance may have come meanwhile."""
        mine = self._opening.get(partition) is asyncio.current_task()
        if mine and epoch != self._epoch:
            del self._opening[partition]
        return mine and epoch == self._epoch

    async def _tick_idle(self) -> None:
        for partition, task in list(self._owned.items()):
            if self._stalled_s(partition) > DEAD_S:
                raise WorkerError(
                    f"partition {partition} has lag and no commit for {DEAD_S:.0f} s; a new process may help"
                )
            if self._lag(task) == 0 and task.idle_s() >= TICK_S:
                try:
                    await task.tick()
                except (KafkaError, TimeoutError, OSError, EngineFailedError) as error:
                    if self._owned.get(partition) is task:
                        await self._rebuild(partition, error)

    def _lag(self, task: PartitionTask) -> int:
        end = (
            self._consumer.last_stable_offset(task.source)
            if task.source in self._consumer.assignment()
            else None
        )
        return (
            max(end - task.position, 0) if end is not None else 1
        )  # not fetched yet: assume there is something

    def _stalled_s(self, partition: int) -> float:
        task = self._owned[partition]
        return time.monotonic() - task.committed_at if self._lag(task) else 0.0

    async def _drop(self, partitions: Iterable[int]) -> None:
        """Forget partitions: their state in memory, their producers."""
        closing: list[Awaitable[None]] = []
        for partition in partitions:
            opening = self._opening.pop(partition, None)
            if opening is not None and opening is not asyncio.current_task():
                opening.cancel()
                closing.append(opening)  # it lets go of the partition before somebody else takes it
            task = self._owned.pop(partition, None)
            if task is not None:
                with suppress(IllegalStateError):
                    self._consumer.pause(task.source)
                closing.append(task.close())
        await asyncio.gather(*closing, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run work in the background; its error is the worker's end."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if task.cancelled() or self.finished.done():
            return
        error = task.exception()
        if error is not None:
            named = error
            if isinstance(error, KafkaError | OSError) and not isinstance(error, WorkerError):
                named = BrokerUnreachableError(f"{task.get_name()}: {error!r}")
                named.__cause__ = error
            self.finished.set_exception(named)

    async def revoked(self) -> None:
        """All partitions may go elsewhere: finish the batch in hand, but not for long, and forget them."""
        self._epoch += 1
        limit_s = self._settings.kafka.session_timeout_ms / 1000 / 5
        if self._owned:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s), self._shared.gate:
                    pass
        await self._drop([*self._owned, *self._opening])

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Start to open the partitions that are ours now."""
        self._epoch += 1
        self._assigned = True
        mine = sorted(partitions)
        logger.info("assigned", partitions=[tp.partition for tp in mine], epoch=self._epoch)
        if mine and mine[-1].partition >= self._shared.n_partitions:
            raise TopicMismatchError(
                f"{self._names.events} has grown from {self._shared.n_partitions} partitions to at least "
                f"{mine[-1].partition + 1}: users have moved away from their state; use a new "
                "NUDGE_KAFKA__TOPIC_PREFIX and replay the events into it"
            )
        self._consumer.pause(*mine)
        for tp in mine:
            self._open(tp.partition, self._epoch)


class _Listener(ConsumerRebalanceListener):
    """Tells the plane; what it raises would be swallowed by aiokafka, so it ends the worker instead."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002  its name
        try:
            await self._plane.revoked()
        except Exception as error:  # noqa: BLE001  aiokafka logs it and goes on with half a state
            self._end(error)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        try:
            self._plane.assigned(assigned)
        except Exception as error:  # noqa: BLE001  as above
            self._end(error)

    def _end(self, error: Exception) -> None:
        if not self._plane.finished.done():
            self._plane.finished.set_exception(error)
