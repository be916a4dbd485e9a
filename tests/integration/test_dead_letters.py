"""`nudge dlq` and `nudge doctor` on a broker: what is there, one record's bytes, and sending it again."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from aiokafka import AIOKafkaProducer, TopicPartition

from stream.runtime.broker import Broker, EmbeddedBroker, KafkaBroker
from stream.runtime.deadletters import DeadRecord, replay_dead_letters, scan_dead_letters
from stream.runtime.kafka import KafkaTransport
from stream.runtime.records import CUT
from stream.sections import KafkaSettings
from tests.nudge_process import nudge
from tests.runtime.topic_setup import Setup
from tests.runtime.worker_process import free_port

HEADERS: list[tuple[str, bytes | None]] = [("trace", b"t1"), ("nothing", None)]
ERROR = [
    ("__streams.errors.topic", b"events"),
    ("__streams.errors.partition", b"1"),
    ("__streams.errors.offset", b"17"),
]


def bury(setup: Setup, *letters: tuple[bytes, bytes | None, str]) -> None:
    """Write dead letters as a worker does: key, value, code."""

    async def bury() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=setup.kafka.bootstrap, max_request_size=2 << 20)
        await producer.start()
        for key, value, code in letters:
            told = [("nudge.error.code", code.encode()), ("nudge.error.path", b"$.event")]
            await producer.send_and_wait(
                setup.names.dead_letters, value, key=key, partition=0, headers=[*HEADERS, *ERROR, *told]
            )
        await producer.stop()

    asyncio.run(bury())


def dead_letters(setup: Setup) -> list[DeadRecord]:
    """All of them, by place."""

    async def scan() -> list[DeadRecord]:
        return [letter async for chunk in scan_dead_letters(setup.kafka) for letter in chunk]

    return sorted(asyncio.run(scan()), key=lambda letter: (letter.partition, letter.offset))


def test_a_large_dead_letter_stands_in_nobodys_way(broker: Broker, topic: str) -> None:
    """What came compressed may be larger than a request; it is sent again, and what stands behind it, too."""
    setup = Setup(KafkaSettings(bootstrap=broker.bootstrap, topic_prefix=f"{topic}.", partitions=2))
    setup.create()
    bury(setup, (b"u1", b"x" * 1_200_000, "too_large"), (b"u2", b"{}", "poison"))
    assert 2 == asyncio.run(replay_dead_letters(setup.kafka, lambda _: True))

    assert [1_200_000, 2] == [len(record.value or b"") for record in setup.read(setup.names.events)]


def test_a_dead_letter_comes_back_as_it_was(broker: Broker, topic: str) -> None:
    """Byte for byte, with its own headers only, into the partition that it came from."""
    setup = Setup(KafkaSettings(bootstrap=broker.bootstrap, topic_prefix=f"{topic}.", partitions=2))
    setup.create()
    bury(setup, (b"u1", b"\xff", "poison"), (b"u2", b"{}", "missing_user"))
    letters = dead_letters(setup)
    asyncio.run(replay_dead_letters(setup.kafka, lambda one: one.code == "poison"))
    [event] = setup.read(setup.names.events)

    assert [("0:0", "poison", 17), ("0:1", "missing_user", 17)] == [
        (one.place, one.code, one.source_offset) for one in letters
    ]
    assert (1, b"u1", b"\xff", tuple(HEADERS)) == (
        event.partition,
        event.key,
        event.value,
        tuple(event.headers),
    )


def test_a_rejected_command_goes_back_to_the_commands(broker: Broker, topic: str) -> None:
    """And what was cut is known as such: half of a record is not sent."""
    setup = Setup(KafkaSettings(bootstrap=broker.bootstrap, topic_prefix=f"{topic}.", partitions=2))
    setup.create()

    async def bury_both() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=setup.kafka.bootstrap)
        await producer.start()
        for name, more in ((setup.names.commands, []), (setup.names.events, [(CUT, b"9999")])):
            told = [("__streams.errors.topic", name.encode()), *ERROR[1:], *more]
            await producer.send_and_wait(setup.names.dead_letters, b"{}", key=b"u", partition=0, headers=told)
        await producer.stop()

    asyncio.run(bury_both())
    letters = dead_letters(setup)
    assert 1 == asyncio.run(replay_dead_letters(setup.kafka, lambda _: True))
    done = nudge(
        "dlq",
        "replay",
        "--at",
        "0:1",
        "--yes",
        environment={f"NUDGE_{key}": value for key, value in setup.environment.items()},
    )

    assert [False, True] == [letter.is_cut for letter in letters]
    assert [b"{}"] == [record.value for record in setup.read(setup.names.commands)]
    assert [] == setup.read(setup.names.events)
    assert (1, True) == (done.returncode, b"1 were cut" in done.stderr)


def test_the_commands(embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path) -> None:
    """The doctor before and after the topics are there; a list, one record, and nothing sent unasked."""
    setup = Setup(KafkaSettings(bootstrap=embedded_broker.bootstrap, topic_prefix=f"{topic}.", partitions=2))
    environment = {f"NUDGE_{key}": value for key, value in setup.environment.items()}
    before = nudge("doctor", "--json", environment=environment)
    setup.create()
    bury(setup, (b"u1", b'{"a":1}', "missing_user"), (b"u1", b'{"a":2}', "missing_user"))
    after = nudge("doctor", environment=environment)
    listed = nudge("dlq", "list", "--json", environment=environment)
    shown = nudge("dlq", "show", "0:1", environment=environment)
    asked = nudge("dlq", "replay", "--code", "missing_user", environment=environment)
    unsent = setup.read(setup.names.events)
    sent = nudge("dlq", "replay", "--at", "0:1", "--yes", environment=environment)
    nothing = nudge("dlq", "replay", "--code", "poison", environment=environment)
    elsewhere = [
        nudge("dlq", "show", place, environment=environment).returncode
        for place in ("0:2", "9:0", "0", "a:b")
    ]
    wrong = tmp_path / "campaigns.yaml"
    wrong.write_text("- campaign_id: x\n")

    faults = {
        found["what"]: found["remedy"] for found in json.loads(before.stdout) if found["verdict"] == "fault"
    }
    assert (1, "nudge topics apply") == (before.returncode, faults[f"topic {setup.names.events}"])
    assert 0 == after.returncode, after.stdout
    assert b"holds up to 2 rejected records\n         -> nudge dlq list" in after.stdout
    assert f"topic {setup.names.commands}: holds no record".encode() in after.stdout
    assert [1, 1, 2, 2] == elsewhere
    with Path("/dev/full").open("wb") as full:
        buffered = {"PYTHONUNBUFFERED": ""}  # else each row is written at once, whatever comes last
        listing = subprocess.run(
            [sys.executable, "-m", "stream", "dlq", "list"],
            env=os.environ | environment | buffered,
            stdout=full,
            check=False,
        )
    assert 70 == listing.returncode
    [row] = json.loads(listed.stdout)
    assert ("missing_user", "$.event", 2, "0:1") == (row["code"], row["path"], row["n"], row["newest"])
    assert b'{"a":2}\n' == shown.stdout
    assert (0, [], 0, 1) == (asked.returncode, unsent, sent.returncode, nothing.returncode)
    assert [b'{"a":2}'] == [record.value for record in setup.read(setup.names.events)]
    assert 65 == nudge("doctor", "--campaigns", wrong, environment=environment).returncode


def test_what_was_aborted_is_no_dead_letter(kafka_broker: KafkaBroker, topic: str) -> None:
    """Neither are the marks of transactions, though both take offsets."""
    setup = Setup(KafkaSettings(bootstrap=kafka_broker.bootstrap, topic_prefix=f"{topic}.", partitions=2))
    setup.create()
    environment = {f"NUDGE_{key}": value for key, value in setup.environment.items()}

    async def bury(*, keep: bool) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka_broker.bootstrap, transactional_id=topic)
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(setup.names.dead_letters, b"{}", key=b"u", partition=0, headers=ERROR)
        await (producer.commit_transaction() if keep else producer.abort_transaction())
        await producer.stop()

    asyncio.run(bury(keep=False))
    examined = nudge("doctor", environment=environment)
    asyncio.run(bury(keep=True))
    assert [2] == [letter.offset for letter in dead_letters(setup)]
    shown = [nudge("dlq", "show", f"0:{offset}", environment=environment).returncode for offset in range(5)]

    partition = TopicPartition(setup.names.dead_letters, 0)
    asyncio.run(KafkaTransport(setup.kafka).delete_before({partition: 3}))
    trimmed = nudge("dlq", "show", "0:2", environment=environment)

    assert f"topic {setup.names.dead_letters}: holds no record".encode() in examined.stdout
    assert (1, True) == (trimmed.returncode, b"no dead letter at 0:2" in trimmed.stderr)
    assert [1, 1, 0, 1, 1] == shown


def test_the_doctor_says_that_nobody_answers() -> None:
    """And what to do, with the end of a fault."""
    done = nudge("doctor", "--bootstrap", f"127.0.0.1:{free_port()}")

    assert 1 == done.returncode
    assert b"fault    broker: no Kafka at 127.0.0.1" in done.stdout
    assert b"-> start Kafka, or set NUDGE_KAFKA__BOOTSTRAP" in done.stdout
