"""The oracle of what reads a model: every committed batch once more, on the models that its worker had then.

A batch's header record on the changelog says on which way its worker's models had come
(`stream.runtime.foldpath`). Along it the committed deltas are folded into fresh models, one set for each life
of a worker, and the engine runs on the batch's input from the user state before it. What comes
out must be what was committed: outputs with keys and headers, rows of users with what models remember of
them, the header, and the batch's own delta.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from aiokafka import TopicPartition

from stream.assembly import build_engine, build_models
from stream.runtime.chunks import PART, Joiner
from stream.runtime.foldpath import FOLD_PATH
from stream.runtime.records import add_outputs, as_record
from stream.runtime.statecodec import HEADER_KEY, ROWS, decode_header, encode_header, user_of

if TYPE_CHECKING:
    from stream.core.engine import Engine
    from stream.core.learning import Models
    from stream.core.reference import Reference
    from stream.runtime.outbox import Outbox
    from stream.runtime.transport import LogRecord
    from stream.settings import Settings
    from tests.runtime.topic_setup import Setup

Value = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]
Step = tuple[str, int, int]


@dataclass(slots=True)
class CommittedBatch:
    """What one transaction left on the changelog."""

    partition: int
    at: int  # offset of its header record
    header: bytes
    next_offset: int
    anchor: str
    steps: list[Step]
    rows: dict[str, bytes | None]
    life: Life = field(init=False)
    n_steps: int = 0  # of its life, when it began


@dataclass(slots=True)
class Life:
    """The models of one worker, from its start on, as far as they are followed."""

    models: Models
    steps: list[Step] = field(default_factory=list)
    waiting: Counter[int] = field(default_factory=Counter)  # batches that began after so many steps
    n_taken: int = 0
    folded: list[int] = field(default_factory=list)
    engines: dict[int, Engine] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """As outputs are stamped with it."""
        return ",".join(f"{p}:{end}" for p, end in enumerate(self.folded) if end) or "0"


@dataclass(slots=True)
class Delta:
    """A committed delta."""

    end: int
    value: bytes


@dataclass(slots=True)
class Recomputed:
    """What came out.

    Attributes
    ----------
    outputs : dict
        By topic and partition, in order.
    differing : list of str
        Batches whose rows, header or delta are not those that were committed.
    deltas : int
        Deltas learned again.
    folded : Counter of str
        Ways on which batches found their models, by the kind of their steps: ``r``, ``f`` and ``o`` as in
        `stream.runtime.foldpath`; ``late``: an own delta that came after a step that its batch had not seen.
    """

    outputs: dict[tuple[str, int], list[Value]]
    differing: list[str]
    batches: int = 0
    deltas: int = 0
    folded: Counter[str] = field(default_factory=Counter)


class _Collected:
    """An outbox that keeps what it gets."""

    def __init__(self, outputs: dict[tuple[str, int], list[Value]], partition: int) -> None:
        self._outputs, self._partition = outputs, partition

    def add(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        self._outputs[topic, self._partition].append((key, value, tuple(headers)))


class _Recomputation:
    def __init__(self, setup: Setup, settings: Settings, reference: Reference) -> None:
        self._setup, self._settings, self._reference = setup, settings, reference
        self._n_partitions = setup.kafka.partitions
        self._input = _by_partition(setup.read(setup.names.events), self._n_partitions)
        self._deltas = _deltas(setup.read(setup.names.model_deltas), self._n_partitions)
        self._learned = [0] * self._n_partitions  # deltas of batches that were recomputed
        self._rows: list[dict[str, bytes]] = [{} for _ in range(self._n_partitions)]
        self._before: list[CommittedBatch | None] = [None] * self._n_partitions
        self._began: dict[tuple[int, int], int] = {}  # steps before the batch of a delta
        self._result = Recomputed(defaultdict(list), [])

    def run(self) -> Recomputed:
        """Take batches in an order in which each finds all it needs: that of a clock is one."""
        changelog = self._setup.read(self._setup.names.user_state)
        batches = list(_batches(changelog))
        self._tell_lives(batches)
        queues: list[list[CommittedBatch]] = [[] for _ in range(self._n_partitions)]
        for batch in reversed(batches):
            queues[batch.partition].append(batch)
        while any(queues):
            ready = [queue for queue in queues if queue and self._is_ready(queue[-1])]
            assert ready, "the recorded ways contradict each other"
            for queue in ready:
                self._recompute(queue.pop())
        self._result.batches = len(batches)
        self._result.deltas = sum(self._learned)
        return self._result

    def _tell_lives(self, batches: Sequence[CommittedBatch]) -> None:
        """Follow the ways back to where they start; a life whose first batches overlapped is several."""
        known: dict[str, CommittedBatch] = {}
        waiting = list(batches)
        while waiting:
            later = []
            for batch in waiting:
                if batch.anchor == "start":
                    batch.life = Life(build_models(self._settings), folded=[0] * self._n_partitions)
                    start = 0
                elif batch.anchor in known:
                    batch.life, start = known[batch.anchor].life, known[batch.anchor].n_steps
                else:
                    later.append(batch)
                    continue
                batch.n_steps = start + len(batch.steps)
                steps = batch.life.steps
                assert all(a == b for a, b in zip(steps[start:], batch.steps, strict=False)), "two ways"
                steps += batch.steps[len(steps) - start :]
                batch.life.waiting[batch.n_steps] += 1
                known[f"{batch.partition}:{batch.at}"] = batch
            assert len(later) < len(waiting), f"batches without a beginning: {later[0].anchor}"
            waiting = later

    def _is_ready(self, batch: CommittedBatch) -> bool:
        """Whether its models need not be those of an earlier batch first, and all own batches are known."""
        life = batch.life
        return batch.n_steps == min(+life.waiting) and all(
            (partition, end) in self._began
            for how, partition, end in life.steps[life.n_taken : batch.n_steps]
            if how == "o"
        )

    def _recompute(self, batch: CommittedBatch) -> None:
        life, partition, names = batch.life, batch.partition, self._setup.names
        self._follow(life, batch.n_steps)
        life.waiting[batch.n_steps] -= 1
        engine, before = self._engine(batch), self._before[partition]
        first = before.next_offset if before is not None else 0
        records = [r for r in self._input[partition] if first <= r.offset < batch.next_offset]
        committed, _ = decode_header(batch.header)
        engine.model_version = life.version
        models = life.models.fold
        models.begin()
        if records:
            outputs = engine.process([as_record(record) for record in records])
        else:
            outputs = engine.tick(committed.watermark - engine.state.header.watermark)
        delta = models.delta()
        models.rollback()
        source = TopicPartition(names.events, partition)
        add_outputs(
            cast("Outbox", _Collected(self._result.outputs, partition)), names, outputs, source, records
        )
        if delta:
            learned = self._deltas[partition][self._learned[partition]]
            self._learned[partition] += 1
            self._compare("delta", batch, delta, learned.value)
            self._began[partition, learned.end] = batch.n_steps
        state = engine.state
        rows: dict[str, bytes | None] = dict(state.encode())
        rows.update(dict.fromkeys(state.forgotten))
        self._compare("rows", batch, rows, batch.rows)
        self._compare("header", batch, encode_header(state.header, batch.next_offset)[1], batch.header)
        state.committed()
        for user, row in batch.rows.items():
            if row is None:
                self._rows[partition].pop(user, None)
            else:
                self._rows[partition][user] = row
        self._before[partition] = batch

    def _follow(self, life: Life, n_steps: int) -> None:
        """Fold what came into a life's models before a batch began."""
        for number, (how, partition, end) in enumerate(life.steps[life.n_taken : n_steps], life.n_taken):
            due = [d for d in self._deltas[partition] if life.folded[partition] < d.end <= end]
            assert due, f"no delta of partition {partition} ends at {end}"
            assert due[-1].end == end, f"no delta of partition {partition} ends at {end}"
            assert how != "o" or len(due) == 1, "an own delta beside another's"
            for delta in due:
                life.models.fold.fold(delta.value)
            life.folded[partition] = end
            self._result.folded[how] += 1
            self._result.folded["late"] += how == "o" and self._began[partition, end] < number
        life.n_taken = n_steps

    def _engine(self, batch: CommittedBatch) -> Engine:
        """The engine that made the partition's last batch, or a new one on the state that is committed."""
        partition, before = batch.partition, self._before[batch.partition]
        if before is not None and before.life is batch.life:
            return batch.life.engines[partition]
        config = self._settings.engine_config(partitions=self._n_partitions)
        engine = build_engine(self._settings, batch.life.models, self._reference, config=config, codec=ROWS)
        if before is not None:
            header, _ = decode_header(before.header)
            engine.state.load(header, self._rows[partition], self._settings.campaigns.lateness_s)
        batch.life.engines[partition] = engine
        return engine

    def _compare(self, what: str, batch: CommittedBatch, found: object, committed: object) -> None:
        if found != committed:
            self._result.differing.append(f"{what} of partition {batch.partition} before {batch.next_offset}")


