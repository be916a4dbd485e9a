"""Exactly once when a worker dies at the worst moments, each named and each reached."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from stream.runtime.broker import KafkaBroker
from tests.chaos.failpoints import POINTS
from tests.chaos.harness import Fleet, aborted, topics_for
from tests.chaos.report import report, size
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.worker_process import SETTINGS

RUN = "import runpy; runpy.run_module('tests.chaos.failpoints', run_name='__main__')"
NTH = {"in_revoke": 2, "in_restore": 1}  # the first revocation, of nothing, comes with joining


@pytest.mark.parametrize("_round", range(size(1, 20)))  # each with a verdict of its own
def test_death_at_every_point_of_a_commit_leaves_exact_effects(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str, _round: int
) -> None:
    """A worker dies at each point in turn, another life goes on; once a second member makes it give way."""
    setup = topics_for(kafka_broker.bootstrap, name, snapshot_bytes=1024)
    cached = {"CACHE_DIR": str(tmp_path / "cache"), "CACHE_INTERVAL_S": "1"}
    deaths: list[str] = []
    with Fleet(setup, tmp_path, 2, run=RUN, rate=50.0) as fleet:
        victim, other = fleet.start(0).workers
        for point in POINTS:
            victim.start(**cached, FAILPOINT=f"{point}:{NTH.get(point, 7)}")
            if point == "in_revoke":
                fleet.wait_until("at work", lambda: bool(victim.partitions()))
                other.start()
            assert -signal.SIGKILL == victim.wait(), f"{point} was not reached: {victim.tail()}"
            deaths = [str(line["point"]) for line in victim.events("failpoint")]
            assert point == deaths[-1]
            if point == "in_revoke":
                fleet.wait_until("taken over", lambda: len(other.partitions()) == setup.kafka.partitions)
                assert 0 == other.terminate()[0]
        victim.start(**cached)
        fleet.start().finish()
        caches = len(list((tmp_path / "cache").glob("*.cache")))
        report(
            name, events=fleet.total, deaths=len(deaths), caches=caches, aborted_transactions=aborted(setup)
        )
    assert list(POINTS) == deaths
    assert caches, "void: no copy of user state was ever in place"
    assert_as_without_faults(setup, SETTINGS)
