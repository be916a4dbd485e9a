"""What our two brokers say to the same requests: Apache Kafka's answers are the golden file."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.runtime.broker import EmbeddedBroker, KafkaBroker
from tests.integration.protocol_steps import STEPS, conversation

GOLDEN = Path(__file__).with_name("broker_transcript.txt")

# Where the embedded broker differs, what it says, and why it may stay so.
EMBEDDED_DIFFERS = {
    # It creates topics on first sight. Nudge declares its topics; a missing one shows on Apache Kafka only.
    "topics_are_described": "(3, 0, True)",
    # It counts the refused batch as taken, so an idempotent producer must be replaced after a refusal. The
    # data plane does so anyway: any send error ends in a new producer.
    "large_records_are_refused": "('MessageSizeTooLargeError', 'OutOfOrderSequenceNumber', 0)",
    # It never times a transaction out: a producer that died holds readers back until its successor starts.
    "forgotten_transactions_end": "failed: TimeoutError",
}


def golden() -> dict[str, str]:
    """Apache Kafka's lines by step."""
    found: dict[str, str] = {}
    for row in GOLDEN.read_text(encoding="utf-8").splitlines():
        name, line = row.split(": ", 1)
        found[name] = line
    return found


def test_golden_file_has_a_line_for_each_step() -> None:
    """Steps and golden lines are the same, in the same order, and each stated difference is one."""
    assert [step.__name__ for step in STEPS] == list(golden())
    assert all(golden()[name] != line for name, line in EMBEDDED_DIFFERS.items())


async def test_kafka_answers_as_written_down(kafka_broker: KafkaBroker) -> None:
    """Apache Kafka gives the golden answers; aiokafka passes them on unchanged."""
    assert golden() == await conversation(kafka_broker.bootstrap, "transcript")


async def test_embedded_answers_as_kafka_does(embedded_broker: EmbeddedBroker) -> None:
    """The embedded broker agrees with Apache Kafka step by step but for the stated differences."""
    said = await conversation(embedded_broker.bootstrap, "transcript")
    assert golden() | EMBEDDED_DIFFERS == said


@pytest.mark.parametrize("name", EMBEDDED_DIFFERS)
def test_differences_name_real_steps(name: str) -> None:
    """A difference that no step produces any more has to go."""
    assert name in golden()
