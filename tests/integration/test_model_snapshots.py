"""Snapshots on Apache Kafka: the log is trimmed behind them, and who starts from one has the same models."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from online_models.fold import ModelSet
from stream.assembly import build_engine, build_models
from stream.core.reference import Reference
from stream.runtime.broker import EmbeddedBroker, KafkaBroker
from stream.runtime.kafka import KafkaTransport
from stream.runtime.modellog import ModelLog
from stream.runtime.records import as_record
from stream.runtime.snapshots import Manifest, SnapshotLog
from stream.runtime.turns import ModelTurns
from stream.settings import Settings
from tests.runtime.shop_stream import campaigns, shop_stream
from tests.runtime.topic_setup import Setup, create_topics
from tests.runtime.worker_process import SETTINGS, SMALL, WorkerProcess, wait_until

MOST_EVENTS = 30_000
_NUMBERS = itertools.count(1)


def started(kafka_broker: KafkaBroker, tmp_path: Path, **kafka: int) -> Setup:
    """Topics with one partition, on which a worker has read events until it trimmed the log behind snapshots.

    How many that takes depends on when it looks: a second snapshot waits for as many bytes as the first has.
    """
    name = f"snapshots-{next(_NUMBERS)}"
    setup = create_topics(
        kafka_broker.bootstrap, name, partitions=1, batch_records=100, snapshot_bytes=20_000, **kafka
    )
    setup.produce_campaigns(campaigns())
    lines = shop_stream(MOST_EVENTS, seed=11)
    with WorkerProcess(setup.environment | SMALL, tmp_path / "worker.log") as worker:
        worker.start()
        done = 0
        while not worker.events("model_log_trimmed"):
            part = list(itertools.islice(lines, 600))
            assert part, f"no trimmed log after {done} events"
            setup.produce_events(part)
            done += len(part)
            wait_until(f"{done} events applied", lambda done=done: setup.applied() == done)  # type: ignore[misc]
        assert 0 == worker.terminate()[0]
    return setup


def manifests(setup: Setup) -> list[Manifest]:
    """Manifests on the topic now, the oldest first."""
    newest: dict[bytes, bytes | None] = {
        r.key or b"": r.value for r in setup.read(setup.names.model_snapshots)
    }
    found = [value for key, value in newest.items() if key.endswith(b"/manifest") and value is not None]
    return sorted((msgspec.json.decode(value, type=Manifest) for value in found), key=lambda m: m.id)


def restored(setup: Setup, settings: Settings = SETTINGS) -> ModelSet:
    """The models that a worker would start with."""
    models = build_models(settings).fold
    transport = KafkaTransport(setup.kafka)
    snapshots = SnapshotLog(transport, setup.names.model_snapshots)
    log = ModelLog(transport, setup.names.model_deltas, ModelTurns(models), snapshots, 1)
    asyncio.run(log.restore())
    return models


def learned(setup: Setup) -> ModelSet:
    """The models after an engine without a log has read the same events."""
    models = build_models(SETTINGS)
    reference = Reference(campaigns={campaign.campaign_id: campaign for campaign in campaigns()})
    engine = build_engine(SETTINGS, models, reference, config=SETTINGS.engine_config(partitions=1))
    models.fold.begin()
    engine.process([as_record(record) for record in setup.read(setup.names.events)])
    models.fold.keep()
    return models.fold


def write(setup: Setup, records: Mapping[bytes, bytes | None]) -> None:
    """Put records on the snapshot topic."""

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=setup.kafka.bootstrap) as producer:
            for key, value in records.items():
                await producer.send_and_wait(setup.names.model_snapshots, key=key, value=value)

    asyncio.run(send())


def first_delta(setup: Setup) -> int:
    """Where the delta log begins."""

    async def first() -> int:
        partition = TopicPartition(setup.names.model_deltas, 0)
        async with KafkaTransport(setup.kafka).reader([partition]) as reader:
            return (await reader.beginning_offsets([partition]))[partition]

    return asyncio.run(first())


def test_a_trimmed_log_and_its_snapshots_hold_the_same_models(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    """Bit for bit those that the events teach: from the newest one, and from the other if it is damaged."""
    setup = started(kafka_broker, tmp_path)
    older, newer = manifests(setup)
    assert older.positions <= newer.positions
    assert 0 < first_delta(setup) <= older.positions[0]
    expected = learned(setup).digest()
    assert expected == restored(setup).digest()

    write(setup, {f"{newer.id}/000000".encode(): b"damaged"})
    assert expected == restored(setup).digest()


def test_without_a_snapshot_a_trimmed_log_is_refused(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    """So are other model settings over an old snapshot: named errors, nothing mixed."""
    setup = started(kafka_broker, tmp_path)
    with pytest.raises(Exception, match="other model settings"):
        restored(setup, Settings(max_items=2048, click_slots=4096))

    trim_to_end(setup)
    write(setup, {f"{manifest.id}/manifest".encode(): None for manifest in manifests(setup)})
    with WorkerProcess(setup.environment | SMALL, tmp_path / "refused.log") as worker:
        worker.start()
        assert 78 == worker.wait()
        assert "no complete snapshot" in worker.tail()


def trim_to_end(setup: Setup) -> None:
    """Delete all deltas."""

    async def trim() -> None:
        partition = TopicPartition(setup.names.model_deltas, 0)
        transport = KafkaTransport(setup.kafka)
        async with transport.reader([partition]) as reader:
            await transport.delete_before(await reader.end_offsets([partition]))

    asyncio.run(trim())


def test_blocks_that_a_dead_writer_left_do_not_stay(embedded_broker: EmbeddedBroker) -> None:
    """Without a manifest they are no snapshot: they go once two are newer; those of a newer writer stay."""
    setup = create_topics(embedded_broker.bootstrap, f"snapshots-{next(_NUMBERS)}", partitions=1)
    log = SnapshotLog(KafkaTransport(setup.kafka), setup.names.model_snapshots)
    left = {f"{5:020d}-dead/{n:06d}".encode(): b"block" for n in range(3)}
    late = f"{99:020d}-late/000000".encode()
    write(setup, {**left, late: b"block"})
    names = []
    for position in (10, 20, 30):
        asyncio.run(log.write({"a": np.arange(position)}, [position], [position]))
        newest = {record.key or b"": record.value for record in setup.read(setup.names.model_snapshots)}
        alive = {key.decode().partition("-")[0] for key, value in newest.items() if value is not None}
        names.append([int(name) for name in sorted(alive)])

    assert [[5, 10, 99], [10, 20, 99], [20, 30, 99]] == names
    found = asyncio.run(log.newest([20]))
    assert found is not None
    assert [30] == found.manifest.positions
