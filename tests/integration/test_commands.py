"""Commands through Apache Kafka: every partition obeys, also over a restart, and its metrics say so."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from aiokafka import AIOKafkaProducer

from stream.runtime.broker import KafkaBroker
from stream.testing import cart_campaign, event
from tests.runtime.shop_stream import CONSENT
from tests.runtime.topic_setup import Setup, create_topics
from tests.runtime.worker_process import ROOT, SMALL, WorkerProcess, wait_until

START = -800 * 86_400.0


def nudge(setup: Setup, *arguments: str) -> str:
    """Run a command of the command line; what it says."""
    environment = {f"NUDGE_{key}": value for key, value in setup.environment.items()}
    command = [sys.executable, "-m", "stream", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**environment, "PATH": ""}, capture_output=True, text=True, check=True
    )
    return done.stderr


def carts(setup: Setup, part: int) -> None:
    """Eight users leave a cart; later events of as many others make the messages due."""
    at = START + 100_000.0 * part
    lines = [event("Product Added", user=f"u{part}-{n}", at=at + n, product_id="p1") for n in range(8)]
    lines += [event("Cart Viewed", user=f"w{part}-{n}", at=at + 50_000.0) for n in range(40)]
    setup.produce_events(lines)


def metrics(worker: WorkerProcess) -> str:
    """The worker's exposition."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def written_to(setup: Setup) -> set[str]:
    """Users with a committed message."""
    found = {json.loads(r.value or b"{}")["recipient"]["user_id"] for r in setup.read(setup.names.triggers)}
    return {user.partition("-")[0] for user in found}


def users_of_state(setup: Setup) -> set[bytes]:
    """Keys of the changelog that hold a row now."""
    newest: dict[bytes, bool] = {}
    for record in setup.read(setup.names.user_state):
        newest[record.key or b""] = bool(record.value)
    return {key for key, there in newest.items() if there}


def test_commands_stop_resume_and_erase_over_a_restart(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    """Messages of the second part are suppressed by both partitions, before and after a restart."""
    setup = create_topics(kafka_broker.bootstrap, "commands", partitions=2)
    setup.produce_campaigns([cart_campaign(consent=CONSENT)])
    with WorkerProcess(
        setup.environment | SMALL | {"CAMPAIGNS__HOLDOUT_SHARE": "0"}, tmp_path / "worker.log"
    ) as worker:
        worker.start()
        carts(setup, 0)
        wait_until("the first part applied", lambda: setup.applied() == 48)
        said = nudge(setup, "stop", "messages")
        assert "sent to 2 partitions" in said
        wait_until("both partitions stopped", lambda: _stopped(worker) == {"0": 1.0, "1": 1.0})
        assert 0 == worker.terminate()[0]
        worker.start()
        carts(setup, 1)
        wait_until("the second part applied", lambda: setup.applied() == 96)
        wait_until("the restarted worker knows it", lambda: _stopped(worker) == {"0": 1.0, "1": 1.0})
        nudge(setup, "resume", "messages")
        nudge(setup, "erase", "u0-3")
        _send_garbage(setup)
        wait_until("resumed", lambda: _stopped(worker) == {"0": 0.0, "1": 0.0})
        carts(setup, 2)
        wait_until("the third part applied", lambda: setup.applied() == 144)
        assert 0 == worker.terminate()[0]

    assert {"u0", "u2"} == written_to(setup)
    decisions = [json.loads(record.value or b"{}") for record in setup.read(setup.names.decisions)]
    assert 8 == sum(decision.get("reason") == "stopped" for decision in decisions)
    rows = users_of_state(setup)
    assert any(b"u0-2" in key for key in rows)
    assert not any(b"u0-3" in key for key in rows)
    letters = [
        (dict(record.headers)["nudge.error.code"], record.value)
        for record in setup.read(setup.names.dead_letters)
    ]
    assert [(b"not_json", b"garbage")] == letters


def _stopped(worker: WorkerProcess) -> dict[str, float]:
    lines = [line for line in metrics(worker).splitlines() if line.startswith("nudge_switches_stopped{")]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}


def _send_garbage(setup: Setup) -> None:
    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=setup.kafka.bootstrap) as producer:
            await producer.send_and_wait(setup.names.commands, b"garbage", partition=0)

    asyncio.run(send())
