"""A replay of a topic's range is what the live worker did on it: Apache Kafka, two partition counts."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import msgspec
import orjson
import pytest

from schemas.codec import rfc3339
from stream.runtime.broker import KafkaBroker
from stream.testing import EPOCH
from tests.nudge_process import nudge
from tests.runtime.oracle import RULES
from tests.runtime.shop_stream import START, campaigns, shop_stream
from tests.runtime.topic_setup import Setup, create_topics
from tests.runtime.worker_process import SMALL, WorkerProcess, wait_until


def ran(setup: Setup, log: Path, lines: list[bytes]) -> None:
    """Let a live worker apply the lines, and stop it."""
    setup.produce_campaigns(campaigns())
    setup.produce_events(lines)
    with WorkerProcess(setup.environment | SMALL, log) as worker:
        worker.start()
        wait_until("all applied", lambda: setup.applied() == len(lines))
        assert 0 == worker.terminate()[0]


def replayed(setup: Setup, out: Path, *more: str, **settings: str) -> Path:
    """Replay the events topic with the same campaigns and settings into a folder."""
    path = out.parent / "campaigns.json"
    path.write_bytes(msgspec.json.encode(campaigns()))
    environment = {f"NUDGE_{name}": value for name, value in (setup.environment | SMALL | settings).items()}
    source = ("--from-topic", setup.names.events, *more)
    done = nudge("replay", *source, "--campaigns", path, "--out", out, "--json", environment=environment)
    assert 0 == done.returncode, done.stderr
    return out


def rule_decisions(lines: list[bytes]) -> Counter[bytes]:
    """Decisions in which no model had a part."""
    return Counter(line for line in lines if orjson.loads(line)["kind"] in RULES)


@pytest.mark.parametrize("n_partitions", [2, 5])
def test_a_replay_of_the_topic_sends_what_the_worker_sent(
    kafka_broker: KafkaBroker, tmp_path: Path, n_partitions: int
) -> None:
    """Triggers, dry runs, rule decisions and dead letters byte for byte; explain reads them on the topic.

    A part of the range, by offsets and by time, is that part; a go-live time after all of it sends nothing.
    """
    name = f"travel-{n_partitions}-{os.getpid()}"
    setup = create_topics(kafka_broker.bootstrap, name, partitions=n_partitions, batch_records=150)
    lines = list(shop_stream(1500, seed=9))
    ran(setup, tmp_path / "worker.log", lines)
    out = replayed(setup, tmp_path / "out")
    triggers = setup.read(setup.names.triggers) + setup.read(setup.names.triggers_dry_run)
    live = Counter(record.value or b"" for record in triggers)
    decisions = [record.value or b"" for record in setup.read(setup.names.decisions)]

    assert live.total() > 100
    assert live == Counter((out / "triggers.jsonl").read_bytes().splitlines())
    assert rule_decisions(decisions) == rule_decisions((out / "decisions.jsonl").read_bytes().splitlines())
    report = json.loads((out / "report.json").read_bytes())
    assert len(setup.read(setup.names.dead_letters)) == sum(report["events"]["rejected"].values())

    halves = ",".join(f"{p}:{end // 2}" for p, end in setup.ends(setup.names.events).items())
    half = replayed(setup, tmp_path / "half", "--to", halves)
    rest = replayed(setup, tmp_path / "rest", "--from", halves)
    read = [json.loads((part / "report.json").read_bytes())["events"]["read"] for part in (half, rest)]
    assert (len(lines), sum(end // 2 for end in setup.ends(setup.names.events).values())) == (
        sum(read),
        read[0],
    )
    later = replayed(setup, tmp_path / "later", "--from", "2100-01-01")
    assert 0 == json.loads((later / "report.json").read_bytes())["events"]["read"]

    for begin, end, code in (
        ("1960-01-01", "1969-01-01", 0),
        ("2026-01-02", "2026-01-01", 2),
        ("0:1000000", "0:1000001", 2),
        ("0:20", "0:10", 2),
    ):
        bounds = ("--from", begin, "--to", end, "--out", tmp_path / "none")
        environment = {f"NUDGE_{key}": value for key, value in setup.environment.items()}
        done = nudge("replay", "--from-topic", setup.names.events, *bounds, environment=environment)
        assert code == done.returncode, done.stderr
        assert b"Traceback" not in done.stderr

    silent = replayed(setup, tmp_path / "silent", CAMPAIGNS__GO_LIVE=rfc3339(EPOCH + START + 10 * 86_400.0))
    assert b"" == (silent / "triggers.jsonl").read_bytes()

    user = orjson.loads(decisions[0])["user_id"]
    environment = {f"NUDGE_{key}": value for key, value in setup.environment.items()}
    told = json.loads(nudge("explain", user, "--json", environment=environment).stdout)
    assert sum(orjson.loads(value)["user_id"] == user for value in decisions) == len(told["decisions"])
