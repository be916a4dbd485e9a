"""Which workers end by themselves, and which must not."""

from __future__ import annotations

import asyncio

import pytest

from stream.runtime.modellog import ModelLogError
from tests.runtime.shop_stream import shop_stream
from tests.simulation.cluster import Cluster, settings_of
from tests.simulation.log import PartitionLog
from tests.simulation.stage import on_stage


def test_a_worker_that_stood_still_with_a_backlog_goes_on() -> None:
    """A machine that was paused for longer than a stalled worker may live: it has had no chance to commit."""

    async def pause(cluster: Cluster) -> tuple[int, list[BaseException], int]:
        lines = list(shop_stream(600, 1))
        cluster.produce_events(lines[:100])
        worker = cluster.add("w0")
        cluster.start(worker)
        await asyncio.sleep(30.0)
        cluster.produce_events(lines[100:600])
        await asyncio.sleep(0.05)
        machine = worker.machine
        assert machine is not None
        cluster.loop.freeze(machine)
        await asyncio.sleep(130.0)
        cluster.loop.thaw(machine)
        await asyncio.sleep(30.0)
        done = sum(offset for offset, _ in cluster.broker.groups.group("sim").offsets.values())
        return worker.life, cluster.crashed, done

    assert (1, [], 600) == on_stage(pause, settings_of(2))


@pytest.mark.parametrize("n_left", [0, 2])
def test_a_delta_log_that_ends_before_its_snapshot_ends_the_worker_by_name(n_left: int) -> None:
    """It was lost, all of it or its tail: what follows would be folded onto the wrong models."""

    async def lose(cluster: Cluster) -> tuple[bool, list[BaseException]]:
        cluster.produce_events(list(shop_stream(600, 1))[:600])
        worker = cluster.add("w0")
        cluster.start(worker)
        await asyncio.sleep(60.0)
        assert worker.plane is not None
        assert worker.plane._shared is not None
        saved = worker.plane._shared.model_log._saved > 0
        cluster.stop(worker)
        await asyncio.sleep(5.0)
        [log] = cluster.broker.topics[cluster.names.model_deltas]
        new = PartitionLog(log.config)
        for batch in [batch for batch in log.history if batch.marker is None][:n_left]:
            new._add(batch)
        cluster.broker.topics[cluster.names.model_deltas] = [new]
        cluster.start(worker)
        await asyncio.sleep(15.0)
        return saved, cluster.crashed

    saved, crashed = on_stage(lose, settings_of(1, snapshot_bytes=20_000))

    assert saved
    assert ModelLogError.exit_code == 78
    assert isinstance(crashed[0], ModelLogError)
    assert "the newest snapshot holds it up to" in str(crashed[0])
