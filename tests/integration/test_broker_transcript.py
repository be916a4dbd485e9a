"""What our three brokers say to the same requests: Apache Kafka's answers are the golden file."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.runtime.broker import EmbeddedBroker, KafkaBroker
from tests.integration.protocol_steps import STEPS, conversation
from tests.simulation.cluster import Cluster
from tests.simulation.stage import on_stage

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
    # It takes no session under 6 s, and ends none: rebalances and dead members are for Apache Kafka.
    "stale_generations_cannot_commit": "failed: InvalidSessionTimeoutError",
    "silent_members_are_given_up": "failed: InvalidSessionTimeoutError",
}


# The simulated broker, which is trusted only as far as it agrees. It agrees in every step.
SIMULATED_DIFFERS: dict[str, str] = {}


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
    for differs in (EMBEDDED_DIFFERS, SIMULATED_DIFFERS):
        assert all(golden()[name] != line for name, line in differs.items())


async def test_kafka_answers_as_written_down(kafka_broker: KafkaBroker) -> None:
    """Apache Kafka gives the golden answers; aiokafka passes them on unchanged."""
    assert golden() == await conversation(kafka_broker.bootstrap, "transcript")


async def test_embedded_answers_as_kafka_does(embedded_broker: EmbeddedBroker) -> None:
    """The embedded broker agrees with Apache Kafka step by step but for the stated differences."""
    said = await conversation(embedded_broker.bootstrap, "transcript")
    assert golden() | EMBEDDED_DIFFERS == said


@pytest.mark.parametrize("seed", range(20))
def test_simulated_answers_as_kafka_does(seed: int) -> None:
    """The simulated broker agrees with Apache Kafka step by step, however its network mixes the messages."""

    async def converse(cluster: Cluster) -> dict[str, str]:
        return await conversation(cluster.settings.kafka.bootstrap, "transcript")

    assert golden() | SIMULATED_DIFFERS == on_stage(converse, seed=seed)


@pytest.mark.parametrize("name", [*EMBEDDED_DIFFERS, *SIMULATED_DIFFERS])
def test_differences_name_real_steps(name: str) -> None:
    """A difference that no step produces any more has to go."""
    assert name in golden()
