"""Records that no decoder takes: all of them are dead letters, and the others do not notice."""

from __future__ import annotations

import random
from pathlib import Path

from stream.runtime.broker import KafkaBroker
from stream.runtime.statecodec import HEADER_KEY
from tests.chaos.harness import Fleet, topics_for
from tests.chaos.report import SEED, report, size
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.shop_stream import shop_stream
from tests.runtime.topic_setup import Setup
from tests.runtime.worker_process import SETTINGS

MIN_RATIO = 0.8


def test_half_of_the_input_is_poison(kafka_broker: KafkaBroker, tmp_path: Path, name: str) -> None:
    """Every bad record is a dead letter with its source and bytes; no restart; 80 % of a clean speed."""
    n = size(2000, 500_000)
    random_ = random.Random(SEED)
    poison = [b'\xff\x00{"poison":%d' % k + random_.randbytes(random_.randrange(40)) for k in range(n)]
    good = list(shop_stream(n, SEED))
    mixed = [line for pair in zip(poison, good, strict=False) for line in pair] + good[n:]
    hurt = topics_for(kafka_broker.bootstrap, name, batch_records=200)
    clean = topics_for(kafka_broker.bootstrap, f"{name}-clean", batch_records=200)
    hurt.produce_events(mixed)
    clean.produce_events(shop_stream(2 * n, SEED))

    (tmp_path / "clean").mkdir()
    with Fleet(hurt, tmp_path, rate=0) as fleet, Fleet(clean, tmp_path / "clean", rate=0) as beside:
        fleet.start()
        beside.start()
        fleet.drain()
        beside.drain()
        assert 1 == len(fleet.events("assigned"))
        assert [] == fleet.events("partition_rebuild")
        fleet.finish()
        beside.finish()
    ratio = _records_per_s(hurt, fleet.total) / _records_per_s(clean, beside.total)

    sources = {(r.partition, r.offset): r for r in hurt.read(hurt.names.events)}
    letters = {}
    for record in hurt.read(hurt.names.dead_letters):
        headers = dict(record.headers)
        assert hurt.names.events.encode() == headers["__streams.errors.topic"]
        source = sources[int(headers["__streams.errors.partition"]), int(headers["__streams.errors.offset"])]
        assert (source.key, source.value) == (record.key, record.value)
        letters[source.partition, source.offset] = record.value
    found = [value for value in letters.values() if value and value.startswith(b"\xff")]
    report(name, events=fleet.total, poison=n, dead_letters=len(found), speed_ratio=round(ratio, 2))
    assert sorted(poison) == sorted(found)
    assert ratio >= MIN_RATIO
    assert_as_without_faults(hurt, SETTINGS)


def _records_per_s(setup: Setup, records: int) -> float:
    """Rate between the first and the last commit, by the times of their headers."""
    times = [r.timestamp for r in setup.read(setup.names.user_state) if r.key == HEADER_KEY]
    return records / ((max(times) - min(times)) / 1000)
