"""An accepted gap that leads back: what was done since counts, and the next starts find their way."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from stream.core.rows import Header, ModelMemory, Profile
from stream.runtime.kafka import KafkaTransport
from stream.runtime.restoring import OF_BATCH, Restored, restore
from stream.runtime.statecodec import decode_row, encode_header, encode_row
from stream.settings import Settings
from tests.runtime.shop_stream import shop_stream
from tests.simulation.cluster import Cluster, Worker, settings_of
from tests.simulation.stage import on_stage

N_READ, N_LOST = 60, 30


def patient(*, exactly_once: bool) -> Settings:
    """Settings of an operator who goes on after gaps."""
    settings = settings_of(1, exactly_once=exactly_once)
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"accept_gap": True})})


def lose_tail(cluster: Cluster) -> None:
    """Let the broker forget the last batch of the events."""
    [log] = cluster.broker.topics[cluster.names.events]
    log.batches.pop()
    log._bases.pop()
    log.end = log.batches[-1].last_offset + 1
    assert log.end == N_READ - N_LOST


@pytest.mark.parametrize("numbered", [True, False])
def test_rows_of_after_a_gap_are_newer(*, numbered: bool) -> None:
    """Read to 100, went back to 80: what goes to 85 and 90 is later, under either guarantee."""

    async def write(cluster: Cluster) -> Restored | None:
        changelog = TopicPartition(cluster.names.user_state, 0)
        for n, (gaps, following) in enumerate([(0, 100), (1, 85), (1, 90)]):
            headers = ((OF_BATCH, b"%d" % following),) if numbered else ()
            rows = [("u", n)] + [("v", n)] * (n < 2)
            written = [(u.encode(), encode_row(Profile(n_events=n), ModelMemory()), headers) for u, n in rows]
            cluster.broker.write(
                changelog, [*written, (*encode_header(Header(gaps=gaps), following), headers)]
            )
        return await restore(KafkaTransport(cluster.settings.kafka), changelog)

    restored = on_stage(write, settings_of(1, exactly_once=not numbered))

    assert restored is not None
    assert (90, 1) == (restored.next_offset, restored.header.gaps)
    assert {"u": 2, "v": 1} == {user: decode_row(value)[0].n_events for user, value in restored.rows.items()}


@pytest.mark.parametrize("exactly_once", [True, False])
def test_a_worker_goes_on_after_a_lost_tail_and_comes_back(*, exactly_once: bool) -> None:
    """It restarts where it was, before and after the log is as long as it once was."""
    lines = list(shop_stream(400, 1))

    async def live(cluster: Cluster, worker: Worker) -> tuple[int, int]:
        """A life without an end of its own: where it is, and how many events its users have."""
        cluster.start(worker)
        await asyncio.sleep(20.0)
        plane = worker.plane
        assert plane is not None, (cluster.crashed, cluster.events[-5:])
        assert plane._assignment is not None
        state = plane._assignment.tasks[0]._engine.state
        found = plane._assignment.tasks[0].position, sum(state.profile(user).n_events for user in state)
        cluster.stop(worker)
        await asyncio.sleep(5.0)
        return found

    async def work(cluster: Cluster) -> tuple[list[tuple[int, int]], list[BaseException]]:
        cluster.produce_events(lines[:N_LOST])
        cluster.produce_events(lines[N_LOST:N_READ])
        worker = cluster.add("w0")
        found = [await live(cluster, worker)]
        lose_tail(cluster)
        cluster.produce_events(lines[N_READ:80])
        found += [await live(cluster, worker), await live(cluster, worker)]
        cluster.produce_events(lines[80:120])
        found += [await live(cluster, worker), await live(cluster, worker)]
        return found, cluster.crashed

    found, crashed = on_stage(work, patient(exactly_once=exactly_once))

    assert [] == crashed
    offsets, events = [offset for offset, _ in found], [n for _, n in found]
    assert [60, 50, 50, 90, 90] == offsets
    assert events[0] < events[1] == events[2] < events[3] == events[4]
