"""How long it takes to read back what a hundred thousand users have left."""

from __future__ import annotations

import asyncio
from pathlib import Path

from stream.core.rows import Header, ModelMemory
from stream.runtime.broker import KafkaBroker
from stream.runtime.kafka import KafkaTransport
from stream.runtime.outbox import Outbox
from stream.runtime.statecodec import encode_header, encode_row, key_of
from stream.testing import Driver, event
from tests.chaos.harness import Fleet, topics_for
from tests.chaos.report import report, size
from tests.runtime.topic_setup import Setup

AT_ONCE = 5000  # rows


async def _write_rows(setup: Setup, n_users: int) -> int:
    """Write a changelog of one partition; return its bytes."""
    driver = Driver(consent="allow")
    for k in range(8):
        driver.pipe(event("Product Viewed", user="u", at=60.0 * k, product_id=f"p{k}"))
    driver.flush()
    row = encode_row(driver.engine.state.profile("u"), ModelMemory())
    producer = KafkaTransport(setup.kafka).producer("rows")
    await producer.start()
    try:
        outbox = Outbox(producer, 0)
        for k in range(n_users):
            outbox.add(setup.names.user_state, key_of(f"user-{k}"), row)
            if k % AT_ONCE == AT_ONCE - 1:
                await outbox.send()
        outbox.add(setup.names.user_state, *encode_header(Header(), 0))
        await outbox.send()
    finally:
        await producer.stop()
    return n_users * len(row)


def test_a_hundred_thousand_users_are_restored(kafka_broker: KafkaBroker, tmp_path: Path, name: str) -> None:
    """All rows are there when the partition opens, and the report says at which rate they came."""
    n_users = size(100_000, 1_000_000)
    setup = topics_for(kafka_broker.bootstrap, name, partitions=1, session_timeout_ms=10_000)
    n_bytes = asyncio.run(_write_rows(setup, n_users))
    with Fleet(setup, tmp_path, rate=0) as fleet:
        fleet.start()
        [worker] = fleet.workers
        fleet.wait_until("open", lambda: bool(worker.events("partition_open")))
        [opened] = worker.events("partition_open")
        seconds = float(str(opened["seconds"]))
        report(
            name,
            users=int(str(opened["users"])),
            state_bytes=n_bytes,
            open_s=seconds,
            records_per_s=round(n_users / seconds),
            assignments=len(worker.events("assigned")),
        )
        assert n_users == opened["users"]
        assert 1 == len(worker.events("assigned")), "the restore cost the session"
        assert 0 == worker.terminate()[0]
