"""The transaction coordinator: producer ids, epochs, fencing, and the two phases of an end.

As Apache Kafka does for clients of the first protocol version (KIP-98), which aiokafka is: an end is
acknowledged when it is decided, and the markers follow; whoever asks meanwhile hears
`CONCURRENT_TRANSACTIONS` and tries again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

from aiokafka import TopicPartition

from tests.simulation.log import PartitionLog

# Error codes of the protocol.
BAD_EPOCH: Final = 47
BAD_TXN_STATE: Final = 48
BAD_ID_MAPPING: Final = 49
CONCURRENT: Final = 51

MARKER_DELAY_S: Final = 0.003  # mean, for each partition
LOOK_AGAIN_S: Final = 1.0  # how often the broker looks for transactions past their timeout

State = Literal["empty", "ongoing", "preparing", "complete"]


@dataclass(slots=True)
class Transaction:
    """What the coordinator knows of one transactional id."""

    producer_id: int
    epoch: int
    timeout_s: float
    state: State = "empty"
    commit: bool = False  # of the end that is preparing or complete
    begun: float = 0.0
    partitions: set[TopicPartition] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)


class TransactionCoordinator:
    """Answers the transactional requests.

    Parameters
    ----------
    log_of : callable
        The log of a partition; ``None`` when the topic is gone.
    end_offsets : callable
        Lets a group's pending offsets of a producer count, or forgets them.
    now_ms : callable
        The broker's wall clock.

    Attributes
    ----------
    ended : dict
        Transactions by how they ended.
    """

    def __init__(
        self,
        random_: random.Random,
        log_of: Callable[[TopicPartition], PartitionLog | None],
        end_offsets: Callable[[str, int, bool], None],
        now_ms: Callable[[], int],
    ) -> None:
        self.ended = {"committed": 0, "aborted": 0, "fenced": 0, "timed out": 0}
        self.marker_delay_s = MARKER_DELAY_S
        self._random = random_
        self._log_of = log_of
        self._end_offsets = end_offsets
        self._now_ms = now_ms
        self._by_id: dict[str, Transaction] = {}
        self._by_producer: dict[int, Transaction] = {}
        self._last_producer_id = 1000

    @property
    def settled(self) -> bool:
        """Whether every transaction that was ended has all its markers written."""
        return all(transaction.state != "preparing" for transaction in self._by_id.values())

    def init(self, transactional_id: str | None, timeout_ms: int) -> tuple[int, int, int]:
        """Give out a producer id and a new epoch; return error code, id and epoch."""
        if transactional_id is None:
            self._last_producer_id += 1
            return 0, self._last_producer_id, 0
        known = self._by_id.get(transactional_id)
        if known is None:
            self._last_producer_id += 1
            known = Transaction(self._last_producer_id, 0, timeout_ms / 1000)
            self._by_id[transactional_id] = self._by_producer[known.producer_id] = known
            return 0, known.producer_id, 0
        if known.state == "ongoing":
            self._abort_as_fenced(known, "fenced")
        if known.state == "preparing":
            return CONCURRENT, -1, -1
        known.epoch += 1
        known.timeout_s = timeout_ms / 1000
        known.state = "empty"
        return 0, known.producer_id, known.epoch

    def add(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        partitions: set[TopicPartition],
        groups: set[str],
    ) -> int:
        """Take partitions or groups into the transaction, which begins with the first; return a code."""
        found = self._find(transactional_id, producer_id, epoch)
        if isinstance(found, int):
            return found
        if found.state == "preparing":
            return CONCURRENT
        if found.state != "ongoing":
            found.state = "ongoing"
            found.begun = asyncio.get_running_loop().time()
            found.partitions.clear()
            found.groups.clear()
            self._watch(found, epoch)
        found.partitions |= partitions
        found.groups |= groups
        return 0

    def end(self, transactional_id: str, producer_id: int, epoch: int, *, commit: bool) -> int:
        """Decide a transaction's end; return an error code."""
        found = self._find(transactional_id, producer_id, epoch)
        if isinstance(found, int):
            return found
        if found.state == "ongoing":
            self._prepare(found, commit=commit)
            self.ended["committed" if commit else "aborted"] += 1
            return 0
        if found.state == "empty" or found.commit != commit:
            return BAD_TXN_STATE
        return 0 if found.state == "complete" else CONCURRENT

    def has_open(self, partition: TopicPartition, producer_id: int, epoch: int) -> bool:
        """Whether a producer may write to a partition in its transaction."""
        found = self._by_producer.get(producer_id)
        return (
            found is not None
            and (found.epoch, found.state) == (epoch, "ongoing")
            and partition in found.partitions
        )

    def has_group(self, producer_id: int, epoch: int, group: str) -> int:
        """Error code for offsets of a group in a producer's transaction."""
        found = self._by_producer.get(producer_id)
        if found is None:
            return BAD_ID_MAPPING
        if found.epoch != epoch:
            return BAD_EPOCH
        return 0 if found.state == "ongoing" and group in found.groups else BAD_TXN_STATE

    def _find(self, transactional_id: str, producer_id: int, epoch: int) -> Transaction | int:
        found = self._by_id.get(transactional_id)
        if found is None or found.producer_id != producer_id:
            return BAD_ID_MAPPING
        return found if found.epoch == epoch else BAD_EPOCH

    def _abort_as_fenced(self, transaction: Transaction, why: str) -> None:
        transaction.epoch += 1  # whoever began it is locked out
        self.ended[why] += 1
        self._prepare(transaction, commit=False)

    def _prepare(self, transaction: Transaction, *, commit: bool) -> None:
        transaction.state, transaction.commit = "preparing", commit
        steps: list[Callable[[], None]] = [
            partial(self._mark, transaction, partition) for partition in sorted(transaction.partitions)
        ]
        steps += [
            partial(self._end_offsets, group, transaction.producer_id, commit)
            for group in sorted(transaction.groups)
        ]
        self._random.shuffle(steps)
        waiting = len(steps)

        def done(step: Callable[[], None]) -> None:
            nonlocal waiting
            step()
            waiting -= 1
            if not waiting:
                transaction.state = "complete"

        loop = asyncio.get_running_loop()
        for step in steps:
            loop.call_later(self._random.expovariate(1 / self.marker_delay_s), done, step)
        if not steps:
            transaction.state = "complete"

    def _mark(self, transaction: Transaction, partition: TopicPartition) -> None:
        log = self._log_of(partition)
        if log is not None:
            log.end_transaction(
                transaction.producer_id, transaction.epoch, self._now_ms(), commit=transaction.commit
            )

    def _watch(self, transaction: Transaction, epoch: int) -> None:
        begun = transaction.begun

        def look() -> None:
            if (transaction.state, transaction.epoch, transaction.begun) == ("ongoing", epoch, begun):
                self._abort_as_fenced(transaction, "timed out")

        asyncio.get_running_loop().call_later(
            transaction.timeout_s + self._random.uniform(0, LOOK_AGAIN_S), look
        )
