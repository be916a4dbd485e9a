"""A broker that goes away, and a worker that wakes up after its partitions have gone elsewhere."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from stream.runtime.broker import KafkaBroker
from stream.settings import KafkaSettings, Settings
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.shop_stream import campaigns, shop_stream
from tests.runtime.topic_setup import Setup
from tests.runtime.worker_process import WorkerProcess, wait_until

N_EVENTS = 4000
SMALL = {"MAX_ITEMS": "1024", "CLICK_SLOTS": "4096", "CAMPAIGNS__HOLDOUT_SHARE": "0.1"}
SETTINGS = Settings(max_items=1024, click_slots=4096, campaigns={"holdout_share": 0.1})


@pytest.fixture
def setup(kafka_broker: KafkaBroker, request: pytest.FixtureRequest) -> Setup:
    """Topics of this test with the events and campaigns on them."""
    found = Setup(
        KafkaSettings(
            bootstrap=kafka_broker.bootstrap,
            topic_prefix=f"{request.node.name}.",
            group=request.node.name,
            partitions=4,
            batch_records=20,
            session_timeout_ms=2000,
            transaction_timeout_ms=5000,
        )
    )
    found.create()
    found.produce_campaigns(campaigns())
    found.produce_events(shop_stream(N_EVENTS, seed=2))
    return found


def test_a_restarted_broker_is_waited_for(setup: Setup, kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    """The worker lives through two restarts of the broker, and its effects are those without them."""
    with WorkerProcess(setup.environment | SMALL, tmp_path / "worker.log") as worker:
        total = len(setup.read(setup.names.events))
        worker.start()
        for at_least in (total // 10, total * 3 // 10):
            wait_until("at work", partial(_at_work, worker, setup, at_least))
            kafka_broker.restart()
        assert setup.applied() < total, "void: restarted after the end of the work"
        wait_until("all applied", lambda: worker.code() is None and setup.applied() == total)
        worker.wait_ready()
        assert 0 == worker.terminate()[0]
    assert_as_without_faults(setup, SETTINGS)


def test_a_worker_that_slept_too_long_changes_nothing(setup: Setup, tmp_path: Path) -> None:
    """Frozen in its work beyond its session, it is woken when another has its partitions."""
    with (
        WorkerProcess(setup.environment | SMALL, tmp_path / "sleeper.log") as sleeper,
        WorkerProcess(setup.environment | SMALL, tmp_path / "other.log") as other,
    ):
        total = len(setup.read(setup.names.events))
        sleeper.start()
        wait_until("the sleeper at work", lambda: setup.applied() > 200)
        os.kill(sleeper.pid, signal.SIGSTOP)
        asleep = setup.applied()
        assert asleep < total, "void: frozen after the end of the work"
        other.start()
        wait_until("the other goes on", lambda: other.code() is None and setup.applied() > asleep + 400)
        os.kill(sleeper.pid, signal.SIGCONT)
        assert setup.applied() < total, "void: woken after the end of the work"
        wait_until("all applied", lambda: other.code() is None and setup.applied() == total)
        wait_until("both members again", lambda: sleeper.is_ready() and other.is_ready())
        assert (0, 0) == (sleeper.terminate()[0], other.terminate()[0])
    assert_as_without_faults(setup, SETTINGS)


def _at_work(worker: WorkerProcess, setup: Setup, applied: int) -> bool:
    assert worker.code() is None, worker.tail()
    return setup.applied() > applied
