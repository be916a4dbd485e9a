"""Replay: recorded events through the production engine, driven by event time.

The same input gives the same bytes, the timings in ``report.json`` apart. Recorded partitions have an engine
each and share the models, as in a worker that owns them all.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, BinaryIO

from schemas.codec import dead_letter_line, encode
from stream.assembly import build_engine, build_models
from stream.campaign_files import read_campaigns, read_segments
from stream.changing import Change, steps
from stream.core.measuring import merged
from stream.core.reference import Reference
from stream.reading import read_items, read_offers
from stream.report import campaign_funnel, event_counts, lift, model_metrics
from stream.terminal import json_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from schemas.catalogue import Item
    from stream.core.engine import Engine
    from stream.core.records import Outputs, Record
    from stream.reading import ItemVersion
    from stream.recording import Recording
    from stream.settings import Settings

__all__ = ["FILES", "load_reference", "replay"]

FILES = (
    *("recommendations.jsonl", "triggers.jsonl", "decisions.jsonl", "dead-letters.jsonl"),
    "segments.jsonl",
)
BATCH = 1000


def load_reference(
    catalogue: Path | None,
    offers: Path | None,
    campaigns: Path | None,
    items: Mapping[str, Item] | None = None,
) -> Reference:
    """Read reference records; what is not given is empty, so without campaigns or offers none run.

    ``items`` take the place of the catalogue's.
    """
    return Reference(
        items=items if items is not None else read_items(catalogue) if catalogue else {},
        offers=read_offers(offers) if offers else {},
        campaigns=read_campaigns(campaigns) if campaigns else {},
        segments=read_segments(campaigns) if campaigns else {},
    )


def replay(
    settings: Settings,
    recording: Recording,
    out: Path,
    reference: Reference,
    *,
    versions: Sequence[ItemVersion] = (),
    until: float | None = None,
    progress: Callable[[int], None] | None = None,
    batch_size: int = BATCH,
) -> dict[str, Any]:
    """Run recorded events and write what came out into a folder; return the report.

    Parameters
    ----------
    versions : sequence of (float, Item), optional
        Items as they became later, in order of time; what they were before stands in ``reference``.
    until : float, optional
        After the last event time goes on to here, so that timers due by then fire.
    progress : callable, optional
        Told the number of records done after each batch.
    batch_size : int
        Records of a batch; it changes nothing but the grain of progress.

    Raises
    ------
    BadFileError
        The recording cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with ExitStack() as stack:
        sinks = [stack.enter_context((out / name).open("wb")) for name in FILES]
        run = _Run(settings, recording, reference, sinks)
        for step in steps(recording, batch_size, versions, until):
            if isinstance(step, Change):
                run.change(step)
                continue
            run.process(step)
            if progress is not None:
                progress(run.done)
        if until is not None:
            run.let_time_pass(until)
    elapsed = time.perf_counter() - started
    counts, engines = run.counts, run.engines
    report = {
        "events": event_counts(counts),
        "throughput_events_per_s": round(run.done / elapsed, 1) if elapsed > 0 else 0.0,
        "elapsed_s": round(elapsed, 3),
        "outputs": {
            "recommendations": counts["recommendation", "emitted"],
            "offers": {key[1]: n for key, n in sorted(counts.items()) if key[0] == "offer"},
        },
        "models": model_metrics(run.models, len(reference.items)),
        "campaigns": campaign_funnel(counts, _pending(engines), run.revenue),
        "lift": lift(
            merged(engine.state.header.lift for engine in engines),
            settings.lift.alpha,
            settings.lift.sample_ratio_p_value,
        ),
        "users": sum(len(engine.state) for engine in engines),
    }
    (out / "report.json").write_bytes(json_bytes(report))
    return report


class _Run:
    """The engines of a recording, and what came out of them so far."""

    def __init__(
        self, settings: Settings, recording: Recording, reference: Reference, sinks: Sequence[BinaryIO]
    ) -> None:
        n_partitions = recording.n_partitions
        config = settings.engine_config(replay=not recording.broker_clock, partitions=n_partitions)
        self.models = build_models(settings)
        self.engines = [
            build_engine(settings, self.models, reference, config=config) for _ in range(n_partitions)
        ]
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.revenue: dict[tuple[str, str], float] = {}
        self.done = 0
        self._reference = reference
        self._sinks = sinks

    def process(self, batch: Sequence[tuple[int, Record]]) -> None:
        """Process records, in order, as one batch of the models."""
        self.models.fold.begin()
        for partition, several in groupby(batch, itemgetter(0)):
            self._keep(self.engines[partition].process([record for _, record in several]))
        self.models.fold.keep()
        for engine in self.engines:
            engine.state.committed()
        self.done += len(batch)

    def change(self, change: Change) -> None:
        """Take over items; where time was idle until then, what is due before goes out as they were."""
        if change.idle:
            self.let_time_pass(change.at)
        for item in change.items:
            self._reference.items[item.item_id] = item

    def let_time_pass(self, until: float) -> None:
        """Let event time go on, seconds since the epoch, where it is not there yet."""
        for engine in self.engines:
            watermark = engine.state.header.watermark
            if until > watermark > float("-inf"):
                self.models.fold.begin()
                self._keep(engine.tick(until - watermark))
                self.models.fold.keep()

    def _keep(self, outputs: Outputs) -> None:
        _write(self._sinks, outputs)
        self.counts.update(outputs.counts)
        for key, amount in outputs.revenue.items():
            self.revenue[key] = self.revenue.get(key, 0.0) + amount


def _pending(engines: Sequence[Engine]) -> Counter[str]:
    """Live timers per campaign, over all partitions."""
    pending: Counter[str] = Counter()
    for engine in engines:
        pending.update(engine.state.pending_timers())
    return pending


def _write(sinks: Sequence[BinaryIO], outputs: Outputs) -> None:
    recommendations, triggers, decisions, dead_letters, segments = sinks
    recommendations.writelines(encode(o) + b"\n" for o in outputs.recommendations)
    segments.writelines(encode(o) + b"\n" for o in outputs.segments)
    triggers.writelines(encode(o) + b"\n" for o in outputs.triggers)
    decisions.writelines(encode(o) + b"\n" for o in outputs.decisions)
    dead_letters.writelines(dead_letter_line(letter) + b"\n" for letter in outputs.dead_letters)
