"""A broker that goes away or stops answering, and a line to it that delays, breaks or goes dead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.runtime.broker import BrokerUnavailable, KafkaBroker
from stream.runtime.kafka_cluster import KafkaCluster
from tests.chaos.conftest import Line
from tests.chaos.harness import Fleet, topics_for
from tests.chaos.report import report, size
from tests.conftest import missing
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.topic_setup import Setup
from tests.runtime.worker_process import SETTINGS

HEAL_S = 15.0  # within which there must be progress again
FREEZE_S = 10.0
CUT_S = 30.0
BETWEEN = 300  # events of progress between two faults


def test_a_restarted_broker_is_waited_for(kafka_broker: KafkaBroker, tmp_path: Path, name: str) -> None:
    """The worker lives through restarts of the broker, and its effects are those without them."""
    restarts = size(2, 20)
    setup = topics_for(kafka_broker.bootstrap, name)
    with Fleet(setup, tmp_path) as fleet:
        fleet.start()
        recovered = []
        for _ in range(restarts):
            fleet.advance(BETWEEN)
            kafka_broker.restart()
            recovered.append(fleet.advance(1, HEAL_S))
        fleet.finish()
        report(name, events=fleet.total, restarts=restarts, recovery_s=recovered)
    assert_as_without_faults(setup, SETTINGS)


def test_a_frozen_broker_is_waited_for(kafka_broker: KafkaBroker, tmp_path: Path, name: str) -> None:
    """The broker stops for 10 s with connections open, longer than sessions and transactions last."""
    setup = topics_for(kafka_broker.bootstrap, name)
    with Fleet(setup, tmp_path, 2) as fleet:
        fleet.start().wait_at_work()
        fleet.advance(BETWEEN)
        kafka_broker.pause()
        try:
            time.sleep(FREEZE_S)
        finally:
            kafka_broker.resume()
        recovered = fleet.advance(1, HEAL_S)
        fleet.finish()
        report(
            name, events=fleet.total, recovery_s=recovered, rebuilds=len(fleet.events("partition_rebuild"))
        )
    assert_as_without_faults(setup, SETTINGS)


def test_a_bad_line_costs_time_and_nothing_else(line: Line, tmp_path: Path, name: str) -> None:
    """Connections reset, half open, 200 ms ± 100 late, and dead for 30 s: one after the other, then exact."""
    setup = topics_for(line.broker.bootstrap, name)
    figures: dict[str, list[float]] = {"reset": [], "half_open": [], "late": [], "dead": []}
    with Fleet(setup, tmp_path, 2, through=line.bootstrap) as fleet:
        fleet.start().wait_at_work()
        for _ in range(size(1, 10)):
            fleet.advance(BETWEEN)
            line.proxy.reset()
            figures["reset"].append(fleet.advance(1, HEAL_S))

            fleet.advance(BETWEEN)
            before = setup.committed_offsets()
            line.proxy.half_open()
            figures["half_open"].append(fleet.advance(BETWEEN, HEAL_S))
            # One worker may have found out and the other not: the next fault begins when this one is over.
            fleet.wait_until("each partition goes on", lambda then=before: _moved(setup, then), HEAL_S)  # type: ignore[misc]

            line.proxy.delay(0.2, 0.1)
            figures["late"].append(fleet.advance(1, HEAL_S))  # progress also during this fault
            time.sleep(FREEZE_S)
            line.proxy.heal()

            fleet.advance(BETWEEN)
            line.proxy.cut()
            time.sleep(CUT_S)
            line.proxy.heal()
            figures["dead"].append(fleet.advance(1, HEAL_S))
        fleet.finish()
        rebuilds = len(fleet.events("partition_rebuild"))
        report(name, events=fleet.total, connections=line.proxy.connections, rebuilds=rebuilds, **figures)
    assert_as_without_faults(setup, SETTINGS)


def _moved(setup: Setup, then: dict[int, int]) -> bool:
    """Whether every partition has committed something since."""
    now = setup.committed_offsets()
    return all(now[partition] > offset for partition, offset in then.items())


@pytest.fixture
def cluster(kafka_broker: KafkaBroker) -> Iterator[KafkaCluster]:
    """Three brokers of the test's own; asks for the shared one to know that it can start."""
    assert kafka_broker.pid
    three = KafkaCluster(3)
    try:
        three.start()
    except BrokerUnavailable as error:
        three.close()
        missing(str(error))
    yield three
    three.close()


def test_brokers_of_three_go_one_after_the_other(cluster: KafkaCluster, tmp_path: Path, name: str) -> None:
    """Each is killed or ended cleanly under load and comes back; acknowledged means on two of three."""
    setup = topics_for(cluster.bootstrap, name, replication=3, session_timeout_ms=6000)
    during, after = [], []
    with Fleet(setup, tmp_path, 2) as fleet:
        fleet.start().wait_at_work()
        for n in range(size(3, 30)):
            fleet.advance(BETWEEN)
            node = cluster.nodes[n % 3]
            if n % 2:
                node.stop()
            else:
                node.kill()
            during.append(fleet.advance(BETWEEN, 60.0))  # the other two take over
            node.start()
            after.append(fleet.advance(BETWEEN, HEAL_S))
        fleet.finish()
        rebuilds = len(fleet.events("partition_rebuild"))
        report(name, events=fleet.total, progress_without_s=during, recovery_s=after, rebuilds=rebuilds)
    assert_as_without_faults(setup, SETTINGS)
