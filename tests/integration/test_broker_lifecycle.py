"""Brokers start, stop, die and come back as fault tests and the demo need it."""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream.runtime.broker import Broker, BrokerUnavailable, EmbeddedBroker, KafkaBroker, open_broker

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 20.0

START_AND_WAIT = """
from stream.runtime.broker import EmbeddedBroker
broker = EmbeddedBroker()
print(broker.start(), broker.pid, broker.data_dir, flush=True)
input()
"""


@pytest.fixture
def own_kafka(kafka_broker: KafkaBroker) -> Iterator[KafkaBroker]:
    """An Apache Kafka of the test's own, to be hurt; asks for the shared one to know that it can start."""
    assert kafka_broker.pid
    broker = KafkaBroker()
    yield broker
    broker.close()


@pytest.fixture
def own_embedded() -> Iterator[EmbeddedBroker]:
    """An embedded broker of the test's own, to be hurt."""
    broker = EmbeddedBroker()
    yield broker
    broker.close()


async def write(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """Create the topic if it is new and write acknowledged records to partition 0."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    for value in values:
        await producer.send_and_wait(topic, value, partition=0)
    await producer.stop()


async def read(bootstrap: str, topic: str) -> list[bytes | None]:
    """All values of partition 0."""
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    consumer.assign([partition])
    end = (await consumer.end_offsets([partition]))[partition]
    found: list[bytes | None] = []
    while await consumer.position(partition) < end:
        for records in (await consumer.getmany(timeout_ms=100)).values():
            found.extend(record.value for record in records)
    await consumer.stop()
    return found


def listens(bootstrap: str) -> bool:
    """Whether anybody accepts connections on the address."""
    host, port = bootstrap.split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1.0):
        return True
    return False


def listening_addresses(pid: int) -> set[str]:
    """Addresses on which a process accepts connections, from Linux' own tables."""
    inodes = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(handle.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            local, state, inode = row.split()[1], row.split()[3], row.split()[9]
            if state == "0A" and inode in inodes:  # 0A: LISTEN
                words = bytes.fromhex(local.split(":")[0])
                # The kernel prints each 32-bit word in the machine's order.
                packed = b"".join(words[n : n + 4][::-1] for n in range(0, len(words), 4))
                found.add(str(ipaddress.ip_address(packed)))
    return found


async def test_embedded_keeps_data_over_a_clean_restart(own_embedded: EmbeddedBroker) -> None:
    """Stop and start: same address, same records."""
    first = own_embedded.start()
    await write(first, "kept", [b"1", b"2"])
    assert first == own_embedded.restart()
    assert [b"1", b"2"] == await read(first, "kept")


async def test_kafka_keeps_acknowledged_records_over_stop_and_kill(own_kafka: KafkaBroker) -> None:
    """Neither a clean restart nor SIGKILL loses an acknowledged record, and the address stays."""
    first = own_kafka.start()
    await write(first, "kept", [b"1"])
    assert first == own_kafka.restart()
    await write(first, "kept", [b"2"])
    own_kafka.kill()
    assert not listens(first)
    assert first == own_kafka.start()
    assert [b"1", b"2"] == await read(first, "kept")


def test_brokers_listen_on_loopback_only(broker: Broker) -> None:
    """No port of a development broker is reachable from another machine."""
    addresses = {ipaddress.ip_address(address) for address in listening_addresses(broker.pid)}
    assert addresses
    for address in addresses:
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        assert (mapped or address).is_loopback


def test_paused_broker_answers_nothing_until_resumed(own_embedded: EmbeddedBroker) -> None:
    """Pausing keeps the process and its port; stop() ends a paused broker too."""
    bootstrap = own_embedded.start()
    pid = own_embedded.pid
    own_embedded.pause()
    deadline = time.monotonic() + DEADLINE_S
    while process_state(pid) != "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process_state(pid) == "T"
    own_embedded.resume()
    while process_state(pid) == "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process_state(pid) in "RS"
    own_embedded.pause()
    own_embedded.stop()
    assert not listens(bootstrap)


def process_state(pid: int) -> str:
    """Linux' letter for the state of a process."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]


def test_broker_dies_with_the_process_that_started_it() -> None:
    """After SIGKILL of its owner nothing listens any more: no orphan holds a port or memory."""
    owner = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    bootstrap, pid, data_dir = owner.stdout.readline().decode().split()
    assert listens(bootstrap)
    assert int(pid) != owner.pid
    owner.send_signal(signal.SIGKILL)
    owner.wait(DEADLINE_S)
    deadline = time.monotonic() + DEADLINE_S
    while listens(bootstrap) and time.monotonic() < deadline:
        time.sleep(0.02)
    owner.stdin.close()
    owner.stdout.close()
    assert not listens(bootstrap)
    shutil.rmtree(data_dir)  # nobody was left to remove it


def test_close_removes_what_the_broker_made(tmp_path: Path) -> None:
    """A temporary data directory goes with the broker; a given one stays."""
    with open_broker("embedded") as temporary:
        assert temporary.data_dir.is_dir()
    assert not temporary.data_dir.exists()
    with open_broker("embedded", data_dir=tmp_path / "mine"):
        pass
    assert (tmp_path / "mine" / "broker.log").is_file()


def test_start_is_idempotent_and_stop_too(own_embedded: EmbeddedBroker) -> None:
    """A running broker is left alone; stopping twice is no error; a stopped one has no process."""
    assert own_embedded.start() == own_embedded.start()
    own_embedded.stop()
    own_embedded.stop()
    with pytest.raises(BrokerUnavailable, match=r"not running; call start\(\)"):
        _ = own_embedded.pid


def test_failed_start_shows_the_brokers_own_words(tmp_path: Path, kafka_broker: KafkaBroker) -> None:
    """A broker that refuses its configuration is reported with the end of its log, at once."""
    assert kafka_broker.pid
    with (
        contextlib.closing(KafkaBroker(tmp_path, overrides={"num.io.threads": "none"})) as broker,
        pytest.raises(BrokerUnavailable, match=r"Invalid value none for configuration num\.io\.threads"),
    ):
        broker.start()
