"""What the partitions of one worker share: models, reference view, model log, metrics."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stream.assembly import build_models
from stream.runtime.modellog import ModelLog
from stream.runtime.reference import ReferenceReader
from stream.runtime.topics import TopicNames

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from stream.core.learning import Models
    from stream.core.reference import Reference
    from stream.runtime.metrics import Metrics
    from stream.settings import Settings

__all__ = ["Shared", "restore_shared"]


@dataclass(slots=True)
class Shared:
    """One of each per worker.

    ``gate`` is held while a batch is open in the models: there is one open batch at a time.
    """

    settings: Settings
    names: TopicNames
    models: Models
    reference: Reference
    model_log: ModelLog
    metrics: Metrics
    n_partitions: int
    gate: asyncio.Lock
    tails: list[asyncio.Task[None]] = field(default_factory=list)


async def restore_shared(
    settings: Settings,
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
    names, gate = TopicNames(kafka.topic_prefix), asyncio.Lock()
    n_partitions = counts[names.events]
    models = build_models(settings)
    model_log = ModelLog(kafka.bootstrap, names.model_deltas, models.fold, gate)
    skipped = metrics["reference_records_skipped"]
    reader = ReferenceReader(
        kafka.bootstrap, names, counts, reference, lambda topic: skipped.labels(topic).inc()
    )
    shared = Shared(settings, names, models, reference, model_log, metrics, n_partitions, gate)
    shared.tails += [spawn(model_log.run(n_partitions), "model log"), spawn(reader.run(), "reference reader")]
    await asyncio.gather(model_log.restored(), reader.restored())
    return shared
