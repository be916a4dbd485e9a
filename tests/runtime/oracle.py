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
from stream.core.records import Record
from stream.core.reference import Reference
from stream.runtime.records import as_record
from stream.runtime.statecodec import HEADER_KEY, encode_row, model_free, user_of
from stream.runtime.transport import LogRecord
from stream.settings import Settings
from tests.runtime.shop_stream import campaigns
from tests.runtime.topic_setup import Setup

RULES = frozenset({"trigger", "suppression", "holdout"})


@dataclass(slots=True)
class Effects:
    """Model-free effects: per partition the values in order, and per user the model-free block of the row."""

    triggers: dict[int, list[bytes]] = field(default_factory=dict)
    dry_run: dict[int, list[bytes]] = field(default_factory=dict)
    rule_decisions: dict[int, list[bytes]] = field(default_factory=dict)
    dead_letters: dict[int, list[tuple[bytes | None, bytes | None]]] = field(default_factory=dict)
    rows: dict[str, bytes] = field(default_factory=dict)


def expected_effects(
    settings: Settings, active: Sequence[Campaign], records: Iterable[LogRecord], n_partitions: int
) -> Effects:
    """Run the engine over each partition's records, one after the other, without faults."""
    reference = Reference(campaigns={campaign.campaign_id: campaign for campaign in active})
    models = build_models(settings)
    effects = Effects()
    by_partition: dict[int, list[Record]] = {p: [] for p in range(n_partitions)}
    for record in records:
        by_partition[record.partition].append(as_record(record))
    for partition, batch in by_partition.items():
        engine = build_engine(
            settings, models, reference, config=settings.engine_config(partitions=n_partitions)
        )
        models.fold.begin()
        outputs = engine.process(batch)
        models.fold.keep()
        effects.triggers[partition] = [encode(t) for t in outputs.triggers if not t.dry_run]
        effects.dry_run[partition] = [encode(t) for t in outputs.triggers if t.dry_run]
        effects.rule_decisions[partition] = [encode(d) for d in outputs.decisions if d.kind in RULES]
        effects.dead_letters[partition] = [(letter.key, letter.value) for letter in outputs.dead_letters]
        for user in engine.state:
            effects.rows[user] = model_free(encode_row(engine.state.profile(user), engine.state.memory(user)))
    return effects


def assert_as_without_faults(setup: Setup, settings: Settings) -> None:
    """Compare all model-free effects on the topics with a fault-free run's, byte for byte and in order."""
    names, n_partitions = setup.names, setup.kafka.partitions
    expected = expected_effects(settings, campaigns(), setup.read(names.events), n_partitions)
    decisions = setup.read(names.decisions)
    rule_decisions = [record for record in decisions if _field(record, "kind") in RULES]
    letters: dict[int, list[tuple[bytes | None, bytes | None]]] = {p: [] for p in range(n_partitions)}
    for record in setup.read(names.dead_letters):
        letters[record.partition].append((record.key, record.value))

    assert sum(map(len, expected.triggers.values())) > 50, "void: the stream triggers next to nothing"
    assert expected.triggers == values_by_partition(setup.read(names.triggers), n_partitions)
    assert expected.dry_run == values_by_partition(setup.read(names.triggers_dry_run), n_partitions)
    assert expected.rule_decisions == values_by_partition(rule_decisions, n_partitions)
    assert expected.dead_letters == letters
    assert expected.rows == committed_rows(setup.read(names.user_state))

    decision_ids = [_field(record, "decision_id") for record in decisions]
    recommendation_ids = [_field(record, "id") for record in setup.read(names.recommendations)]
    assert len(decision_ids) == len(set(decision_ids))
    assert len(recommendation_ids) == len(set(recommendation_ids))


def _field(record: LogRecord, name: str) -> str:
    value: str = orjson.loads(record.value or b"{}")[name]
    return value


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
