"""The worker, with a clock on each step of a batch; started by ``benchmarks/latency.py``.

When it ends it writes ``STEPS_FILE``, a JSON object: for each step the samples ``[at, seconds]``, where
``at`` is the wall clock's time of its end. One sample a record:

``fetched``   from its append to the moment the worker has it
``queued``    from there to the moment its batch begins
``done``      from its append to the end of its batch's commit

One sample a batch, in this order:

``turn``      waiting for the models
``engine``    processing, slice by slice, and the model delta
``encode``    the rows of state, up to the first request of the commit
``begin``, ``send``, ``commit``
              the steps of a commit; exactly once sends records and offsets, at least once does not begin
``settle``    keeping or folding what was learned, until the partition may go on

And where they happen: ``gc``, a pause of the garbage collector; ``lag``, how late the event loop comes to
whoever has slept for 5 ms.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition

from stream.runtime.kafka import KafkaTransport
from stream.runtime.partition import PartitionTask
from stream.runtime.transport import Batch, GroupConsumer, LogRecord, Producer, Reader, Sent
from stream.settings import Settings
from stream.worker import run_worker

NAP_S = 0.005


class Steps:
    """Samples by step, and when each partition's last step ended."""

    def __init__(self) -> None:
        self.samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._ended: dict[int, float] = {}
        self._came: defaultdict[int, dict[int, float]] = defaultdict(dict)  # when, by partition and offset
        self._appended: dict[int, list[float]] = {}  # of the records of the batch in hand

    def fetched(self, records: Sequence[LogRecord]) -> None:
        """Records have come from the broker."""
        now = time.time()
        for record in records:
            self._came[record.partition][record.offset] = now
            self.samples["fetched"].append((now, now - record.timestamp / 1000))

    def begin(self, records: Sequence[LogRecord]) -> None:
        """A batch is in hand."""
        now, partition = time.time(), records[0].partition
        self._ended[partition] = now
        self._appended[partition] = [record.timestamp / 1000 for record in records]
        came = self._came[partition]
        for record in records:
            self.samples["queued"].append((now, now - came.pop(record.offset, now)))

    def end(self, partition: int, step: str) -> None:
        """Book the time since the partition's last step, if a batch is in hand."""
        now = time.time()
        if partition in self._ended:
            self.samples[step].append((now, now - self._ended[partition]))
            self._ended[partition] = now

    def done(self, partition: int) -> None:
        """The batch is committed."""
        now = time.time()
        self.samples["done"] += [(now, now - appended) for appended in self._appended.pop(partition, ())]

    def forget(self, partition: int) -> None:
        """No batch is in hand; what comes next may be a tick."""
        self._ended.pop(partition, None)


class _Producer:
    """A producer of one partition, clocked."""

    def __init__(self, inner: Producer, steps: Steps, partition: int, *, transactional: bool) -> None:
        self._inner = inner
        self._steps = steps
        self._partition = partition
        self._transactional = transactional
        self._sending = False
        self.start, self.stop, self.create_batch = inner.start, inner.stop, inner.create_batch
        self.send_offsets_to_transaction = inner.send_offsets_to_transaction

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Awaitable[Sent]:
        if not self._transactional and not self._sending:
            self._steps.end(self._partition, "encode")
            self._sending = True
        return await self._inner.send_batch(batch, topic, partition=partition)

    async def begin_transaction(self) -> None:
        self._steps.end(self._partition, "encode")
        await self._inner.begin_transaction()
        self._steps.end(self._partition, "begin")

    async def commit_transaction(self) -> None:
        self._steps.end(self._partition, "send")
        await self._inner.commit_transaction()
        self._steps.end(self._partition, "commit")
        self._steps.done(self._partition)

    def sent(self) -> None:
        """At least once: everything is with the broker, the offset comes next."""
        self._sending = False
        self._steps.end(self._partition, "send")


