"""Canaries of what aiokafka does at moments that a simulated broker brings about; see `test_upstream.py`."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, InvalidProducerIdMapping, KafkaError
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest

from tests.simulation.cluster import Cluster
from tests.simulation.stage import on_stage

LATENCY_S = 0.1


def test_c4_an_unknown_producer_ends_the_sender_for_good() -> None:
    """After seven idle days the broker has forgotten an id. So the plane makes a new producer."""

    async def forget(cluster: Cluster) -> None:
        kafka = cluster.settings.kafka
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id="idle")
        await producer.start()
        cluster.broker.refusals[AddPartitionsToTxnRequest.API_KEY] = [InvalidProducerIdMapping.errno]
        await producer.begin_transaction()
        sent = await producer.send(cluster.names.triggers, b"v", partition=0)
        with pytest.raises(KafkaError):
            await sent
        assert producer._sender.sender_task.done()
        with pytest.raises((IllegalOperation, AssertionError)):  # the broker refuses nothing any more
            await producer.begin_transaction()
        await producer.stop()

    on_stage(forget)


def test_c9_who_does_not_fetch_leaves_the_group() -> None:
    """The poll interval counts from the last fetch. So a full partition is paused and fetching goes on."""

    async def rest(cluster: Cluster) -> list[str]:
        consumer = AIOKafkaConsumer(
            cluster.names.events,
            bootstrap_servers=cluster.settings.kafka.bootstrap,
            group_id="rests",
            session_timeout_ms=3000,
            heartbeat_interval_ms=500,
            max_poll_interval_ms=5000,
        )
        await consumer.start()
        await consumer.getmany(timeout_ms=100)
        await asyncio.sleep(20.0)  # its loop is free, its heartbeats go out
        left = [event for event in cluster.events if event.endswith("left")]
        await consumer.stop()
        return left

    assert 1 == len(on_stage(rest))


def test_c10_partitions_of_a_node_wait_for_each_other() -> None:
    """One produce request a node is on its way. So each input partition has a producer of its own."""

    async def send(cluster: Cluster) -> float:
        cluster.network.latency_s = 1e-6
        producer = AIOKafkaProducer(bootstrap_servers=cluster.settings.kafka.bootstrap)
        await producer.start()
        await producer.send_and_wait(cluster.names.triggers, b"v", partition=0)
        cluster.network.delay_s = LATENCY_S
        started = asyncio.get_running_loop().time()
        first = await producer.send(cluster.names.triggers, b"v", partition=0)
        await asyncio.sleep(LATENCY_S / 2)
        second = await producer.send(cluster.names.triggers, b"v", partition=1)
        await asyncio.gather(first, second)
        await producer.stop()
        return asyncio.get_running_loop().time() - started

    assert 4 * LATENCY_S == pytest.approx(on_stage(send), rel=0.1)


def test_c11_an_idle_getmany_leaves_nothing_behind() -> None:
    """It did once. So nothing but `loop_tasks` and the soak test watches for it."""

    async def idle(cluster: Cluster) -> int:
        consumer = AIOKafkaConsumer(bootstrap_servers=cluster.settings.kafka.bootstrap)
        await consumer.start()
        consumer.assign([TopicPartition(cluster.names.events, 0)])
        for _ in range(100):
            assert {} == await consumer.getmany(timeout_ms=50)
        waiters = len(consumer._fetcher._fetch_waiters)  # type: ignore[union-attr]
        await consumer.stop()
        return waiters

    assert 1 >= on_stage(idle)  # the last one
