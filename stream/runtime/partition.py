"""One input partition: fence, restore, then batch by batch into one transaction each.

The order of a commit, which is the guarantee, stands in :meth:`PartitionTask._commit_exactly_once` alone.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

from schemas.outputs import DeadLetter
from schemas.reasons import RejectCode
from stream.assembly import build_engine
from stream.core.records import Outputs
from stream.runtime.effects import Effects
from stream.runtime.errors import EngineFailedError
from stream.runtime.inbox import Inbox
from stream.runtime.outbox import Outbox
from stream.runtime.position import find_position, is_same_log
from stream.runtime.records import as_record
from stream.runtime.restoring import OF_BATCH, Restored, paused_collection, restore
from stream.runtime.saving import StateSaver
from stream.runtime.statecache import Mark, open_cache
from stream.runtime.statecodec import ROWS
from stream.runtime.turns import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stream.core.engine import Engine
    from stream.core.rows import Tally
    from stream.core.state import Due
    from stream.runtime.offsets import OffsetCommits
    from stream.runtime.shared import Shared
    from stream.runtime.statecache import StateCache
    from stream.runtime.transport import GroupConsumer, LogRecord, Producer
    from stream.runtime.turns import Lesson

__all__ = ["PartitionTask"]

SLICE_RECORDS: Final = 25  # some milliseconds of work; between slices heartbeats and probes get their turn
INBOX_BATCHES: Final = 2
IDLE_COMMIT_S: Final = 30.0  # how much idle time a crash may forget
MAX_TICK_S: Final = 3.0  # ticks come every second; a process that was stopped for hours gets one for all
START_S: Final = 60.0
CLOSE_S: Final = 0.5

logger = structlog.get_logger(__name__)


class PartitionTask:
    """Owner of one input partition from its assignment to its revocation or first error.

    Attributes
    ----------
    position : int
        Offset of the next record to process.
    inbox : Inbox
        Records that were fetched from there on.
    busy : asyncio.Lock
        Held while a batch is in hand; who takes it away waits for that.
    committed_at : float
        The loop's time of the last commit.
    advanced_at : float
        The loop's time at which it last committed, or had nothing to do.
    seen : int
        Offset up to which the input was fetched, with what holds no records: markers, aborted transactions.
    """

    def __init__(
        self, shared: Shared, consumer: GroupConsumer, offsets: OffsetCommits, partition: int
    ) -> None:
        kafka = shared.settings.kafka
        self.source = TopicPartition(shared.names.events, partition)
        self.position = 0
        self.inbox = Inbox(0, INBOX_BATCHES * kafka.batch_records)
        self.busy = asyncio.Lock()
        self._clock = asyncio.get_running_loop().time
        self.committed_at = self.advanced_at = self._ticked_at = self._clock()
        self.seen = 0
        self._handed = 0  # offset after the last record that was processed, perhaps not committed yet
        self._shared = shared
        self._consumer = consumer
        self._offsets = offsets
        self._partition = partition
        self._exactly_once = kafka.guarantee == "exactly_once"
        self._commit_limit_s = kafka.transaction_timeout_ms / 1000
        self._last_ingest = -1  # append time of the last record, ms
        self._owes_offset = False  # a predecessor died between its state and the group's offset
        self._producer: Producer | None = None
        self._saver: StateSaver | None = None
        self._engine: Engine = build_engine(
            shared.settings,
            shared.models,
            shared.reference,
            config=shared.settings.engine_config(partitions=shared.n_partitions),
            codec=ROWS,
        )

    @property
    def n_users(self) -> int:
        """Users whose state is held."""
        return len(self._engine.state)

    @property
    def lift(self) -> Mapping[str, Tally]:
        """Experiments of the partition's users."""
        return self._engine.state.header.lift

    @property
    def n_stopped(self) -> int:
        """Switches that operators have turned off."""
        return len(self._engine.state.header.stopped)

    @property
    def reached(self) -> int:
        """Offset up to which nothing is left to do; what is in hand, or waits, is not done."""
        done = not self.inbox and self._handed <= self.position
        return max(self.position, self.seen) if done else self.position

    def idle_s(self) -> float:
        """Time since the last batch or tick."""
        return self._clock() - self._ticked_at

    async def open(self) -> None:
        """Fence, restore, catch up with the model log, find the position; the order is essential.

        Raises
        ------
        OffsetGapError
            The next record is gone from the input.
        """
        started = self._clock()
        # Fence: an older owner's open transaction ends, and it can never commit again.
        self._producer = self._new_producer()
        try:
            async with asyncio.timeout(START_S):
                await self._producer.start()
        except AssertionError as error:  # aiokafka's: a broker that has just come back may list no brokers
            raise KafkaError(f"no broker known: {error}") from error
        # The offset before the state that it follows: without a fence a former owner may still move both.
        committed = await self._consumer.committed(self.source)
        changelog = TopicPartition(self._shared.names.user_state, self._partition)
        cache = await open_cache(self._shared.settings, self._shared.transport, changelog)
        with paused_collection():
            restored = await restore(self._shared.transport, changelog, cache)
            if restored is not None:
                lateness_s = self._shared.settings.campaigns.lateness_s
                # In a thread: a million rows take seconds, and other partitions have heartbeats due.
                await asyncio.to_thread(self._engine.state.load, restored.header, restored.rows, lateness_s)
        if cache is not None:
            self._saver = self._new_saver(cache)
            self._saver.mark = restored.mark if restored is not None else None
        await self._shared.model_log.catch_up()
        self._shared.model_log.acquire(self._partition, self)
        self.position = self.inbox.next_offset = await self._find_position(committed, restored)
        await self._shared.commands.follow(self._partition, self._engine.state.header.next_command)
        self.committed_at = self.advanced_at = self._ticked_at = self._clock()
        elapsed = self.committed_at - started
        self._shared.metrics["state_restore_seconds"].observe(elapsed)
        logger.info(
            "partition_open",
            partition=self._partition,
            position=self.position,
            users=self.n_users,
            cached=restored.n_cached if restored is not None else 0,
            seconds=round(elapsed, 3),
        )

    def give_up(self, dues: Iterable[Due]) -> None:
        """Let what the engine failed on again and again not fire when it comes due."""
        self._engine.state.given_up = frozenset(dues)

    async def _find_position(self, committed: int | None, restored: Restored | None) -> int:
        """Compare the log with the state, and note a gap that is accepted."""
        offset, last_ingest = None, None
        if restored is not None:
            offset, last_ingest = restored.next_offset, restored.last_ingest
        same = True
        if offset is not None and last_ingest is not None:
            same = await is_same_log(self._shared.transport, self.source, offset - 1, last_ingest)
            self._last_ingest = last_ingest
        kafka = self._shared.settings.kafka
        position = await find_position(
            self._consumer, self.source, kafka, committed, offset, last_ingest, same_log=same
        )
        self._owes_offset = offset is not None and offset > (committed or 0)
        if offset is not None and not (same and position == offset):
            self._engine.state.header.gaps += 1
            self._last_ingest = -1
            self._owes_offset = True
        return position

    async def run(self, records: Sequence[LogRecord]) -> None:
        """Process records and commit all they cause; on any error this task must be closed and rebuilt."""
        self._handed = records[-1].offset + 1
        covered = self._shared.model_log.covered(self._partition)
        if records[0].offset < covered <= records[-1].offset:
            # at_least_once repeats a batch whose delta was published: split it where learning goes on.
            split = next(n for n, record in enumerate(records) if record.offset >= covered)
            await self._run(records[:split])
            records = records[split:]
        await self._run(records)

    async def tick(self) -> None:
        """Let the time pass that this partition has been idle."""
        now = self.advanced_at = self._clock()
        # Who stood still knows nothing of what came meanwhile: so much of the time was not idle, but unseen.
        elapsed, self._ticked_at = min(now - self._ticked_at, MAX_TICK_S), now
        header = self._engine.state.header
        told = self._shared.commands.waits(self._partition)
        if header.watermark == float("-inf") and not (told or self._owes_offset):
            return
        due = self._engine.awaits(elapsed)
        if due or told or self._owes_offset or now - self.committed_at > IDLE_COMMIT_S:
            await self._run([], elapsed_s=elapsed)
            return
        self._engine.tick(elapsed)  # nothing is due: the watermark alone moves, and the next commit holds it

    async def quarantine(self, record: LogRecord) -> None:
        """Pass a record by that the engine fails on: it becomes a dead letter, and its user's state stays."""
        outputs = Outputs()
        outputs.counts["read",] += 1
        outputs.counts["rejected", RejectCode.POISON.value] += 1
        message = "the engine failed on this record three times"
        outputs.dead_letters.append(
            DeadLetter(
                RejectCode.POISON.value,
                "$",
                message,
                record.key,
                record.value or b"",
                tuple(record.headers),
                record.offset,
            )
        )
        await self._run([record], ready=outputs)

    async def close(self) -> None:
        """Stop the producer and let go of the model log. An open transaction is left to the next fence.

        A producer whose broker does not answer is not waited for, but it goes on to stop: given up half way
        it would keep its connections and refresh its metadata for ever.
        """
        if self._saver is not None:
            await self._saver.stop()
        self._shared.commands.unfollow(self._partition)
        self._shared.model_log.release(self._partition, self)
        producer, self._producer = self._producer, None
        if producer is not None:
            stopping = asyncio.ensure_future(_stop(producer))
            self._shared.stopping.add(stopping)
            stopping.add_done_callback(self._shared.stopping.discard)
            await asyncio.wait({stopping}, timeout=CLOSE_S)

    async def save_last(self) -> None:
        """Write the cache of the state, where there is one, before a clean stop; no batch may be in hand."""
        if self._saver is not None:
            await self._saver.save_last()

    async def _run(
        self, records: Sequence[LogRecord], *, elapsed_s: float = 0.0, ready: Outputs | None = None
    ) -> None:
        shared, started = self._shared, self._clock()
        next_offset = records[-1].offset + 1 if records else self.position
        batch, lesson = await self._learn(records, elapsed_s, ready, next_offset)
        try:
            if lesson.delta:
                first = records[0].offset if records else self.position
                batch.add_delta(lesson.delta, self._partition, first, next_offset)
            self._last_ingest = records[-1].timestamp if records else self._last_ingest
            of_batch = [] if self._exactly_once else [(OF_BATCH, b"%d" % next_offset)]
            await batch.add_state(self._engine.state, next_offset, self._last_ingest, of_batch)
            commit = self._commit_exactly_once if self._exactly_once else self._commit_at_least_once
            shared.turns.commits()
            ends = await commit(batch, next_offset)
        except BaseException:
            shared.turns.abandon(lesson)
            shared.metrics["transactions"].labels("aborted").inc()
            raise
        await shared.turns.settle(lesson)
        if lesson.delta:
            delta_end = ends[shared.names.model_deltas]
            shared.model_log.kept(self._partition, delta_end, next_offset, len(lesson.delta))
        end = ends[shared.names.user_state]
        shared.model_log.path.committed(batch.models, self._partition, end - 1)
        self._forget_batch(batch, next_offset, started, len(lesson.delta))
        if self._saver is not None:
            self._saver.committed(Mark(batch.header, end - batch.n_state, end))

    async def _learn(
        self, records: Sequence[LogRecord], elapsed_s: float, ready: Outputs | None, next_offset: int
    ) -> tuple[Effects, Lesson]:
        """Take a turn with the models; what the batch taught waits for its commit."""
        async with self._shared.turns.turn() as models:
            self._engine.model_version = self._shared.model_log.version
            models.begin()
            try:
                batch = await self._process(records, elapsed_s, ready)
            except BaseException:
                models.rollback()
                raise
            lesson = self._shared.turns.leave()
            if records and next_offset <= self._shared.model_log.covered(self._partition):
                self._shared.turns.abandon(lesson)  # the log has taught these records already
                return batch, NOTHING
            return batch, lesson

    async def _process(
        self, records: Sequence[LogRecord], elapsed_s: float, ready: Outputs | None
    ) -> Effects:
        assert self._producer is not None  # noqa: S101  open() came first
        outbox, state = (Outbox(self._producer, self._partition) for _ in range(2))
        batch = Effects(self._shared.names, outbox, state, self._shared.model_log.path.read())
        batch.ingest_times = [record.timestamp / 1000 for record in records]
        if ready is not None:
            batch.add(ready, self.source, records)
            return batch
        self._obey(batch)
        try:
            if not records:
                batch.add(self._engine.tick(elapsed_s), self.source, records)
            for start in range(0, len(records), SLICE_RECORDS):
                part = records[start : start + SLICE_RECORDS]
                outputs = self._engine.process([as_record(record) for record in part])
                batch.add(outputs, self.source, part)
                await asyncio.sleep(0)
        except Exception as error:
            message = f"the engine failed between {_span(records)}"
            raise EngineFailedError(message, self._engine.state.in_hand) from error
        return batch

    def _obey(self, batch: Effects) -> None:
        """Carry out what operators have ordered since the last batch."""
        commands = self._shared.commands.take(self._partition)
        for command in commands:
            outputs = self._engine.obey(as_record(command))
            batch.add(outputs, TopicPartition(command.topic, self._partition), [command])
            self._engine.state.header.next_command = command.offset + 1
            logger.info("command", partition=self._partition, offset=command.offset, counts=[*outputs.counts])

    async def _commit_exactly_once(self, batch: Effects, next_offset: int) -> dict[str, int]:
        """Commit; return where the changelog and the delta log go on.

        1. begin, 2. send everything, 3. wait until the broker has every batch of it, 4. send the offsets,
        5. commit. Without step 3 a commit would succeed although the broker refused a record.
        """
        producer = self._producer
        assert producer is not None  # noqa: S101  open() came first
        try:
            async with asyncio.timeout(self._commit_limit_s):
                await producer.begin_transaction()  # 1.
                sends = (batch.outbox.send(), batch.state.send())
                sent = await asyncio.gather(*sends, return_exceptions=True)  # 2. and 3.
                outputs, state = _without_errors(sent)
                offsets = {self.source: next_offset}
                await producer.send_offsets_to_transaction(offsets, self._shared.settings.kafka.group)  # 4.
                await producer.commit_transaction()  # 5.
        except (IllegalOperation, AssertionError) as error:
            # How aiokafka refuses the next step after its sender has ended, which it mostly does when fenced.
            raise ProducerFenced(f"the producer has failed: {error!r}") from error
        return outputs | state

    async def _commit_at_least_once(self, batch: Effects, next_offset: int) -> dict[str, int]:
        """Commit without a transaction; return the same.

        1. outputs and delta, 2. state, whose header names the next offset, 3. the offset. A crash after 1
        repeats outputs with the same ids, and learns nothing again that the delta log covers; after 2 nothing
        is repeated, for the header says where to go on.
        """
        async with asyncio.timeout(self._commit_limit_s):
            outputs = await batch.outbox.send()  # 1.
            state = await batch.state.send()  # 2.
            await self._offsets.commit(self.source, next_offset)  # 3.
        return outputs | state

    def _forget_batch(self, batch: Effects, next_offset: int, started: float, delta_bytes: int) -> None:
        """Book what is committed now."""
        self.position = next_offset
        self._owes_offset = False
        self._engine.state.committed()
        self.committed_at = self.advanced_at = self._ticked_at = self._clock()
        metrics, now = self._shared.metrics, time.time()
        metrics.count(batch.counts)
        metrics.count_revenue(batch.revenue)
        metrics["transactions"].labels("committed").inc()
        metrics["batch_processing_seconds"].observe(self.committed_at - started)
        metrics["event_to_effect_seconds"].observe_many(now - ingested for ingested in batch.ingest_times)
        metrics["model_delta_bytes"].inc(delta_bytes)

    def _new_saver(self, cache: StateCache) -> StateSaver:
        writes = self._shared.metrics["state_cache_writes"]
        return StateSaver(
            cache,
            self._engine.state,
            self.busy,
            self._shared.settings.cache_interval_s,
            lambda outcome: writes.labels(outcome).inc(),
        )

    def _new_producer(self) -> Producer:
        group = self._shared.settings.kafka.group
        fence = f"{group}.{self.source.topic}.{self._partition}" if self._exactly_once else None
        return self._shared.transport.producer(f"{group}-{self._partition}", fence)


async def _stop(producer: Producer) -> None:
    with suppress(TimeoutError, KafkaError, OSError):
        await producer.stop()


def _without_errors(sent: Sequence[dict[str, int] | BaseException]) -> list[dict[str, int]]:
    """Raise what went wrong; to have been fenced explains whatever else did."""
    errors = [result for result in sent if isinstance(result, BaseException)]
    if errors:
        raise next((error for error in errors if isinstance(error, ProducerFenced)), errors[0])
    return [result for result in sent if not isinstance(result, BaseException)]


def _span(records: Sequence[LogRecord]) -> str:
    """Where records lie; what is in them is nobody's business in a log."""
    return f"offsets {records[0].offset} and {records[-1].offset}" if records else "two records"
