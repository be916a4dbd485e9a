"""The main job on real events: public data through Kafka, a worker, and back, read_committed."""

from __future__ import annotations

import io
import json
import random
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka.partitioner import DefaultPartitioner

from schemas.codec import parse_time, rfc3339
from stream.importing import import_events
from stream.runtime.broker import EmbeddedBroker, KafkaBroker
from stream.runtime.chunks import CHUNK_BYTES, PART, Joiner
from stream.testing import cart_campaign, event
from tests.hostile import GOOD, HOSTILE
from tests.oracles.abandoned_carts import abandoned_carts
from tests.runtime.topic_setup import Setup, create_topics
from tests.runtime.worker_process import WorkerProcess, wait_until

N_EVENTS, N_PARTITIONS = 20_000, 2
DELAY_S, LATENESS_S = 3600.0, 300.0
OPEN = {"CAMPAIGNS__DAILY_CAP": "null", "CAMPAIGNS__COOLDOWNS": "false", "CAMPAIGNS__HOLDOUT_SHARE": "0"}
STRICT = {"CAMPAIGNS__DAILY_CAP": "1", "CAMPAIGNS__COOLDOWNS": "true", "CAMPAIGNS__HOLDOUT_SHARE": "0.2"}
CONSENT = {"CONSENT__WHEN_UNKNOWN": "allow"}


def closing_events(at: float) -> list[bytes]:
    """One event for each partition, so that the watermark of each passes what is due by then."""
    partitioner, found = DefaultPartitioner(), dict[int, bytes]()
    for n in range(1000):
        user = f"closing-{n}"
        partition = partitioner(user.encode(), list(range(N_PARTITIONS)), list(range(N_PARTITIONS)))
        body = {"messageId": user, "userId": user, "timestamp": rfc3339(at), "event": "Cart Viewed"}
        found.setdefault(partition, orjson.dumps(body))
    return [found[partition] for partition in range(N_PARTITIONS)]


@pytest.fixture(scope="module")
def taobao_lines(data_dir: Path) -> list[bytes]:
    """The first 20,000 events of the imported Taobao file, and one at the end for each partition."""
    imported = io.BytesIO()
    import_events(
        "taobao",
        data_dir / "taobao" / "UserBehavior_first100k.csv.gz",
        out=imported,
        from_s=parse_time("2017-11-24"),
        to_s=parse_time("2017-12-04"),
    )
    imported.seek(0)
    lines = [line.rstrip() for line in islice(imported, N_EVENTS)]
    return lines + closing_events(parse_time(json.loads(lines[-1])["timestamp"]) + 7200)


def run(broker: KafkaBroker | EmbeddedBroker, lines: list[bytes], rules: dict[str, str], log: Path) -> Setup:
    """Produce the lines, let a worker apply them all, stop it; return where its outputs are."""
    name = f"real-{log.stem}"
    setup = create_topics(broker.bootstrap, name, partitions=N_PARTITIONS)
    setup.produce_campaigns([cart_campaign(delay_s=DELAY_S)])
    setup.produce_events(lines)
    with WorkerProcess(setup.environment | CONSENT | rules, log) as worker:
        worker.start()
        wait_until("all applied", lambda: alive(worker) and setup.applied() == len(lines), 300.0)
        wait_until(
            "all counted", lambda: worker.metric("nudge_events_consumed_total") == len(lines), limit_s=30.0
        )
        rejected = worker.metric("nudge_events_rejected_total")
        duplicate = worker.metric("nudge_events_duplicate_total")
        accepted = worker.metric("nudge_events_accepted_total")
        code, seconds = worker.terminate()
    assert (0, True) == (code, seconds <= 5.0)
    assert len(lines) == accepted + duplicate + rejected
    assert rejected == len(setup.read(setup.names.dead_letters))
    return setup


def alive(worker: WorkerProcess) -> bool:
    """Fail at once when the worker has ended."""
    assert worker.code() is None, worker.tail()
    return True


def values(setup: Setup, topic: str) -> list[dict[str, Any]]:
    """Committed values of a topic."""
    return [orjson.loads(record.value or b"{}") for record in setup.read(topic)]


