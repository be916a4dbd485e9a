"""The worker, with a clock on each thing it asks of Kafka; started by ``benchmarks/latency.py``.

When it ends it writes ``STEPS_FILE``, a JSON object: for each step the samples ``[at, seconds]``, where
``at`` is the wall clock's time of its end.

``waited``    from a record's append to the moment the partition's pump has it (one sample a record)
``engine``    from there to the first request of the commit: waiting for the models, processing, encoding
``begin``, ``send``, ``offsets``, ``commit``
              the steps of a commit; at least once has neither the first nor the third
``gc``        a pause of the garbage collector
"""

from __future__ import annotations

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
from stream.runtime.transport import Batch, GroupConsumer, LogRecord, Producer, Reader, Sent
from stream.settings import Settings
from stream.worker import run_worker


class Steps:
    """Samples by step, and when each partition's last step ended."""

    def __init__(self) -> None:
        self.samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._ended: dict[int, float] = {}

    def fetched(self, partition: int, records: Sequence[LogRecord]) -> None:
        """A batch is in hand."""
        now = self._ended[partition] = time.time()
        self.samples["waited"] += [(now, now - record.timestamp / 1000) for record in records]

    def end(self, partition: int, step: str) -> None:
        """Book the time since the partition's last step, if a batch is in hand."""
        now = time.time()
        if partition in self._ended:
            self.samples[step].append((now, now - self._ended[partition]))
            self._ended[partition] = now

    def done(self, partition: int) -> None:
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

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Awaitable[Sent]:
        if not self._transactional and not self._sending:
            self._steps.end(self._partition, "engine")
            self._sending = True
        return await self._inner.send_batch(batch, topic, partition=partition)

    async def begin_transaction(self) -> None:
        self._steps.end(self._partition, "engine")
        await self._inner.begin_transaction()
        self._steps.end(self._partition, "begin")

    async def send_offsets_to_transaction(self, offsets: Mapping[TopicPartition, int], group: str) -> None:
        self._steps.end(self._partition, "send")
        await self._inner.send_offsets_to_transaction(offsets, group)
        self._steps.end(self._partition, "offsets")

    async def commit_transaction(self) -> None:
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
        for tp, records in found.items():
            self._steps.fetched(tp.partition, records)
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
        # A consumer by delegation: what is not clocked, __getattr__ finds.
        clocked: Any = _Consumer(self._inner.group_consumer(), self._steps, self._producers)
        consumer: GroupConsumer = clocked
        return consumer


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
    try:
        return run_worker(settings, None, MeasuredTransport(settings, steps))
    finally:
        Path(os.environ["STEPS_FILE"]).write_text(json.dumps(steps.samples), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
