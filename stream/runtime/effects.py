"""What one batch of a partition causes: encoded, with what it counts, and waiting for its commit."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stream.runtime.errors import WorkerError
from stream.runtime.foldpath import FOLD_PATH
from stream.runtime.modellog import delta_records
from stream.runtime.records import add_outputs, require_size
from stream.runtime.restoring import LAST_INGEST
from stream.runtime.statecodec import encode_header, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import TopicPartition

    from stream.core.records import Outputs
    from stream.core.state import PartitionState
    from stream.runtime.foldpath import Reading
    from stream.runtime.outbox import Outbox
    from stream.runtime.topics import TopicNames
    from stream.runtime.transport import LogRecord

__all__ = ["Effects"]

SLICE_ROWS: Final = 500  # some milliseconds of work; between slices heartbeats and probes get their turn
MAX_DELTA_BYTES: Final = 64 << 20  # in memory until the commit; a thousand orders of 20 lines teach 13 MB


@dataclass(slots=True)
class Effects:
    """Records of one batch, in the order in which they are sent.

    Attributes
    ----------
    outbox : Outbox
        Outputs and the models' delta.
    state : Outbox
        The users' state, apart, because at_least_once sends it after them.
    models : Reading
        The models as they were when the batch began.
    header : bytes
        The record of the partition's header.
    n_state : int
        Records of user state, the header's included.
    ingest_times : sequence of float
        Append times of the batch's records, s.
    """

    names: TopicNames
    outbox: Outbox
    state: Outbox
    models: Reading
    header: bytes = b""
    n_state: int = 0
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    revenue: dict[tuple[str, str], float] = field(default_factory=dict)
    ingest_times: Sequence[float] = ()

    def add(self, outputs: Outputs, source: TopicPartition, records: Sequence[LogRecord]) -> None:
        """Add what records of an input caused."""
        add_outputs(self.outbox, self.names, outputs, source, records)
        self.counts.update(outputs.counts)
        for key, amount in outputs.revenue.items():
            self.revenue[key] = self.revenue.get(key, 0.0) + amount

    def add_delta(self, delta: bytes, partition: int, first: int, next_offset: int) -> None:
        """Add what the models learned from the records ``first`` to ``next_offset``.

        Raises
        ------
        WorkerError
            It is too large to be held.
        """
        if len(delta) > MAX_DELTA_BYTES:
            raise WorkerError(
                f"the model delta of {next_offset - first} records has {len(delta)} bytes; limit "
                f"{MAX_DELTA_BYTES}: lower NUDGE_KAFKA__BATCH_RECORDS"
            )
        for value, headers in delta_records(delta, first, next_offset):
            self.outbox.add(self.names.model_deltas, b"%d" % partition, value, headers)

    async def add_state(
        self,
        state: PartitionState,
        next_offset: int,
        last_ingest: int,
        of_batch: Sequence[tuple[str, bytes]],
    ) -> None:
        """Add the users that have changed; the header behind them makes them count in at_least_once.

        Parameters
        ----------
        last_ingest : int
            Append time of the last record before ``next_offset``, ms.
        of_batch : sequence of (str, bytes)
            Headers of each record.
        """
        topic = self.names.user_state
        for n, (user, value) in enumerate(state.encode()):
            self.state.add(topic, key_of(user), require_size(topic, value), of_batch)
            if n % SLICE_ROWS == SLICE_ROWS - 1:
                await asyncio.sleep(0)
        for user in sorted(state.forgotten):
            self.state.add(topic, key_of(user), None, of_batch)
        for key_left in state.left_behind:
            self.outbox.add(self.names.segments, key_left.encode(), None)
        key, self.header = encode_header(state.header, next_offset)
        self.n_state = len(state.dirty) + len(state.forgotten) + 1
        headers = [*of_batch, (LAST_INGEST, b"%d" % last_ingest), (FOLD_PATH, self.models.text)]
        self.state.add(topic, key, self.header, headers)