def test_cart_triggers_on_kafka_equal_an_independent_count(
    kafka_broker: KafkaBroker, taobao_lines: list[bytes], tmp_path: Path
) -> None:
    """Caps, cooldown and holdout off: message for message what a few independent lines compute.

    With them on, the same messages are eligible, and each is sent or has its reason.
    """
    free = run(kafka_broker, taobao_lines, OPEN, tmp_path / "free.log")
    triggers = values(free, free.names.triggers)
    sent = [
        (t["recipient"]["user_id"], t["context"]["product_id"], t["cause"]["message_id"]) for t in triggers
    ]
    expected = abandoned_carts(taobao_lines, DELAY_S, LATENESS_S)

    assert expected == set(sent)
    assert len(sent) == len(expected) > 500
    for topic, field in (
        (free.names.recommendations, "id"),
        (free.names.triggers, "id"),
        (free.names.decisions, "decision_id"),
    ):
        ids = [value[field] for value in values(free, topic)]
        assert len(ids) == len(set(ids)) > 500

    strict = run(kafka_broker, taobao_lines, STRICT, tmp_path / "strict.log")
    strict_sent = {t["id"] for t in values(strict, strict.names.triggers)}
    fates = Counter(d.get("reason", "sent") for d in rule_decisions(strict))
    assert strict_sent < {t["id"] for t in triggers}
    assert len(expected) == sum(fates.values())
    assert len(strict_sent) == fates["sent"]
    assert (
        {"sent", "cooldown", "holdout"} <= set(fates) <= {"sent", "cooldown", "holdout", "frequency_capped"}
    )


def rule_decisions(setup: Setup) -> list[dict[str, Any]]:
    """Decisions about messages: sent, suppressed, held out."""
    kinds = {"trigger", "suppression", "holdout"}
    return [d for d in values(setup, setup.names.decisions) if d["kind"] in kinds]


def test_movielens_on_kafka(kafka_broker: KafkaBroker, data_dir: Path, tmp_path: Path) -> None:
    """Ratings through the worker: every input accounted for, slates with reasons come out."""
    imported = io.BytesIO()
    import_events("movielens", data_dir / "ml-100k" / "ml-100k.inter.gz", out=imported)
    imported.seek(0)
    setup = run(kafka_broker, [line.rstrip() for line in islice(imported, 5000)], {}, tmp_path / "ml.log")
    slates = values(setup, setup.names.recommendations)

    assert len(slates) > 100
    assert any(item["reasons"] for slate in slates for item in slate["items"])


def test_hostile_lines_go_through_the_worker(embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    """Each ends as a dead letter with its code and bytes, or is counted; good events between are applied."""
    lines: list[bytes] = [GOOD.replace(b"h-0", b"first")]
    # A broker takes 1 MB at most; what is larger never reaches us.
    hostile = [case for case in HOSTILE if len(case[1]) < 900_000 and case[2] != "late"]
    for n, (_, raw, _) in enumerate(hostile):
        lines += [raw, GOOD.replace(b'"h-0"', f'"good-{n}"'.encode()).replace(b"u-hostile", b"g")]
    setup = run(embedded_broker, lines, {}, tmp_path / "hostile.log")
    letters = setup.read(setup.names.dead_letters)
    codes = Counter(dict(letter.headers)["nudge.error.code"].decode() for letter in letters)
    wanted = Counter(case[2] for case in hostile if case[2] not in {"accepted", "unknown"})

    assert wanted == codes
    assert {case[1] for case in hostile if case[2] in wanted} == {letter.value or b"" for letter in letters}


def test_the_largest_record_a_broker_takes_comes_back_whole(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    """A megabyte that does not compress, as large as producers may send, is a dead letter, no stop."""
    largest = random.Random(1).randbytes(1_048_576 - 500)
    after = GOOD.replace(b"h-0", b"after")
    setup = run(kafka_broker, [GOOD, largest, after], {}, tmp_path / "largest.log")
    [letter] = setup.read(setup.names.dead_letters)

    assert largest == letter.value
    assert b"too_large" == dict(letter.headers)["nudge.error.code"]


def test_a_batch_of_large_orders_teaches_more_than_a_megabyte(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    """Forty orders of 150 products teach several megabytes: chunks, which a second life folds."""
    orders = [
        event(
            "Order Completed",
            user="u1",
            at=60.0 * n,
            order_id=f"o{n}",
            products=[{"product_id": f"p{(150 * n + k) % 3000}"} for k in range(150)],
        )
        for n in range(40)
    ]
    setup = run(kafka_broker, orders, {}, tmp_path / "orders.log")
    records = setup.read(setup.names.model_deltas)
    assert max(len(record.value or b"") for record in records) <= CHUNK_BYTES
    joiners: dict[int, Joiner] = defaultdict(Joiner)
    deltas = [joiners[r.partition].add(r.value or b"", dict(r.headers)[PART]) for r in records]
    assert max(len(delta) for delta in deltas if delta is not None) > 2_000_000

    with WorkerProcess(setup.environment | CONSENT, tmp_path / "again.log") as worker:
        worker.start()
        worker.wait_ready()
        assert 0 == worker.terminate()[0]
