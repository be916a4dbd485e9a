"""Canaries: the defects of Faust and aiokafka that the data plane is built around.

Each test fails when upstream behaves otherwise. That is good news: judge anew whether the plane still needs
what it does about it, then change the test. B is for Faust, C for aiokafka.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterable

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import MessageSizeTooLargeError
from faust.transport.producer import ProducerBuffer
from faust.types.tuples import FutureMessage

from stream.runtime.broker import KafkaBroker
from tests.runtime.worker_process import ROOT

HANGS_S = 3.0
WAIT_S = 20.0


@pytest.fixture
async def topic(kafka_broker: KafkaBroker, name: str) -> str:
    """A topic of one partition that takes records of 1000 bytes, with ten small ones on it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1, topic_configs={"max.message.bytes": "1000"})])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_broker.bootstrap)
    await producer.start()
    for n in range(10):
        await producer.send_and_wait(name, b"%d" % n, partition=0)
    await producer.stop()
    return name


async def test_c1_a_commit_succeeds_although_a_record_was_refused(
    kafka_broker: KafkaBroker, topic: str
) -> None:
    """So the plane awaits every send before it commits."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka_broker.bootstrap, transactional_id=topic, max_request_size=1 << 20
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        refused = await producer.send(topic, b"x" * 5000, partition=0)
        await producer.send(topic, b"small", partition=0)
        await producer.commit_transaction()
        with pytest.raises(MessageSizeTooLargeError):
            await refused
    finally:
        await producer.stop()


class _Listener(ConsumerRebalanceListener):
    """Seeks late, or fails."""

    def __init__(self, consumer: AIOKafkaConsumer, *, fails: bool) -> None:
        self._consumer = consumer
        self._fails = fails
        self.assigned = asyncio.Event()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Nothing to let go of."""

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Restore something, which takes a while, then say where to go on."""
        self.assigned.set()
        if self._fails:
            raise RuntimeError("the state could not be restored")
        await asyncio.sleep(0.5)
        for tp in assigned:
            self._consumer.seek(tp, 8)


@pytest.mark.parametrize("fails", [False, True])
async def test_c5_c6_records_come_before_the_listener_has_said_where_from(
    kafka_broker: KafkaBroker, topic: str, *, fails: bool
) -> None:
    """C5: before the listener's seek. C6: although the listener failed.

    So the plane pauses what it is assigned, drops what an older epoch fetched, and ends on its error.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka_broker.bootstrap, group_id=topic, auto_offset_reset="earliest"
    )
    listener = _Listener(consumer, fails=fails)
    consumer.subscribe([topic], listener=listener)
    await consumer.start()
    try:
        async with asyncio.timeout(WAIT_S):
            first = await consumer.getone()
        assert listener.assigned.is_set()
        assert 0 == first.offset
    finally:
        await consumer.stop()


class _SlowBuffer(ProducerBuffer):
    """A Faust producer whose broker takes its time."""

    async def _send_pending(self, fut: FutureMessage) -> None:
        await asyncio.sleep(HANGS_S)


async def test_b5_a_flush_returns_with_nothing_sent() -> None:
    """So Faust's producer carries nothing that must not be lost."""
    buffer = _SlowBuffer()
    buffer.app = faust.App("canary", autodiscover=False)
    await buffer.start()
    try:
        for _ in range(5):
            buffer.put(FutureMessage(None))  # type: ignore[arg-type]  # it is never looked at
        await buffer.flush()
        assert buffer.size >= 4
    finally:
        while buffer.size:
            buffer.pending.get_nowait()
        await buffer.stop()


def test_b9_a_time_in_milliseconds_hangs_a_window() -> None:
    """So no event meets a Faust window."""
    code = "from faust.windows import TumblingWindow; TumblingWindow(60).ranges(1.7e12)"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=HANGS_S + 4.0, check=False)


_AGENT = """
import asyncio, sys, faust
bootstrap, topic = sys.argv[1:]
app = faust.App(topic, broker=f"kafka://{bootstrap}", web_enabled=False, store="memory://",
                topic_disable_leader=True, broker_commit_interval=0.2, processing_guarantee="at_least_once")
seen = []

@app.agent(app.topic(topic, value_type=bytes, value_serializer="raw"))
async def agent(stream):
    async for values in STREAM:
        for value in values if isinstance(values, list) else [values]:
            if value == b"5" and b"failed" not in seen:
                seen.append(b"failed")
                raise RuntimeError("a passing failure")
            seen.append(value)

async def main():
    await app.start()
    while app.consumer._committed_offset.get((topic, 0)) != 10:
        await asyncio.sleep(0.05)
        await app.consumer.commit()
    await asyncio.sleep(1.0)
    await app.consumer.commit()
    print(b" ".join(seen).decode(), flush=True)
    await asyncio.wait({asyncio.ensure_future(app.stop())}, timeout=5)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("stream", "lost"),
    [
        ("stream", {"5"}),  # b1: the record alone
        ("stream.take(10, within=0.2)", {"5", "6"}),  # b2: and at least the rest of what was taken with it
    ],
)
async def test_b1_b2_an_exception_in_an_agent_loses_records(
    kafka_broker: KafkaBroker, topic: str, stream: str, lost: set[str]
) -> None:
    """So no agent carries events: with at_least_once records are acknowledged, and never seen again."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", _AGENT.replace("STREAM", stream)),
        *(kafka_broker.bootstrap, topic),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60.0):
            assert process.stdout is not None
            seen = (await process.stdout.readline()).decode().split()
    finally:
        process.kill()
        await process.wait()
    assert ["0", "1", "2", "3", "4", "failed"] == seen[:6]
    assert not lost & set(seen)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_broker.bootstrap, group_id=topic)
    await consumer.start()
    try:
        assert 10 == await consumer.committed(TopicPartition(topic, 0))
    finally:
        await consumer.stop()
