"""How long an event waits for its visible effect, while events come at a given rate."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer

from benchmarks.jobs.process import Process
from benchmarks.jobs.running import Run
from stream.runtime.consuming import open_reader, read_topic

BATCH = "nudge_batch_processing_seconds"
SETTLE_S = 1.0


async def freshness(run: Run, lines: Sequence[bytes], rate: float) -> dict[str, float]:
    """Let a running worker's events come at a rate; times from their append to what they cause, ms."""
    path, done = run.folder / "following.jsonl", await run.committed()
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    before, started = run.samples(), await run.watch.ends(run.names.events)
    starts = await run.watch.ends(run.names.recommendations)
    seen: list[tuple[float, bytes]] = []
    bootstrap = run.kafka.bootstrap

    async def came() -> bool:
        return await run.watch.ends(run.names.events) != started

    async with open_reader(bootstrap, []) as consumer:
        consumer.assign(list(starts))
        for tp, offset in starts.items():
            consumer.seek(tp, offset)
        reading = asyncio.create_task(_note(consumer, seen))
        environment = {"NUDGE_KAFKA__BOOTSTRAP": bootstrap}
        environment |= {"NUDGE_KAFKA__TOPIC_PREFIX": run.kafka.topic_prefix}
        try:
            with Process(
                [sys.executable, "-m", "stream", "produce", str(path), "--rate", str(rate)],
                environment,
                run.folder / "produce.log",
            ) as load:
                await run.until("the first event", came)
                clock, begun = time.monotonic(), (run.cpu_s(), load.cpu_s(), time.process_time())
                await asyncio.sleep(len(lines) / rate)  # each look costs the broker, the worker's neighbour
                await run.reach(run.committed, done + len(lines))
                span_s, ended = time.monotonic() - clock, (run.cpu_s(), load.cpu_s(), time.process_time())
                await asyncio.sleep(SETTLE_S)  # what is committed may still be on its way to the reader
        finally:
            reading.cancel()
            await asyncio.wait([reading])
    after = run.samples()
    cpu, load_cpu, reader_cpu = (till - since for since, till in zip(begun, ended, strict=True))

    def grown(name: str) -> float:
        return after[name] - before[name]

    appended = {
        orjson.loads(record.value or b"{}")["messageId"]: record.timestamp
        for record in await read_topic(bootstrap, run.names.events)
        for tp, offset in started.items()
        if record.partition == tp.partition and record.offset >= offset
    }
    assert len(appended) == len(lines)
    slates = [(at, orjson.loads(value)["cause"]["message_id"]) for at, value in seen]
    waits = [at * 1000 - appended[cause] for at, cause in slates if cause in appended]
    assert len(waits) == len(slates) > 0
    p50, p99 = np.quantile(waits, [0.5, 0.99])
    return {
        "rate": (len(lines) - 1) / (max(appended.values()) - min(appended.values())) * 1000,
        "n_recommendations": len(waits),
        "p50": float(p50),
        "p99": float(p99),
        "batch_ms": 1000 * grown(f"{BATCH}_sum") / grown(f"{BATCH}_count"),
        "events_per_batch": len(lines) / grown(f"{BATCH}_count"),
        "p50_at_most": _bound(before, after, 0.5),
        "p99_at_most": _bound(before, after, 0.99),
        "cpu_us_per_event": cpu / len(lines) * 1e6,
        "busy": cpu / span_s,
        "load_busy": load_cpu / span_s,
        "reader_busy": reader_cpu / span_s,
    }


async def _note(consumer: AIOKafkaConsumer, seen: list[tuple[float, bytes]]) -> None:
    """Note when each record became visible."""
    while True:
        fetched = await consumer.getmany(timeout_ms=100)
        now = time.time()
        seen += [(now, record.value or b"{}") for records in fetched.values() for record in records]


def _bound(before: dict[str, float], after: dict[str, float], share: float) -> float:
    """Upper bound of the histogram's bucket that holds a quantile of what came between, ms."""
    head = 'nudge_event_to_effect_seconds_bucket{le="'
    grown = {
        float(name[len(head) : -2]): n - before.get(name, 0.0)
        for name, n in after.items()
        if name.startswith(head)
    }
    wanted = share * grown[float("inf")]
    return 1000 * min(bound for bound, n in grown.items() if n >= wanted)
