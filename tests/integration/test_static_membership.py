"""Static members on Apache Kafka: a worker that is back within its session gets its own partitions again."""

from __future__ import annotations

from pathlib import Path

from stream.runtime.broker import KafkaBroker
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.shop_stream import campaigns, shop_stream
from tests.runtime.topic_setup import create_topics
from tests.runtime.worker_process import SETTINGS, SMALL, WorkerProcess, wait_until


def test_a_restart_within_the_session_moves_nothing(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    """One of two is killed and started again: the other hears nothing, and nothing is lost or twice."""
    setup = create_topics(
        kafka_broker.bootstrap, "static", partitions=4, batch_records=100, session_timeout_ms=30_000
    )
    setup.produce_campaigns(campaigns())
    lines = list(shop_stream(3000, seed=13))
    setup.produce_events(lines[:1500])
    environment = setup.environment | SMALL
    with (
        WorkerProcess(environment | {"KAFKA__INSTANCE_ID": "a"}, tmp_path / "a.log") as killed,
        WorkerProcess(environment | {"KAFKA__INSTANCE_ID": "b"}, tmp_path / "b.log") as other,
    ):
        killed.start()
        other.start()
        wait_until("both own two", lambda: len(owned(killed)) == len(owned(other)) == 2)
        before, heard = owned(killed), len(other.events("assigned"))

        killed.kill()
        setup.produce_events(lines[1500:])
        killed.start()
        killed.wait_ready()
        wait_until("all applied", lambda: setup.applied() == len(lines))
        assert before == owned(killed)
        assert heard == len(other.events("assigned"))
        assert (0, 0) == (killed.terminate()[0], other.terminate()[0])
    assert_as_without_faults(setup, SETTINGS)


def test_two_workers_under_one_instance_id_say_so(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    """They take the partitions from each other; that ends with a name instead of going on for ever."""
    setup = create_topics(kafka_broker.bootstrap, "twins", partitions=2)
    environment = setup.environment | SMALL | {"KAFKA__INSTANCE_ID": "a"}
    with (
        WorkerProcess(environment, tmp_path / "one.log") as one,
        WorkerProcess(environment, tmp_path / "other.log") as other,
    ):
        one.start()
        other.start()
        wait_until("one of them ends", lambda: one.code() is not None or other.code() is not None)
        ended = one if one.code() is not None else other
        assert 70 == ended.code()
        assert "NUDGE_KAFKA__INSTANCE_ID" in ended.tail()


def owned(worker: WorkerProcess) -> list[int]:
    """What the group gave a worker last."""
    told = worker.events("assigned") if worker.log.exists() else []
    partitions: list[int] = told[-1]["partitions"] if told else []  # type: ignore[assignment]
    return partitions
