"""Canaries: the defects of Faust and aiokafka that the data plane is built around.

Each test fails when upstream behaves otherwise. That is good news: judge anew whether the plane still needs
what it does about it, then change the test. B is for Faust, C for aiokafka. `test_upstream_alone.py` has
those that need no broker, `test_upstream_simulated.py` those that need moments a real one does not offer.

Not tested, and why:

- B12, slow and fragile recovery: a rate, and hangs nobody can bring about; `benchmarks/state.py` has ours.
- B15, workers that live and consume nothing: reported only. The plane watches that its offsets move.
- B16, the rate of an agent: `benchmarks/end_to_end.py` measures it beside ours in each run.
- B19, timers that wake too late: so is every timer of a loop that is held; C9 shows what that costs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import cast

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
    await _create(kafka_broker, name)
    await _produce(kafka_broker, name, *(b"%d" % n for n in range(10)))
    return name


async def _create(kafka_broker: KafkaBroker, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1, topic_configs={"max.message.bytes": "1000"})])
    await admin.close()


async def _produce(kafka_broker: KafkaBroker, name: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka_broker.bootstrap)
    await producer.start()
    for value in values:
        await producer.send_and_wait(name, value, partition=0)
    await producer.stop()


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


async def test_c9_a_busy_loop_loses_its_session(kafka_broker: KafkaBroker, topic: str) -> None:
    """Heartbeats share the loop. So the engine works in slices, and restoring in a thread."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka_broker.bootstrap,
        group_id=topic,
        auto_offset_reset="earliest",
        session_timeout_ms=1000,
        heartbeat_interval_ms=200,
    )
    listener = _Listener(consumer, fails=False)
    consumer.subscribe([topic], listener=listener)
    await consumer.start()
    try:
        async with asyncio.timeout(WAIT_S):
            await consumer.getone()
            listener.assigned.clear()
            time.sleep(2.0)  # noqa: ASYNC251  it is what must not be
            await listener.assigned.wait()  # by a group that had forgotten us
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


_APP = """
import asyncio, sys, faust
bootstrap, topic, guarantee = sys.argv[1:]
app = faust.App(topic, broker=f"kafka://{bootstrap}", web_enabled=False, store="memory://",
                topic_disable_leader=True, broker_commit_interval=0.2, processing_guarantee=guarantee)
raw = {"value_type": bytes, "value_serializer": "raw"}
seen = []

def handle(value):
    if value == b"5" and "failed" not in seen:
        seen.append("failed")
        raise RuntimeError("a passing failure")
    seen.append(value.decode())

async def until(holds):
    while not holds():
        await asyncio.sleep(0.05)
        await app.consumer.commit()
    await asyncio.sleep(1.0)
    await app.consumer.commit()

def committed():
    return app.consumer._committed_offset.get((topic, 0)) or 0

async def main(agent, channel, holds):
    app.agent(channel)(agent)
    await app.start()
    await until(holds)
    print(*seen, flush=True)
    done, _ = await asyncio.wait({asyncio.ensure_future(app.stop())}, timeout=3)
    print("ended" if done else "stuck", flush=True)
"""


async def _run_app(
    code: str, kafka_broker: KafkaBroker, topic: str, guarantee: str = "at_least_once"
) -> list[list[str]]:
    """Run a Faust application in a process of its own; return the words of the lines that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", _APP + code, kafka_broker.bootstrap, topic, guarantee),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60.0):
            assert process.stdout is not None
            return [(await process.stdout.readline()).decode().split() for _ in range(2)]
    finally:
        process.kill()
        await process.wait()


async def _committed(kafka_broker: KafkaBroker, topic: str) -> int | None:
    """Offset that the group of a topic's name has committed."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_broker.bootstrap, group_id=topic)
    await consumer.start()
    try:
        return cast("int | None", await consumer.committed(TopicPartition(topic, 0)))
    finally:
        await consumer.stop()


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
    code = f"""
async def agent(stream):
    async for values in {stream}:
        for value in values if isinstance(values, list) else [values]:
            handle(value)

asyncio.run(main(agent, app.topic(topic, **raw), lambda: committed() == 10))
"""
    seen, _ = await _run_app(code, kafka_broker, topic)
    assert ["0", "1", "2", "3", "4", "failed"] == seen[:6]
    assert not lost & set(seen)
    assert 10 == await _committed(kafka_broker, topic)


async def test_b3_what_was_taken_without_acknowledgement_does_not_come_again(
    kafka_broker: KafkaBroker, topic: str
) -> None:
    """The restarted agent sees nothing of its batch, and stopping never ends. So a failure is an end."""
    code = """
async def agent(stream):
    async for events in stream.noack_take(4, within=0.2):
        for event in events:
            handle(event.value)
            event.ack()

asyncio.run(main(agent, app.topic(topic, **raw), lambda: "failed" in seen))
"""
    seen, end = await _run_app(code, kafka_broker, topic)
    assert ["0", "1", "2", "3", "4", "failed"] == seen
    assert ["stuck"] == end
    assert 5 == await _committed(kafka_broker, topic)


async def test_b6_outputs_of_exactly_once_are_in_no_transaction(
    kafka_broker: KafkaBroker, topic: str
) -> None:
    """The output holds ten records and no end of a transaction. So the plane has producers of its own."""
    out = TopicPartition(f"{topic}-out", 0)
    await _create(kafka_broker, out.topic)
    code = """
out = app.topic(topic + "-out", **raw)

async def agent(stream):
    async for value in stream:
        handle(value)
        await out.send(value=value)

seen.append("failed")  # nothing fails here
asyncio.run(main(agent, app.topic(topic, **raw), lambda: committed() == 10))
"""
    seen, end = await _run_app(code, kafka_broker, topic, "exactly_once")
    assert [["failed", *"0123456789"], ["ended"]] == [seen, end]
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_broker.bootstrap)
    await consumer.start()
    try:
        assert {out: 10} == await consumer.end_offsets([out])
    finally:
        await consumer.stop()


async def test_b10_what_cannot_be_decoded_is_gone(kafka_broker: KafkaBroker, topic: str) -> None:
    """The agent is told nothing and the offset moves on. So the plane decodes itself, with dead letters."""
    await _produce(kafka_broker, topic, b"{", b"11")
    code = """
async def agent(stream):
    async for value in stream:
        seen.append(str(value))

asyncio.run(main(agent, app.topic(topic, value_serializer="json"), lambda: committed() == 12))
"""
    seen, _ = await _run_app(code, kafka_broker, topic)
    assert [*"0123456789", "11"] == seen
