"""A cluster that is spoken to over TLS, and asks who is there: by password, or by certificate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stream.runtime.broker import KafkaBroker, free_ports
from tests.conftest import missing, running
from tests.runtime.shop_stream import shop_stream
from tests.runtime.worker_process import ROOT, SMALL, WorkerProcess, wait_until

N_EVENTS = 300
PASSWORD = "open-sesame"  # of a broker that lives for a test
LISTENERS = {"PLAIN": "SASL_SSL", "MUTUAL": "SSL"}
JAAS = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@dataclass(frozen=True, slots=True)
class Secured:
    """A broker with two secured listeners, and the files of who may use them."""

    ports: dict[str, int]
    certificate: Path
    key: Path

    def settings(self, listener: str) -> dict[str, str]:
        """What a client needs, as variables without their prefix."""
        of_listener = {
            "PLAIN": {
                "SASL_MECHANISM": "PLAIN",
                "SASL_USERNAME": "nudge",
                "SASL_PASSWORD": PASSWORD,
            },
            "MUTUAL": {"SSL_CERTFILE": str(self.certificate), "SSL_KEYFILE": str(self.key)},
        }[listener] | {
            "BOOTSTRAP": f"127.0.0.1:{self.ports[listener]}",
            "SECURITY_PROTOCOL": LISTENERS[listener],
            "SSL_CAFILE": str(self.certificate),
            "TOPIC_PREFIX": f"{listener.lower()}.",
            "GROUP": f"group-{listener.lower()}",
            "PARTITIONS": "1",
        }
        return {f"KAFKA__{name}": value for name, value in of_listener.items()}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One certificate for broker and client, which each trusts."""
    folder = tmp_path_factory.mktemp("secured")
    certificate, key, both = folder / "certificate.pem", folder / "key.pem", folder / "both.pem"
    openssl = shutil.which("openssl")
    if openssl is None:
        missing("openssl is not installed; it makes the certificates of this test")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=nudge-test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    both.write_text(key.read_text() + certificate.read_text())
    clients, controller, *own = free_ports(2 + len(LISTENERS))
    ports = dict(zip(LISTENERS, own, strict=True))
    addresses = "".join(f",{name}://127.0.0.1:{port}" for name, port in ports.items())
    overrides = {
        "listeners": f"PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}{addresses}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{clients}{addresses}",
        "listener.security.protocol.map": ",".join(
            ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"{n}:{p}" for n, p in LISTENERS.items())]
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificate),
        "listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.plain.plain.sasl.jaas.config": f'{JAAS} user_nudge="{PASSWORD}";',
        "listener.name.mutual.ssl.client.auth": "required",
    }
    with running(KafkaBroker(overrides=overrides, ports=(clients, controller))):
        yield Secured(ports, certificate, key)


def nudge(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as an operator does."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("NUDGE_KAFKA")}
    return subprocess.run(
        [sys.executable, "-m", "stream", *arguments],
        cwd=ROOT,
        env=ours | {f"NUDGE_{name}": value for name, value in (SMALL | settings).items()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("listener", sorted(LISTENERS))
def test_a_worker_and_every_command_speak_it(secured: Secured, listener: str, tmp_path: Path) -> None:
    """Topics, events, the worker, commands, dead letters, the doctor and a replay from the topic."""
    settings = secured.settings(listener)
    events = tmp_path / "events.jsonl"
    lines = list(shop_stream(N_EVENTS, 1))
    events.write_bytes(b"\n".join(lines) + b"\n")

    assert 0 == nudge(settings, "topics", "apply").returncode
    sent = nudge(settings, "produce", str(events))
    assert 0 == sent.returncode, sent.stderr
    with WorkerProcess(SMALL | settings, tmp_path / "worker.log") as worker:
        worker.start()
        worker.wait_ready()
        consumed = f"nudge_events_consumed_total {len(lines)}.0"
        wait_until("all events consumed", lambda: consumed in worker.get("/metrics")[1], 30.0)
        assert 0 == nudge(settings, "erase", "u1").returncode
        assert 0 == worker.terminate()[0]
    assert PASSWORD not in (tmp_path / "worker.log").read_text()
    doctor = json.loads(nudge(settings, "doctor", "--json").stdout)
    assert [] == [finding for finding in doctor if finding["verdict"] == "fault"]
    assert 0 == nudge(settings, "dlq", "list").returncode
    replayed = nudge(
        settings, "replay", "--from-topic", f"{listener.lower()}.events.v1", "--out", str(tmp_path / "out")
    )
    assert 0 == replayed.returncode, replayed.stderr


@pytest.mark.parametrize(
    ("listener", "changed", "code", "told"),
    [
        ("PLAIN", {"SASL_PASSWORD": "wrong"}, 69, "no Kafka at"),
        ("PLAIN", {"SSL_CAFILE": ""}, 69, "no Kafka at"),
        ("MUTUAL", {"SSL_CERTFILE": "", "SSL_KEYFILE": ""}, 69, "no Kafka at"),
        ("MUTUAL", {"SSL_CAFILE": "/no/such/file.pem"}, 78, "NUDGE_KAFKA__SSL_CAFILE"),
        ("PLAIN", {"SASL_PASSWORD": ""}, 78, "sasl_password"),
    ],
)
def test_who_may_not_is_told_so(
    secured: Secured, listener: str, changed: dict[str, str], code: int, told: str
) -> None:
    """By exit code and by name, without the password."""
    settings = secured.settings(listener)
    for name, value in changed.items():
        settings[f"KAFKA__{name}"] = value
    settings = {name: value for name, value in settings.items() if value}
    done = nudge(settings, "topics", "plan")
    assert code == done.returncode, done.stderr
    assert told in done.stderr
    assert PASSWORD not in done.stderr + done.stdout