def recompute(setup: Setup, settings: Settings, reference: Reference) -> Recomputed:
    """Recompute every committed batch of a set of topics on which no snapshot was written."""
    return _Recomputation(setup, settings, reference).run()


def _by_partition(records: Sequence[LogRecord], n_partitions: int) -> list[list[LogRecord]]:
    found: list[list[LogRecord]] = [[] for _ in range(n_partitions)]
    for record in records:
        found[record.partition].append(record)
    return found


def _deltas(records: Sequence[LogRecord], n_partitions: int) -> list[list[Delta]]:
    found: list[list[Delta]] = [[] for _ in range(n_partitions)]
    joiners = [Joiner() for _ in range(n_partitions)]
    for record in records:
        whole = joiners[record.partition].add(record.value or b"", dict(record.headers)[PART])
        if whole is not None:
            found[record.partition].append(Delta(record.offset + 1, whole))
    return found


def _batches(changelog: Sequence[LogRecord]) -> Iterator[CommittedBatch]:
    """Batches by partition, in order: rows, then the header that ends them."""
    rows: dict[str, bytes | None] = {}
    for record in changelog:
        if record.key != HEADER_KEY:
            rows[user_of(record.key or b"")] = record.value
            continue
        anchor, *steps = dict(record.headers)[FOLD_PATH].decode().split(" ")
        value = record.value or b""
        parsed = [(step[0], *map(int, step[1:].split(":"))) for step in steps]
        yield CommittedBatch(
            record.partition,
            record.offset,
            value,
            decode_header(value)[1],
            anchor,
            cast("list[Step]", parsed),
            rows,
        )
        rows = {}
