"""Replay: a file of events through the production engine, driven by event time, one partition.

The same input gives the same bytes, the timings in ``report.json`` apart.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from schemas.codec import dead_letter_line, encode
from stream.assembly import build_engine, build_models
from stream.campaign_files import read_campaigns
from stream.core.records import Outputs, Record
from stream.core.reference import Reference
from stream.reading import open_lines, read_items, read_offers
from stream.report import campaign_funnel, event_counts, model_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from stream.settings import Settings

__all__ = ["FILES", "load_reference", "replay"]

FILES = ("recommendations.jsonl", "triggers.jsonl", "decisions.jsonl", "dead-letters.jsonl")
BATCH = 1000


def load_reference(catalogue: Path | None, offers: Path | None, campaigns: Path | None) -> Reference:
    """Read reference records; what is not given is empty, so without campaigns or offers none run."""
    return Reference(
        items=read_items(catalogue) if catalogue else {},
        offers=read_offers(offers) if offers else {},
        campaigns=read_campaigns(campaigns) if campaigns else {},
    )


def replay(
    settings: Settings,
    events: Path,
    out: Path,
    reference: Reference,
    *,
    now: float,
    until: float | None = None,
    progress: Callable[[int], None] | None = None,
    batch_size: int = BATCH,
) -> dict[str, Any]:
    """Run a file of events and write what came out into a folder; return the report.

    Parameters
    ----------
    now : float
        Records claim to have come in at their own event time, but never after this; seconds since the epoch.
    until : float, optional
        After the last event time goes on to here, so that timers due by then fire.
    progress : callable, optional
        Told the number of records done after each batch.
    batch_size : int
        Records of a batch; it changes nothing but the grain of progress.

    Raises
    ------
    BadFileError
        The file of events cannot be read.
    """
    models = build_models(settings)
    engine = build_engine(settings, models, reference, config=settings.engine_config(replay=True))
    counts: Counter[tuple[str, ...]] = Counter()
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    done = 0
    with ExitStack() as stack:
        sinks = [stack.enter_context((out / name).open("wb")) for name in FILES]
        records = _records(events, now)
        while batch := list(islice(records, batch_size)):
            models.fold.begin()
            outputs = engine.process(batch)
            models.fold.keep()
            _write(sinks, outputs)
            counts += outputs.counts
            engine.state.committed()
            done += len(batch)
            if progress is not None:
                progress(done)
        if until is not None and until > engine.state.header.watermark > float("-inf"):
            models.fold.begin()
            outputs = engine.tick(until - engine.state.header.watermark)
            models.fold.keep()
            _write(sinks, outputs)
            counts += outputs.counts
    elapsed = time.perf_counter() - started
    report = {
        "events": event_counts(counts),
        "throughput_events_per_s": round(done / elapsed, 1) if elapsed > 0 else 0.0,
        "elapsed_s": round(elapsed, 3),
        "outputs": {
            "recommendations": counts["recommendation", "emitted"],
            "offers": {key[1]: n for key, n in sorted(counts.items()) if key[0] == "offer"},
        },
        "models": model_metrics(models),
        "campaigns": campaign_funnel(counts, engine.state.pending_timers()),
        "users": len(engine.state),
    }
    (out / "report.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    return report


def _records(events: Path, now: float) -> Iterator[Record]:
    """Read the file as one partition.

    To claim "came in at its own event time, capped at now" and to claim "came in now" is the same to the
    engine: both bound the future at now. The second needs no look into the bytes.
    """
    for offset, line in enumerate(open_lines(events)):
        yield Record(line, now, offset)


def _write(sinks: Sequence[BinaryIO], outputs: Outputs) -> None:
    recommendations, triggers, decisions, dead_letters = sinks
    recommendations.writelines(encode(o) + b"\n" for o in outputs.recommendations)
    triggers.writelines(encode(o) + b"\n" for o in outputs.triggers)
    decisions.writelines(encode(o) + b"\n" for o in outputs.decisions)
    dead_letters.writelines(dead_letter_line(letter) + b"\n" for letter in outputs.dead_letters)
