"""The partitions that are ours now: opened, fed by a pump each, rebuilt after errors, let go.

Kafka's group protocol assigns; an epoch tells what belongs to which assignment, and whatever was begun under
an older one ends without an effect.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    ProducerFenced,
    TopicAuthorizationFailedError,
)

from stream.runtime.ends import InputEnds
from stream.runtime.errors import (
    BrokerUnreachableError,
    EngineFailedError,
    OffsetGapError,
    TooManyRebuildsError,
    TopicMismatchError,
    WorkerError,
    located,
)
from stream.runtime.memory import give_back
from stream.runtime.offsets import OffsetCommits
from stream.runtime.partition import PartitionTask
from stream.runtime.quarantine import Suspects

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

    from stream.runtime.shared import Shared
    from stream.runtime.transport import GroupConsumer, LogRecord

__all__ = ["Assignment", "Listener"]

MAX_REBUILDS: Final = 5
MAX_FAILURES: Final = 60  # rebuilds for records and timers that the engine fails on; each costs three
REBUILD_WINDOW_S: Final = 600.0
REBUILD_PAUSE_S: Final = 0.2
MAX_PAUSE_S: Final = 3.0
GIVE_UP_S: Final = 120.0  # a partition that cannot be opened for so long ends the worker
TICK_S: Final = 1.0
MANY, MANY_S = 12, 30.0  # assignments that no group of living members hears in such a time
MANY_ERRORS, ERRORS_S = 10, 60.0  # of the group's protocol or of fetches: it will not get better by itself
RETRY_S: Final = 0.05
FETCH_RECORDS: Final = 500  # decoded at once, some milliseconds; all that waits would hold the loop for 50
FETCH_MS: Final = 200  # a partition that was opened meanwhile waits so long for its first fetch
FULL_MS: Final = 20  # one whose inbox was full, while others have nothing

logger = structlog.get_logger(__name__)


class Assignment:
    """What the group gave us.

    Attributes
    ----------
    tasks : dict of int to PartitionTask
        Open partitions.
    opening : dict of int to asyncio.Task
        Partitions on their way to be open.
    heard : bool
        Whether the group has told us anything yet.
    ends : InputEnds
        Where the partitions end, and since when nobody has said.
    """

    def __init__(
        self,
        shared: Shared,
        consumer: GroupConsumer,
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
    ) -> None:
        self.tasks: dict[int, PartitionTask] = {}
        self.opening: dict[int, asyncio.Task[None]] = {}
        self.heard = False
        self._shared = shared
        self._consumer = consumer
        self._offsets = OffsetCommits(consumer)
        self._spawn = spawn
        self._clock = asyncio.get_running_loop().time
        self._opened_at: dict[int, float] = {}  # since when partitions have been on their way to be open
        self._epoch = 0
        self.ends = InputEnds(consumer, self._sources)
        self._wanted = asyncio.Event()  # there is an inbox with room, perhaps
        self._pumps: dict[int, asyncio.Task[None]] = {}
        self._suspects = Suspects()
        self._assigned_at: deque[float] = deque(maxlen=MANY)
        self._errors: deque[float] = deque(maxlen=MANY_ERRORS)
        # Times of rebuilds, by partition, and whether they were for what came in, or for what came due of it.
        self._rebuilds: defaultdict[tuple[int, bool], deque[float]] = defaultdict(deque)

    @property
    def revoke_limit_s(self) -> float:
        """How long a rebalance may wait for the batches in hand: a fifth of a session."""
        return self._shared.settings.kafka.session_timeout_ms / 5000

    def take(self, partitions: Iterable[TopicPartition]) -> None:
        """Start to open the partitions that are ours now."""
        self._epoch += 1
        self.heard = True
        mine = sorted(partitions)
        self._require_peace()
        logger.info("assigned", partitions=[tp.partition for tp in mine], epoch=self._epoch)
        if mine and mine[-1].partition >= self._shared.n_partitions:
            raise TopicMismatchError(
                f"{mine[-1].topic} has grown from {self._shared.n_partitions} partitions to at least "
                f"{mine[-1].partition + 1}: users have moved away from their state; `nudge topics grow` "
                "moves both to topics under a new prefix"
            )
        self._consumer.pause(*mine)
        self._opened_at.clear()
        for tp in mine:
            self._open(tp.partition, self._epoch)

    def _require_peace(self) -> None:
        """Two living workers under one instance id take the partitions from each other for ever."""
        now = self._clock()
        self._assigned_at.append(now)
        instance = self._shared.settings.kafka.instance_id
        if instance is not None and len(self._assigned_at) == MANY and now - self._assigned_at[0] < MANY_S:
            raise WorkerError(
                f"{MANY} assignments within {MANY_S:.0f} s: another worker seems to run under the instance "
                f"id {instance!r} (NUDGE_KAFKA__INSTANCE_ID); each needs its own"
            )

    async def let_go(self, limit_s: float) -> None:
        """Finish the batches in hand, but not for long, and forget all partitions."""
        _ = await self._settle(limit_s)
        await self._drop([*self.tasks, *self.opening])

    async def finish(self, limit_s: float) -> None:
        """The same before a clean stop: what is committed goes to the caches of the state."""
        settled = await self._settle(limit_s)
        await asyncio.gather(*(task.save_last() for task in settled))
        await self._drop([*self.tasks, *self.opening])

    async def _settle(self, limit_s: float) -> list[PartitionTask]:
        """Wait for the batches in hand; the tasks that are returned take no other one."""
        self._epoch += 1
        settled: list[PartitionTask] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                for task in list(self.tasks.values()):
                    await task.busy.acquire()  # and keep it
                    settled.append(task)
        return settled

    def lag(self, task: PartitionTask) -> int:
        """Records between a partition's position and its end."""
        end = self.ends.of(task.source)
        return 1 if end is None else max(end - task.reached, 0)  # not fetched yet: assume there is something

    def stalled(self, limit_s: float) -> list[int]:
        """Partitions that have had lag and no commit for so long."""
        return [p for p, task in self.tasks.items() if self._stalled_s(task) > limit_s]

    def standstill(self) -> dict[int, float]:
        """How long each partition has had lag and no commit, or has been on its way to be open, seconds."""
        now = self._clock()
        opening = {partition: now - self._opened_at[partition] for partition in self.opening}
        return opening | {partition: self._stalled_s(task) for partition, task in self.tasks.items()}

    def _stalled_s(self, task: PartitionTask) -> float:
        return max(self._clock() - task.advanced_at, 0.0) if self.lag(task) else 0.0

    def _sources(self) -> list[TopicPartition]:
        """The partitions that are open, or one that is there in any case."""
        return [task.source for task in self.tasks.values()] or [TopicPartition(self._shared.names.events, 0)]

    def excuse(self, late_s: float) -> None:
        """Leave time in which the whole process stood still out of what partitions took without a commit."""
        self.ends.excuse(late_s)
        for task in self.tasks.values():
            task.advanced_at += late_s

    def check_group(self) -> None:
        """Let the group be joined again after an error of its protocol; raise one that keeps coming."""
        try:
            self._consumer.check_group()
        except KafkaError as error:
            self._tolerate(error)

    def _tolerate(self, error: KafkaError) -> None:
        now = self._clock()
        self._errors.append(now)
        many = len(self._errors) == MANY_ERRORS and now - self._errors[0] < ERRORS_S
        if many or isinstance(error, GroupAuthorizationFailedError | TopicAuthorizationFailedError):
            raise error
        logger.warning("group_error", error=repr(error))

    async def fetch(self) -> None:
        """Hand what is fetched to the partitions' inboxes until cancelled.

        Records of a full inbox are not asked for. aiokafka keeps what it has of them; of a paused partition
        that is asked for it throws them away, in a cycle of references, and fetches them again.
        """
        while True:
            epoch, tasks = self._epoch, self.tasks.values()
            sources = [task.source for task in tasks if not task.inbox.full]
            if not sources:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            wait_ms = FETCH_MS if len(sources) == len(tasks) else FULL_MS
            try:
                fetched = await self._consumer.getmany(
                    *sources, timeout_ms=wait_ms, max_records=FETCH_RECORDS
                )
            except OffsetOutOfRangeError as error:
                await self._lose(error, epoch)
                continue
            except (NoOffsetForPartitionError, IllegalStateError):
                await asyncio.sleep(RETRY_S)  # the assignment changed while we asked
                continue
            except KafkaError as error:
                self._tolerate(error)
                await asyncio.sleep(RETRY_S)
                continue
            for source, records in fetched.items():
                task = self.tasks.get(source.partition)
                if task is not None and self._is_next(task, records, epoch):
                    task.inbox.put(records)
                    if task.inbox.full:
                        self._consumer.pause(source)
            if epoch == self._epoch:
                await self._look_ahead([source for source in sources if source not in fetched])

    async def _look_ahead(self, sources: Iterable[TopicPartition]) -> None:
        """Note how far partitions were fetched that gave no records: there may be none up to their ends."""
        for source in sources:
            task = self.tasks.get(source.partition)
            if task is None:
                continue
            try:
                task.seen = await self._consumer.position(source)
            except IllegalStateError:
                return  # it is not ours any more
            except KafkaError as error:
                self._tolerate(error)

    async def _pump(self, task: PartitionTask) -> None:
        """Feed a partition until it is dropped or has failed."""
        epoch = self._epoch
        while self._owns(task):
            await task.inbox.wait(TICK_S)
            records: list[LogRecord] = []
            try:
                async with self._shared.turns.floor():  # what comes until we have it joins the batch
                    records = self._take(task)
                    async with task.busy:
                        await self._feed(task, records)
            except (EngineFailedError, KafkaError, TimeoutError, OSError) as error:
                if self._owns(task) and epoch == self._epoch:
                    await self._rebuild(task, records, error)
                else:  # it is being revoked: whoever gets it next goes on from the last commit
                    logger.warning("partition_lost", partition=task.source.partition, error=repr(error))
                return

    def _take(self, task: PartitionTask) -> list[LogRecord]:
        """The next batch of what was fetched, and room for more."""
        inbox, usual = task.inbox, self._shared.settings.kafka.batch_records
        was_full = inbox.full
        records = inbox.take(self._suspects.batch_size(task.source.partition, inbox.first(), usual))
        if was_full and not inbox.full:
            self._consumer.resume(task.source)
            self._wanted.set()
        return records

    def _owns(self, task: PartitionTask) -> bool:
        return self.tasks.get(task.source.partition) is task

    def _is_next(self, task: PartitionTask, records: list[LogRecord], epoch: int) -> bool:
        """Whether records are the task's next ones: not fetched before a rebalance, or before a seek."""
        if epoch == self._epoch and records[0].offset >= task.inbox.next_offset:
            return True
        with suppress(IllegalStateError):  # it is not ours any more
            self._consumer.seek(task.source, task.inbox.next_offset)
        return False

    async def _lose(self, error: OffsetOutOfRangeError, epoch: int) -> None:
        """Stop where records that were never read are gone, or go on with what there is if we may."""
        for source in error.args[0]:
            task = self.tasks.get(source.partition)
            if task is None or epoch != self._epoch:
                continue
            if not self._shared.settings.kafka.accept_gap:
                raise OffsetGapError(
                    f"{source.topic} partition {source.partition}: the log no longer holds the next record "
                    f"({error}); retention overran the worker, or the broker lost its tail; nothing is "
                    "skipped silently (NUDGE_KAFKA__ACCEPT_GAP=true goes on at the first record there is)"
                ) from error
            await self._rebuild(task, [], error)  # which looks for a position anew

    async def _feed(self, task: PartitionTask, records: list[LogRecord]) -> None:
        """Process one batch, or let time pass where there is none."""
        partition = task.source.partition
        if not records:
            if self.lag(task) == 0 and task.idle_s() >= TICK_S:
                await task.tick()
            return
        if self._suspects.is_culprit(partition, records):
            logger.error("record_quarantined", partition=partition, offset=records[0].offset)
            await task.quarantine(records[0])
        else:
            await task.run(records)
        self._suspects.passed(partition, records)

    async def _rebuild(self, task: PartitionTask, records: list[LogRecord], error: Exception) -> None:
        """Throw a partition's task away and restore it from the log, a bounded number of times."""
        now, epoch, partition = self._clock(), self._epoch, task.source.partition
        due = error.due if isinstance(error, EngineFailedError) else None
        of_input = isinstance(error, EngineFailedError) and (bool(records) or due is not None)
        if due is not None:
            self._suspects.due_failed(partition, due)
        elif of_input:
            self._suspects.failed(partition, records)
        # Of this partition alone: an outage of the broker costs each one.
        rebuilds, limit = self._rebuilds[partition, of_input], MAX_FAILURES if of_input else MAX_REBUILDS
        rebuilds.append(now)
        while rebuilds[0] < now - REBUILD_WINDOW_S:
            rebuilds.popleft()
        fenced = isinstance(error, ProducerFenced)
        logger.warning(
            "partition_rebuild", partition=partition, error=repr(error), cause=located(error.__cause__)
        )
        if len(rebuilds) > limit and not fenced:
            raise TooManyRebuildsError(
                f"{len(rebuilds)} rebuilds of partition {partition} within {REBUILD_WINDOW_S:.0f} s, the "
                f"last for {error!r}; a new process may help, and the broker's log says more"
            ) from error
        self._shared.metrics["rebuilds"].inc()
        await self._drop([partition])
        if epoch != self._epoch:
            return  # a rebalance came meanwhile: whoever has the partition now opens it
        # Fenced means that somebody else owns the partition, and the group will tell us within a session. If
        # it says nothing by then, the partition is still ours and the broker merely ended a slow transaction.
        pause = self._shared.settings.kafka.session_timeout_ms / 1000 if fenced else REBUILD_PAUSE_S
        self._open(partition, epoch, pause)

    def _open(self, partition: int, epoch: int, pause_s: float = 0.0) -> None:
        _ = self._opened_at.setdefault(partition, self._clock())
        self.opening[partition] = self._spawn(self._open_task(partition, epoch, pause_s), f"open {partition}")

    async def _open_task(self, partition: int, epoch: int, pause_s: float) -> None:
        """Open a partition, as often as it takes while the broker is away, and start its pump."""
        deadline = self._clock() + GIVE_UP_S
        while True:
            await asyncio.sleep(pause_s)
            if not self._still_opens(partition, epoch):
                return  # to open it now would fence its new owner
            task = PartitionTask(self._shared, self._consumer, self._offsets, partition)
            try:
                await task.open()
                break
            except (KafkaError, TimeoutError, OSError) as error:
                await task.close()
                if self._clock() > deadline:
                    raise BrokerUnreachableError(
                        f"partition {partition} could not be opened for {GIVE_UP_S:.0f} s: {error!r}"
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
        del self.opening[partition]
        del self._opened_at[partition]
        self.tasks[partition] = task
        if given_up := self._suspects.given_up(partition):
            logger.error("timers_given_up", partition=partition, kinds=[due.kind for due in given_up])
            task.give_up(given_up)
        self._wanted.set()
        self._consumer.seek(task.source, task.position)
        self._consumer.resume(task.source)
        self._pumps[partition] = self._spawn(self._pump(task), f"partition {partition}")
        if not self.opening:
            give_back()

    def _still_opens(self, partition: int, epoch: int) -> bool:
        """Whether the task that asks is the one to open a partition; a rebalance may have come meanwhile."""
        mine = self.opening.get(partition) is asyncio.current_task()
        if mine and epoch != self._epoch:
            del self.opening[partition]
        return mine and epoch == self._epoch

    async def _drop(self, partitions: Iterable[int]) -> None:
        """Forget partitions: what works on them, their state in memory, their producers."""
        ending: list[asyncio.Task[None]] = []
        closing: list[Coroutine[Any, Any, None]] = []
        for partition in partitions:
            for work in (self.opening.pop(partition, None), self._pumps.pop(partition, None)):
                if work is not None and work is not asyncio.current_task():
                    work.cancel()
                    ending.append(work)  # it lets go of the partition before somebody else takes it
            task = self.tasks.pop(partition, None)
            if task is not None:
                with suppress(IllegalStateError):
                    self._consumer.pause(task.source)
                closing.append(task.close())
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.gather(*closing, return_exceptions=True)


class Listener(ConsumerRebalanceListener):
    """Tells the assignment; what it raises would be swallowed by aiokafka, so it ends the worker instead."""

    def __init__(self, assignment: Assignment, fail: Callable[[BaseException], None]) -> None:
        self._assignment = assignment
        self._fail = fail

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002  its name
        """All partitions may go elsewhere."""
        try:
            await self._assignment.let_go(self._assignment.revoke_limit_s)
        except Exception as error:  # noqa: BLE001  aiokafka logs it and goes on with half a state
            self._fail(error)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """These are ours until the next revocation."""
        try:
            self._assignment.take(assigned)
        except Exception as error:  # noqa: BLE001  as above
            self._fail(error)
