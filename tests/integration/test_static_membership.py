"""Static members on Apache Kafka: a worker that is back within its session gets its own partitions again."""

from __future__ import annotations

from pathlib import Path

from stream.runtime.broker import KafkaBroker
from stream.settings import KafkaSettings, Settings
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.shop_stream import campaigns, shop_stream
from tests.runtime.topic_setup import Setup
from tests.runtime.worker_process import WorkerProcess, wait_until

SMALL = {"MAX_ITEMS": "1024", "CLICK_SLOTS": "4096", "CAMPAIGNS__HOLDOUT_SHARE": "0.1"}
SETTINGS = Settings(max_items=1024, click_slots=4096, campaigns={"holdout_share": 0.1})


def test_a_restart_within_the_session_moves_nothing(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    """One of two is killed and started again: the other hears nothing, and nothing is lost or twice."""
    setup = Setup(
        KafkaSettings(
            bootstrap=kafka_broker.bootstrap,
            topic_prefix="static.",
            group="static",
            partitions=4,
            batch_records=100,
            session_timeout_ms=30_000,
        )
    )
    setup.create()
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
    setup = Setup(
        KafkaSettings(bootstrap=kafka_broker.bootstrap, topic_prefix="twins.", group="twins", partitions=2)
    )
    setup.create()
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