class _Consumer:
    """The group's consumer, clocked; what is not clocked is the inner one's."""

    def __init__(self, inner: GroupConsumer, steps: Steps, producers: Mapping[int, _Producer]) -> None:
        self._inner = inner
        self._steps = steps
        self._producers = producers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, list[LogRecord]]:
        found = await self._inner.getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        for records in found.values():
            self._steps.fetched(records)
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        partitions = [tp.partition for tp in offsets]
        for partition in partitions:
            self._producers[partition].sent()
        await self._inner.commit(offsets)
        for partition in partitions:
            self._steps.end(partition, "commit")
            self._steps.done(partition)


class MeasuredTransport:
    """aiokafka's transport with a clock on the partitions' clients."""

    def __init__(self, settings: Settings, steps: Steps) -> None:
        self._inner = KafkaTransport(settings.kafka)
        self._group = settings.kafka.group
        self._steps = steps
        self._producers: dict[int, _Producer] = {}

    def producer(self, client_id: str, transactional_id: str | None = None) -> Producer:
        """A partition's producer is clocked; its client id ends with the partition."""
        inner = self._inner.producer(client_id, transactional_id)
        number = client_id.removeprefix(f"{self._group}-")
        if not number.isdigit():
            return inner
        clocked = _Producer(inner, self._steps, int(number), transactional=transactional_id is not None)
        self._producers[int(number)] = clocked
        return clocked

    async def partition_counts(self) -> dict[str, int]:
        """Not clocked."""
        return await self._inner.partition_counts()

    async def cluster_id(self) -> str:
        """Not clocked."""
        return await self._inner.cluster_id()

    async def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Not clocked."""
        await self._inner.delete_before(offsets)

    def reader(self, partitions: Sequence[TopicPartition]) -> AbstractAsyncContextManager[Reader]:
        """Not clocked."""
        return self._inner.reader(partitions)

    def group_consumer(self) -> GroupConsumer:
        """The consumer, clocked."""
        self._clock = asyncio.get_running_loop().create_task(clock_loop(self._steps))
        # A consumer by delegation: what is not clocked, __getattr__ finds.
        clocked: Any = _Consumer(self._inner.group_consumer(), self._steps, self._producers)
        consumer: GroupConsumer = clocked
        return consumer


def clock_batches(steps: Steps) -> None:
    """Note where a batch begins, has the models, leaves them, and where its partition may go on."""
    run, process, learn = PartitionTask.run, PartitionTask._process, PartitionTask._learn  # noqa: SLF001

    async def clocked_run(task: PartitionTask, records: Sequence[LogRecord]) -> None:
        steps.begin(records)
        try:
            await run(task, records)
            steps.end(task.source.partition, "settle")
        finally:
            steps.forget(task.source.partition)

    async def clocked_process(task: PartitionTask, *arguments: Any) -> Any:
        steps.end(task.source.partition, "turn")
        return await process(task, *arguments)

    async def clocked_learn(task: PartitionTask, *arguments: Any) -> Any:
        learned = await learn(task, *arguments)
        steps.end(task.source.partition, "engine")
        return learned

    for name, clocked in (("run", clocked_run), ("_process", clocked_process), ("_learn", clocked_learn)):
        setattr(PartitionTask, name, clocked)


async def clock_loop(steps: Steps) -> None:
    """Note how late the event loop comes, until cancelled."""
    while True:
        due = time.time() + NAP_S
        await asyncio.sleep(NAP_S)
        now = time.time()
        steps.samples["lag"].append((now, now - due))


def clock_collector(steps: Steps) -> None:
    """Note each pause of the garbage collector."""
    began = 0.0

    def note(phase: str, _info: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.time()
        else:
            steps.samples["gc"].append((time.time(), time.time() - began))

    gc.callbacks.append(note)


def main() -> int:
    """Run a worker as the command line does, then write what was measured."""
    settings, steps = Settings(), Steps()
    clock_collector(steps)
    clock_batches(steps)
    try:
        return run_worker(settings, None, MeasuredTransport(settings, steps))
    finally:
        Path(os.environ["STEPS_FILE"]).write_text(json.dumps(steps.samples), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
