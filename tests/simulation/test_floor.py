"""A worker's partitions follow each other, as long as their commits are as quick as it has patience."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from online_models.fold import ModelSet
from tests.runtime.shop_stream import shop_stream
from tests.simulation.cluster import Cluster, settings_of
from tests.simulation.stage import on_stage


@pytest.mark.parametrize(("patience_ms", "overlap"), [(1000, False), (0, True)])
def test_what_a_batch_taught_is_undone_only_where_commits_overlap(patience_ms: int, overlap: bool) -> None:
    """Two partitions work off a backlog over a line on which each answer takes 15 ms."""

    async def work_off(cluster: Cluster) -> int:
        cluster.produce_events(shop_stream(200, 1))
        cluster.network.latency_s = 0.015
        with mock.patch.object(ModelSet, "rollback", autospec=True, side_effect=ModelSet.rollback) as undone:
            cluster.start(cluster.add("w0"))
            await asyncio.sleep(20.0)
        assert cluster.broker.transactions.ended["committed"] > 2
        return int(undone.call_count)

    assert overlap == (on_stage(work_off, settings_of(2, patience_ms=patience_ms)) > 0)
