"""More partitions: users, timers, caps and models move along, and what runs or waits is not left behind."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import orjson

from schemas.campaigns import Campaign
from stream.assembly import build_models
from stream.runtime.broker import KafkaBroker
from stream.runtime.kafka import KafkaTransport
from stream.runtime.modellog import ModelLog
from stream.runtime.snapshots import SnapshotLog
from stream.runtime.turns import ModelTurns
from stream.sections import KafkaSettings
from stream.testing import cart_campaign, event
from tests.runtime.shop_stream import CONSENT
from tests.runtime.topic_setup import Setup
from tests.runtime.worker_process import ROOT, SETTINGS, SMALL, WorkerProcess, wait_until

HOUR_S = 3600.0
START = -800 * 86_400.0 + 13 * HOUR_S


def campaigns() -> list[Campaign]:
    """One that waits for hours, so that timers are armed when everything moves, and caps by day."""
    return [
        cart_campaign("cart", delay_s=6 * HOUR_S, cooldown_s=3 * 86_400.0, consent=CONSENT),
        cart_campaign("receipt", message_class="transactional", delay_s=2 * HOUR_S, consent=CONSENT),
    ]


def ordered_stream() -> list[bytes]:
    """In order and without faults, so that results do not depend on the number of partitions."""
    lines = []
    for k in range(1600):
        at, user, item = 60.0 * k - 800 * 86_400.0, f"u{k * 7 % 90}", f"p{k * 11 % 40}"
        name = ("Product Viewed", "Product Added", "Product Added", "Order Completed")[k % 4]
        fields = {"products": [{"product_id": item}]} if name == "Order Completed" else {"product_id": item}
        lines.append(event(name, user=user, at=at, message_id=f"m{k}", **fields))
    end = 60.0 * 1600 - 800 * 86_400.0 + 12 * HOUR_S
    return [*lines, *(event("Cart Viewed", user=f"end{k}", at=end, message_id=f"e{k}") for k in range(60))]


def topics(broker: KafkaBroker, name: str, partitions: int) -> Setup:
    """Topics under a prefix, not created."""
    return Setup(
        KafkaSettings(
            bootstrap=broker.bootstrap,
            topic_prefix=f"{name}.",
            group="growing",
            partitions=partitions,
            session_timeout_ms=6000,
        )
    )


def run(setup: Setup, lines: list[bytes], tmp_path: Path) -> None:
    """Send events and let a worker read them."""
    before = setup.applied()
    setup.produce_events(lines)
    with WorkerProcess(setup.environment | SMALL, tmp_path / f"{setup.kafka.topic_prefix}log") as worker:
        worker.start()
        wait_until("all applied", lambda: setup.applied() == before + len(lines))
        assert 0 == worker.terminate()[0]


def grow(setup: Setup, to_prefix: str, partitions: int) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator does."""
    environment = os.environ | {f"NUDGE_{k}": v for k, v in (setup.environment | SMALL).items()}
    command = [sys.executable, "-m", "stream", "topics", "grow", "--to-prefix", to_prefix, "--json"]
    return subprocess.run(
        [*command, "--partitions", str(partitions)],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def message_ids(*setups: Setup) -> list[str]:
    """Ids of all triggers, sorted."""
    found = [orjson.loads(r.value or b"{}")["id"] for s in setups for r in s.read(s.names.triggers)]
    return sorted(found)


def counts(setup: Setup) -> dict[str, float]:
    """How often each item was seen, in the models that a worker would start with."""
    models, transport, names = build_models(SETTINGS), KafkaTransport(setup.kafka), setup.names
    snapshots, turns = SnapshotLog(transport, names.model_snapshots), ModelTurns(models.fold)
    asyncio.run(ModelLog(transport, names.model_deltas, turns, snapshots, setup.kafka.partitions).restore())
    popularity = models.blend.popularity
    return {f"p{k}": round(popularity.count(f"p{k}", START, 0), 6) for k in range(40)}


def test_moved_users_get_the_messages_they_would_have_got(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    """Half of a stream on two partitions, the rest on five: messages as on five from the beginning."""
    lines = ordered_stream()
    straight = topics(kafka_broker, "straight", 5)
    straight.create()
    straight.produce_campaigns(campaigns())
    run(straight, lines, tmp_path)

    old, new = topics(kafka_broker, "before", 2), topics(kafka_broker, "after", 5)
    old.create()
    old.produce_campaigns(campaigns())
    run(old, lines[:800], tmp_path)
    wait_until("the group is empty", lambda: "is Stable" not in grow(old, "after.", 5).stderr)
    assert 90 == len({r.key for r in new.read(new.names.user_state)} - {b"\x00header"})
    assert 40 == sum(count > 0 for count in counts(old).values())
    assert counts(old) == counts(new)
    run(new, lines[800:], tmp_path)

    expected = message_ids(straight)
    assert 100 < len(expected) == len(set(expected))
    assert 0 < len(message_ids(old)) < len(expected)
    assert expected == message_ids(old, new)


def test_nothing_is_left_behind(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    """Events that wait, workers that run and topics that are in use are refused by name."""
    setup = topics(kafka_broker, "waiting", 2)
    setup.create()
    setup.produce_events(ordered_stream()[:100])
    refused = grow(setup, "waiting-2.", 3)
    assert (78, True) == (refused.returncode, "wait: stop the producers" in refused.stderr)

    with WorkerProcess(setup.environment | SMALL, tmp_path / "worker.log") as worker:
        worker.start()
        wait_until("all applied", lambda: setup.applied() == 100)
        refused = grow(setup, "waiting-2.", 3)
        assert (78, True) == (refused.returncode, "stop all workers" in refused.stderr)
        assert 0 == worker.terminate()[0]

    other = Setup(setup.kafka.model_copy(update={"topic_prefix": "waiting-5.", "partitions": 5}))
    other.create()
    refused = grow(setup, "waiting-5.", 3)
    assert (78, True) == (refused.returncode, "has 5 partitions already, not 3" in refused.stderr)
    assert [] == other.read(other.names.user_state)

    grown = grow(setup, "waiting-2.", 3)
    assert 0 == grown.returncode, grown.stderr
    assert {"users", "reference_records", "model_bytes"} == set(json.loads(grown.stdout))
    refused = grow(setup, "waiting-2.", 3)
    assert (78, True) == (refused.returncode, "hold records already" in refused.stderr)
