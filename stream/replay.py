"""Replay: recorded events through the production engine, driven by event time.

The same input gives the same bytes, the timings in ``report.json`` apart. Recorded partitions have an engine
each and share the models, as in a worker that owns them all.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, BinaryIO

from schemas.codec import dead_letter_line, encode
from stream.assembly import build_engine, build_models
from stream.campaign_files import read_campaigns, read_segments
from stream.core.measuring import merged
from stream.core.records import Outputs
from stream.core.reference import Reference
from stream.reading import read_items, read_offers
from stream.report import campaign_funnel, event_counts, lift, model_metrics
from stream.terminal import json_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stream.core.engine import Engine
    from stream.recording import Recording
    from stream.settings import Settings

__all__ = ["FILES", "load_reference", "replay"]

FILES = (
    *("recommendations.jsonl", "triggers.jsonl", "decisions.jsonl", "dead-letters.jsonl"),
    "segments.jsonl",
)
BATCH = 1000


def load_reference(catalogue: Path | None, offers: Path | None, campaigns: Path | None) -> Reference:
    """Read reference records; what is not given is empty, so without campaigns or offers none run."""
    return Reference(
        items=read_items(catalogue) if catalogue else {},
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
    until: float | None = None,
    progress: Callable[[int], None] | None = None,
    batch_size: int = BATCH,
) -> dict[str, Any]:
    """Run recorded events and write what came out into a folder; return the report.

    Parameters
    ----------
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
    models, n_partitions = build_models(settings), recording.n_partitions
    config = settings.engine_config(replay=not recording.broker_clock, partitions=n_partitions)
    engines = [build_engine(settings, models, reference, config=config) for _ in range(n_partitions)]
    counts: Counter[tuple[str, ...]] = Counter()
    revenue: dict[tuple[str, str], float] = {}
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    done = 0
    with ExitStack() as stack:
        sinks = [stack.enter_context((out / name).open("wb")) for name in FILES]

        def keep(outputs: Outputs) -> None:
            _write(sinks, outputs)
            counts.update(outputs.counts)
            for key, amount in outputs.revenue.items():
                revenue[key] = revenue.get(key, 0.0) + amount

        records = recording.open()
        while batch := list(islice(records, batch_size)):
            models.fold.begin()
            for partition, several in groupby(batch, itemgetter(0)):
                keep(engines[partition].process([record for _, record in several]))
            models.fold.keep()
            for engine in engines:
                engine.state.committed()
            done += len(batch)
            if progress is not None:
                progress(done)
        for engine in engines:
            watermark = engine.state.header.watermark
            if until is not None and until > watermark > float("-inf"):
                models.fold.begin()
                keep(engine.tick(until - watermark))
                models.fold.keep()
    elapsed = time.perf_counter() - started
    report = {
        "events": event_counts(counts),
        "throughput_events_per_s": round(done / elapsed, 1) if elapsed > 0 else 0.0,
        "elapsed_s": round(elapsed, 3),
        "outputs": {
            "recommendations": counts["recommendation", "emitted"],
            "offers": {key[1]: n for key, n in sorted(counts.items()) if key[0] == "offer"},
        },
        "models": model_metrics(models, len(reference.items)),
        "campaigns": campaign_funnel(counts, _pending(engines), revenue),
        "lift": lift(
            merged(engine.state.header.lift for engine in engines),
            settings.lift.alpha,
            settings.lift.sample_ratio_p_value,
        ),
        "users": sum(len(engine.state) for engine in engines),
    }
    (out / "report.json").write_bytes(json_bytes(report))
    return report


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
