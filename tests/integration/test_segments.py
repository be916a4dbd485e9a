"""Segments through a worker on Apache Kafka: each change once, as a replay of the topic tells it."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import orjson

from stream.core.lifecycle import STAGES
from stream.runtime.broker import KafkaBroker
from stream.runtime.producing import produce
from tests.nudge_process import nudge
from tests.runtime.shop_stream import shop_stream
from tests.runtime.topic_setup import create_topics
from tests.runtime.worker_process import SMALL, WorkerProcess, wait_until

DEFINED = [
    *({"segment_id": name, "version": 1, "when": {"fact": "user.stage", "is": name}} for name in STAGES),
    {"segment_id": "buyers", "version": 1, "when": {"fact": "user.n_orders", "at_least": 2}},
    {"segment_id": "recent", "version": 1, "when": {"fact": "user.order_age_s", "at_most": 3600}},
]


def test_a_killed_worker_tells_each_change_once(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    """Killed half way and started again: the committed changes are those of a replay, key by key, once."""
    name = f"segments-{os.getpid()}"
    setup = create_topics(kafka_broker.bootstrap, name, partitions=2, batch_records=80)
    lines = list(shop_stream(1200, seed=3))
    definitions = [orjson.dumps(defined) for defined in DEFINED]
    asyncio.run(produce(setup.kafka.bootstrap, setup.names.campaigns, definitions, key="campaign_id"))
    setup.produce_events(lines)
    with WorkerProcess(setup.environment | SMALL, tmp_path / "worker.log") as worker:
        worker.start()
        wait_until("half applied", lambda: setup.applied() >= len(lines) // 2)
        worker.kill()
        worker.start()
        wait_until("all applied", lambda: setup.applied() == len(lines))
        assert 0 == worker.terminate()[0]
    (tmp_path / "segments.json").write_bytes(orjson.dumps(DEFINED))
    source = ("--from-topic", setup.names.events, "--campaigns", tmp_path / "segments.json")
    environment = {f"NUDGE_{key}": value for key, value in (setup.environment | SMALL).items()}
    done = nudge("replay", *source, "--out", tmp_path / "out", "--json", environment=environment)
    records = setup.read(setup.names.segments)
    told = [orjson.loads(record.value or b"{}") for record in records]

    assert 0 == done.returncode, done.stderr
    assert len(told) > 200
    assert Counter((tmp_path / "out" / "segments.jsonl").read_bytes().splitlines()) == Counter(
        record.value for record in records
    )
    assert len(told) == len({change["id"] for change in told})
    for record, change in zip(records, told, strict=True):
        assert record.key == f"{change['user_id']}|{change['segment']}".encode()
        assert b"nudge.segment.v1" == dict(record.headers)["ce_type"]
