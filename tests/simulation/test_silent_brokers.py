"""A broker that answers no more is noticed by a worker that has nothing to do."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from stream.runtime import kafka
from stream.runtime.ends import ASK_S
from stream.runtime.errors import BrokerUnreachableError
from stream.runtime.plane import DEAD_S, STALLED_S, DataPlane
from tests.runtime.shop_stream import shop_stream
from tests.simulation.broker import Broker
from tests.simulation.cluster import Cluster, settings_of
from tests.simulation.stage import on_stage

LATE_S = ASK_S + settings_of(1).kafka.session_timeout_ms / 1000 + 3.0  # a question, its time limit, a turn


@pytest.mark.parametrize("n_workers", [1, 3])
def test_a_worker_without_an_event_does_not_stay_ready(n_workers: int) -> None:
    """Ready, unready after 30 s without an answer, ended after 120; with a partition and without one."""

    async def watch(cluster: Cluster) -> tuple[list[object], list[BaseException]]:
        workers = [cluster.add(f"w{n}") for n in range(n_workers)]
        for worker in workers:
            cluster.start(worker)
        await asyncio.sleep(60.0)
        planes = [worker.plane for worker in workers if worker.plane is not None]
        told: list[object] = [[plane.unready() for plane in planes]]
        cluster.network.down = True
        cluster.network.reset()
        await asyncio.sleep(STALLED_S - 2 * ASK_S)
        told.append([plane.unready() for plane in planes])
        await asyncio.sleep(2 * ASK_S + LATE_S)
        told.append([plane.unready() is None for plane in planes])
        for plane in planes:
            plane.refresh_gauges()
            assert (
                STALLED_S < plane._metrics["broker_silent_seconds"]._value.get() < STALLED_S + LATE_S + ASK_S
            )
        await asyncio.sleep(DEAD_S - STALLED_S)
        errors = [plane.finished.exception() for plane in planes if plane.finished.done()]
        return told, [error for error in errors if error is not None]

    told, errors = on_stage(watch, settings_of(2))

    assert [[None] * n_workers, [None] * n_workers, [False] * n_workers] == told
    assert [BrokerUnreachableError] * n_workers == [type(error) for error in errors]
    if n_workers == 3:  # one has no partition: nothing else could tell it
        assert "no answer from the brokers of the input for 120 s" in map(str, errors)


def test_an_answer_makes_a_worker_ready_again() -> None:
    """An outage of a minute: unready, ready, and not ended."""

    async def watch(cluster: Cluster) -> list[str | None]:
        worker = cluster.add("w0")
        cluster.start(worker)
        await asyncio.sleep(20.0)
        assert worker.plane is not None
        cluster.network.down = True
        cluster.network.reset()
        await asyncio.sleep(60.0)
        told = [worker.plane.unready()]
        cluster.network.down = False
        await asyncio.sleep(30.0)
        assert worker.plane is not None
        return [*told, worker.plane.unready(), *map(str, cluster.crashed)]

    assert ["no answer from the brokers of the input for 30 s", None] == on_stage(watch, settings_of(1))


async def at_work(cluster: Cluster) -> DataPlane:
    """A worker that has done all there was."""
    worker = cluster.add("w0")
    cluster.start(worker)
    await asyncio.sleep(20.0)
    assert worker.plane is not None
    return worker.plane


def test_a_partition_that_is_opened_stands_still() -> None:
    """How long it is on its way shows; it begins anew with an assignment, and is 0 where all is done."""

    async def watch(cluster: Cluster) -> list[dict[int, float]]:
        cluster.produce_events(list(shop_stream(40, 1)))
        plane = await at_work(cluster)
        assignment = plane._assignment
        assert assignment is not None
        calm = assignment.standstill()
        cluster.network.down = True
        cluster.network.reset()
        await assignment._drop([0])
        assignment._open(0, assignment._epoch)
        await asyncio.sleep(10.0)
        assert plane.unready() == "restoring partitions [0]"
        opening = assignment.standstill()
        await assignment._drop([0])
        assignment.take([TopicPartition(cluster.names.events, 0)])
        return [calm, opening, assignment.standstill()]

    assert [{0: 0.0}, {0: pytest.approx(10.0, abs=0.1)}, {0: 0.0}] == on_stage(watch, settings_of(1))


def test_time_in_which_the_process_stood_still_is_nobodys_silence() -> None:
    """It could not hear: 20 s without an answer, of which 15 are excused."""

    async def watch(cluster: Cluster) -> tuple[float, float]:
        plane = await at_work(cluster)
        assignment = plane._assignment
        assert assignment is not None
        cluster.network.down = True
        cluster.network.reset()
        await asyncio.sleep(20.0)
        before = assignment.ends.silent_s()
        assignment.excuse(15.0)
        return before, assignment.ends.silent_s()

    before, after = on_stage(watch, settings_of(1))

    assert before >= 20.0
    assert after == pytest.approx(before - 15.0)


def test_what_nobody_fetched_counts_as_lag() -> None:
    """A fetch that is not answered any more does not hide what the broker says when it is asked."""

    async def watch(cluster: Cluster) -> tuple[int, int]:
        plane = await at_work(cluster)
        assignment = plane._assignment
        assert assignment is not None
        task = assignment.tasks[0]
        before = assignment.lag(task)
        assignment._consumer.pause(task.source)
        await asyncio.sleep(ASK_S)  # a fetch that is on its way still comes back
        cluster.produce_events(list(shop_stream(40, 1)))
        await asyncio.sleep(2 * ASK_S)
        return before, assignment.lag(task)

    before, after = on_stage(watch, settings_of(1))

    assert before == 0
    assert after > 0


def test_a_worker_that_may_not_read_settings_of_topics_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that right topics are not compared, and none is called wrong."""
    warned: list[str] = []
    monkeypatch.setattr(kafka.logger, "warning", lambda name, **_: warned.append(name), raising=False)
    monkeypatch.setattr(
        Broker,
        "_describe_configs",
        lambda _self, request: (0, [(29, "no right", kind, name, []) for kind, name, _ in request.resources]),
    )

    async def start(cluster: Cluster) -> str | None:
        worker = cluster.add("w0")
        cluster.start(worker)
        await asyncio.sleep(20.0)
        assert worker.plane is not None
        return worker.plane.unready()

    assert on_stage(start, settings_of(1)) is None
    assert ["topics_not_compared"] == warned
