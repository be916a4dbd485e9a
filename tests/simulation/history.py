"""What a run has left: the logs as the broker knows them, and the digest by which two runs are the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from aiokafka import TopicPartition

from tests.simulation.batches import Batch, KeyedRecord
from tests.simulation.broker import Broker


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken promise.

    Attributes
    ----------
    kind : str
        Which one.
    """

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(slots=True)
class History:
    """One run."""

    seed: int
    events: list[str]
    digest: str = ""
    findings: list[Finding] = field(default_factory=list)
    faults: int = 0
    virtual_s: float = 0.0
    transactions: dict[str, int] = field(default_factory=dict)

    def found(self, kind: str, detail: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, detail))

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.faults} faults, {self.virtual_s:.1f} s, {self.transactions}"]
        return "\n".join([*lines, *(str(finding) for finding in self.findings)])


def committed_batches(broker: Broker, partition: TopicPartition) -> Iterator[Batch]:
    """Batches of a partition that were committed, also those that compaction has taken since."""
    log = broker.log_of(partition)
    assert log is not None
    for batch in log.history:
        if batch.marker is None and not batch.aborted and batch.base_offset < log.last_stable:
            yield batch


def committed(broker: Broker, topic: str) -> list[list[KeyedRecord]]:
    """Committed records of each partition of a topic."""
    return [
        [r for batch in committed_batches(broker, TopicPartition(topic, p)) for r in batch.records()]
        for p in range(len(broker.topics[topic]))
    ]


def digest_of(broker: Broker, events: list[str]) -> str:
    """Hash all logs, aborted records and markers included, and what else happened.

    The producers' wall clock is left out: it decides nothing.
    """
    digest = blake2b(digest_size=16)
    for name, logs in sorted(broker.topics.items()):
        for number, log in enumerate(logs):
            digest.update(f"{name} {number} {log.start} {log.end}".encode())
            for batch in log.history:
                mark = (batch.base_offset, batch.producer_id, batch.producer_epoch, batch.marker)
                digest.update(repr((*mark, batch.aborted)).encode())
                for record in batch.records():
                    digest.update(repr((record.key, record.value, record.headers)).encode())
    digest.update("\n".join(events).encode())
    return digest.hexdigest()
