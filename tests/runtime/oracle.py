"""What a fault-free run of the same engine makes of the records of a topic, partition by partition.

It shares the engine and the codecs with the worker and nothing else: no producer, no restore, no batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import orjson

from schemas.campaigns import Campaign
from schemas.codec import encode
from stream.assembly import build_engine, build_models
from stream.core.records import Outputs, Record
from stream.core.reference import Reference
from stream.runtime.records import as_record
from stream.runtime.statecodec import HEADER_KEY, encode_row, model_free, user_of
from stream.runtime.transport import LogRecord
from stream.settings import Settings
from tests.runtime.shop_stream import campaigns
from tests.runtime.topic_setup import Setup

RULES = frozenset({"trigger", "suppression", "holdout"})
CHUNK = 1000  # records; a journal of all that a long run learns would be what fills the memory


@dataclass(slots=True)
class Effects:
    """Model-free effects: per partition the values in order, and per user the model-free block of the row."""

    triggers: dict[int, list[bytes]] = field(default_factory=dict)
    dry_run: dict[int, list[bytes]] = field(default_factory=dict)
    rule_decisions: dict[int, list[bytes]] = field(default_factory=dict)
    dead_letters: dict[int, list[tuple[bytes | None, bytes | None]]] = field(default_factory=dict)
    rows: dict[str, bytes] = field(default_factory=dict)

    def begin(self, partition: int) -> None:
        """A partition has its lists, also where nothing comes of it."""
        for values in (self.triggers, self.dry_run, self.rule_decisions, self.dead_letters):
            values[partition] = []

    def add(self, partition: int, outputs: Outputs) -> None:
        """Append what came out."""
        self.triggers[partition] += [encode(t) for t in outputs.triggers if not t.dry_run]
        self.dry_run[partition] += [encode(t) for t in outputs.triggers if t.dry_run]
        self.rule_decisions[partition] += [encode(d) for d in outputs.decisions if d.kind in RULES]
        self.dead_letters[partition] += [(letter.key, letter.value) for letter in outputs.dead_letters]


def expected_effects(
    settings: Settings, active: Sequence[Campaign], records: Iterable[LogRecord], n_partitions: int
) -> Effects:
    """Run the engine over each partition's records in order, without faults."""
    reference = Reference(campaigns={campaign.campaign_id: campaign for campaign in active})
    models = build_models(settings)
    effects = Effects()
    config = settings.engine_config(partitions=n_partitions)
    engines = {p: build_engine(settings, models, reference, config=config) for p in range(n_partitions)}
    waiting: dict[int, list[Record]] = {p: [] for p in engines}

    def process(partition: int) -> None:
        models.fold.begin()
        effects.add(partition, engines[partition].process(waiting[partition]))
        models.fold.keep()
        waiting[partition].clear()

    for partition in engines:
        effects.begin(partition)
    for record in records:
        waiting[record.partition].append(as_record(record))
        if len(waiting[record.partition]) == CHUNK:
            process(record.partition)
    for partition, engine in engines.items():
        process(partition)
        for user in engine.state:
            effects.rows[user] = model_free(encode_row(engine.state.profile(user), engine.state.memory(user)))
    return effects


def assert_as_without_faults(setup: Setup, settings: Settings) -> None:
    """Compare all model-free effects on the topics with a fault-free run's, byte for byte and in order."""
    names, n_partitions = setup.names, setup.kafka.partitions
    expected = expected_effects(settings, campaigns(), setup.scan(names.events), n_partitions)
    rule_decisions: list[LogRecord] = []
    decision_ids: set[str] = set()
    for n, record in enumerate(setup.scan(names.decisions), 1):
        decision = orjson.loads(record.value or b"")
        decision_ids.add(decision["decision_id"])
        assert len(decision_ids) == n, f"{decision['decision_id']} came twice"
        if decision["kind"] in RULES:
            rule_decisions.append(record)
    letters: dict[int, list[tuple[bytes | None, bytes | None]]] = {p: [] for p in range(n_partitions)}
    for record in setup.scan(names.dead_letters):
        letters[record.partition].append((record.key, record.value))

    assert sum(map(len, expected.triggers.values())) > 50, "void: the stream triggers next to nothing"
    assert expected.triggers == values_by_partition(setup.scan(names.triggers), n_partitions)
    assert expected.dry_run == values_by_partition(setup.scan(names.triggers_dry_run), n_partitions)
    assert expected.rule_decisions == values_by_partition(rule_decisions, n_partitions)
    assert expected.dead_letters == letters
    assert expected.rows == committed_rows(setup.scan(names.user_state))

    recommendation_ids: set[str] = set()
    for n, record in enumerate(setup.scan(names.recommendations), 1):
        recommendation_ids.add(orjson.loads(record.value or b"")["id"])
        assert len(recommendation_ids) == n, "a recommendation came twice"


def committed_rows(changelog: Iterable[LogRecord]) -> dict[str, bytes]:
    """The model-free block of the newest row of each user."""
    rows: dict[str, bytes] = {}
    for record in changelog:
        if record.key is None or record.key == HEADER_KEY:
            continue
        if record.value is None:
            rows.pop(user_of(record.key), None)
        else:
            rows[user_of(record.key)] = model_free(record.value)
    return rows


def values_by_partition(records: Iterable[LogRecord], n_partitions: int) -> dict[int, list[bytes]]:
    """Values in log order."""
    values: dict[int, list[bytes]] = {p: [] for p in range(n_partitions)}
    for record in records:
        values[record.partition].append(record.value or b"")
    return values
