"""What the partitions of one worker share: models, reference view, model log, metrics."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stream.assembly import build_models
from stream.runtime.commands import CommandLog
from stream.runtime.modellog import ModelLog
from stream.runtime.reference import ReferenceReader
from stream.runtime.snapshots import SnapshotLog
from stream.runtime.topics import TopicNames
from stream.runtime.turns import ModelTurns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from stream.core.learning import Models
    from stream.core.reference import Reference
    from stream.runtime.metrics import Metrics
    from stream.runtime.transport import Transport
    from stream.settings import Settings

__all__ = ["Shared", "restore_shared"]


@dataclass(slots=True)
class Shared:
    """One of each per worker.

    Attributes
    ----------
    stopping : set of asyncio.Task
        Producers that nobody waits for on their way out.
    """

    settings: Settings
    names: TopicNames
    transport: Transport
    models: Models
    turns: ModelTurns
    reference: Reference
    model_log: ModelLog
    commands: CommandLog
    metrics: Metrics
    n_partitions: int
    stopping: set[asyncio.Task[None]] = field(default_factory=set)


async def restore_shared(
    settings: Settings,
    transport: Transport,
    counts: Mapping[str, int],
    metrics: Metrics,
    reference: Reference,
    spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
) -> Shared:
    """Bring models and reference view up to the ends of their logs; ``spawn`` runs what tails them then.

    Parameters
    ----------
    counts : Mapping[str, int]
        Partitions of each topic.
    """
    kafka = settings.kafka
    names = TopicNames(kafka.topic_prefix)
    n_partitions = counts[names.events]
    models = build_models(settings)
    turns = ModelTurns(models.fold, kafka.commit_patience_ms / 1000)
    snapshots = SnapshotLog(transport, names.model_snapshots)
    model_log = ModelLog(transport, names.model_deltas, turns, snapshots, n_partitions)
    skipped, saved = metrics["reference_records_skipped"], metrics["model_snapshots"]
    reader = ReferenceReader(
        transport,
        names,
        counts,
        reference,
        on_bad=lambda topic: skipped.labels(topic).inc(),
        on_applied=lambda: follow(reference, models),
    )
    commands = CommandLog(transport, names.commands, n_partitions)
    _ = spawn(model_log.run(), "model log")
    _ = spawn(commands.run(), "commands")
    _ = spawn(reader.run(), "reference reader")
    await asyncio.gather(model_log.restored(), reader.restored())
    _ = spawn(
        model_log.save_snapshots(kafka.snapshot_bytes, lambda outcome: saved.labels(outcome).inc()),
        "model snapshots",
    )
    return Shared(
        settings, names, transport, models, turns, reference, model_log, commands, metrics, n_partitions
    )


def follow(reference: Reference, models: Models) -> None:
    """Look at new records now: no event shall wait until a large catalogue is gone through."""
    reference.withheld()
    if models.newcomers is not None:
        models.newcomers.follow(reference.items)
