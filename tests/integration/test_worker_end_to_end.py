"""A real worker process on the embedded broker: events in, effects out, restart, clean stop, named errors."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from schemas.catalogue import Item
from stream.runtime.broker import EmbeddedBroker
from stream.runtime.producing import produce
from stream.testing import cart_campaign, event
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.shop_stream import CONSENT, START, campaigns, shop_stream
from tests.runtime.topic_setup import Setup, create_topics
from tests.runtime.worker_process import SETTINGS, SMALL, WorkerProcess, free_port, wait_until

N_PARTITIONS = 2
N_POISON = 4
_NUMBERS = itertools.count(1)


@pytest.fixture
def setup(embedded_broker: EmbeddedBroker) -> Setup:
    """Empty topics under a prefix of their own."""
    name = f"e2e-{next(_NUMBERS)}"
    return create_topics(embedded_broker.bootstrap, name, partitions=N_PARTITIONS, batch_records=200)


@pytest.fixture
def worker(setup: Setup, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker on these topics, not started yet."""
    with WorkerProcess(setup.environment | SMALL, tmp_path / "worker.log") as found:
        yield found


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_a_restarted_worker_goes_on_where_it_stopped(setup: Setup, tmp_path: Path, guarantee: str) -> None:
    """Two lives with a clean stop between leave what one run leaves; SIGTERM ends one in 5 s with 0."""
    lines = list(shop_stream(1500, seed=3))
    setup.produce_campaigns(campaigns())
    setup.produce_events(lines[:800])
    environment = setup.environment | SMALL | {"KAFKA__GUARANTEE": guarantee}
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        worker.start()
        wait_until("first half applied", lambda: setup.applied() == 800)
        worker.wait_ready()
        code, seconds = worker.terminate()
        assert (0, True) == (code, seconds <= 5.0)

        setup.produce_events(lines[800:])
        worker.start()
        wait_until("second half applied", lambda: setup.applied() == len(lines))
        assert worker.metric("nudge_events_consumed_total") == len(lines) - 800
        assert 0 == worker.metric("nudge_rebuilds_total")
        assert 0 == worker.terminate()[0]
    assert_as_without_faults(setup, SETTINGS)


def test_a_worker_that_is_stopped_while_it_starts_ends_cleanly(worker: WorkerProcess) -> None:
    """Before it has connected, while kernels are compiled or loaded, SIGTERM is a clean end, too."""
    worker.start()
    wait_until("it starts", lambda: worker.log.exists() and bool(worker.events("kernels_compile")))
    assert 0 == worker.terminate()[0]


def test_effects_carry_headers_and_dead_letters_their_bytes(setup: Setup, worker: WorkerProcess) -> None:
    """Outputs are CloudEvents; a dead letter is the record itself with its coordinates and a code."""
    bad = b'\xff{"not": json'
    good = list(shop_stream(50, seed=5))
    setup.produce_campaigns(campaigns())
    setup.produce_events([*good, bad])
    worker.start()
    wait_until("all applied", lambda: setup.applied() == len(good) + 1)
    assert 0 == worker.terminate()[0]

    [letter] = [record for record in setup.read(setup.names.dead_letters) if record.value == bad]
    headers = dict(letter.headers)
    [source] = [record for record in setup.read(setup.names.events) if record.value == bad]
    assert (source.partition, source.key) == (letter.partition, letter.key)
    assert b"application/json" == headers["content-type"]  # its own header, kept
    assert setup.names.events.encode() == headers["__streams.errors.topic"]
    assert str(source.partition).encode() == headers["__streams.errors.partition"]
    assert str(source.offset).encode() == headers["__streams.errors.offset"]
    assert b"bad_utf8" == headers["nudge.error.code"]
    for record in setup.read(setup.names.recommendations):
        assert b"nudge.recommendation.v1" == dict(record.headers)["ce_type"]
        user_id, slot = orjson.loads(record.value or b"{}")["user_id"], b"for_you"
        assert record.key == user_id.encode() + b"|" + slot


def test_a_record_the_engine_fails_on_is_passed_by(setup: Setup, tmp_path: Path) -> None:
    """A bug of ours costs the records that meet it: they are quarantined, the others have their effects."""
    lines = list(shop_stream(300, seed=8))
    poison = [
        event("Cart Viewed", user="u1", at=START + 9000.0 + n, message_id="poison") for n in range(N_POISON)
    ]
    setup.produce_campaigns(campaigns())
    setup.produce_events([*lines[:200], *poison, *lines[200:]])
    with WorkerProcess(setup.environment | SMALL, tmp_path / "worker.log", run=_FAILING) as worker:
        worker.start()
        wait_until("all applied", lambda: setup.applied() == len(lines) + N_POISON)
        assert 3 * N_POISON == worker.metric("nudge_rebuilds_total")
        assert 0 == worker.terminate()[0]
    letters = setup.read(setup.names.dead_letters)
    codes = [dict(record.headers)["nudge.error.code"] for record in letters]
    assert N_POISON == codes.count(b"poison")
    assert {record.value for record in letters} >= set(poison)


def test_a_row_that_outgrows_its_record_costs_the_event_that_made_it_grow(
    setup: Setup, tmp_path: Path
) -> None:
    """No broker takes it: the event is quarantined, the user's row stays as it was, and the rest goes on."""
    growing = event("Cart Viewed", user="u1", at=START + 9000.0, message_id="growing")
    lines = list(shop_stream(300, seed=8))
    setup.produce_events([*lines[:200], growing, *lines[200:]])
    with WorkerProcess(setup.environment | SMALL, tmp_path / "worker.log", run=_GROWING) as worker:
        worker.start()
        wait_until("all applied", lambda: setup.applied() == len(lines) + 1)
        assert 3 == worker.metric("nudge_rebuilds_total")
        assert 0 == worker.terminate()[0]
    letters = {
        record.value: dict(record.headers)["nudge.error.code"]
        for record in setup.read(setup.names.dead_letters)
    }
    assert letters[growing] == b"poison"
    rows = [len(record.value or b"") for record in setup.read(setup.names.user_state)]
    assert 0 < max(rows) < 100_000


_GROWING = """
import random
import sys
from stream.core.engine import Engine
from stream.settings import Settings
from stream.worker import run_worker

process = Engine.process

def growing(self, batch):
    outputs = process(self, batch)
    if any(b'"messageId":"growing"' in record.value for record in batch):
        self.state.profile("u1").time_zone = random.Random(1).randbytes(600_000).hex()
    return outputs

Engine.process = growing
sys.exit(run_worker(Settings()))
"""

# Fault injection: the production worker, with an engine that has a bug.
_FAILING = """
import sys
from stream.core.engine import Engine
from stream.settings import Settings
from stream.worker import run_worker

process = Engine.process

def failing(self, batch):
    if any(b'"messageId":"poison"' in record.value for record in batch):
        raise ZeroDivisionError("a bug")
    return process(self, batch)

Engine.process = failing
sys.exit(run_worker(Settings()))
"""


async def _produce_items(setup: Setup, items: list[Item], extra: bytes) -> None:
    lines = [msgspec.json.encode(item) for item in items]
    await produce(setup.kafka.bootstrap, setup.names.catalogue, [extra, *lines], key="item_id")


def test_reference_records_rule_what_is_shown(setup: Setup, worker: WorkerProcess) -> None:
    """A hidden item of the catalogue topic is never recommended; an incomplete record is only counted."""
    hidden = [Item(item_id=f"p{n}", version=1, hidden=True) for n in range(0, 60, 2)]
    asyncio.run(_produce_items(setup, hidden, b'{"item_id":"p1"}'))
    setup.produce_events(shop_stream(400, seed=6))
    worker.start()
    wait_until("all applied", lambda: setup.applied() == 800)
    assert 1 == worker.metric("nudge_reference_records_skipped_total")
    assert 0 == worker.terminate()[0]
    shown = {
        item["item_id"]
        for record in setup.read(setup.names.recommendations)
        for item in orjson.loads(record.value or b"{}")["items"]
    }
    assert len(shown) > 10
    assert not shown & {item.item_id for item in hidden}


def test_idle_time_fires_what_is_due(setup: Setup, tmp_path: Path) -> None:
    """A timer that comes due while nothing arrives fires by itself, within seconds of its time."""
    setup.produce_campaigns([cart_campaign(delay_s=2.0, consent=CONSENT)])
    setup.produce_events([event("Product Added", user="u1", at=START, product_id="p1")])
    environment = setup.environment | SMALL | {"CAMPAIGNS__HOLDOUT_SHARE": "0", "CAMPAIGNS__LATENESS_S": "0"}
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        worker.start()
        wait_until("the trigger", lambda: len(setup.read(setup.names.triggers)) == 1)
        assert 0 == worker.terminate()[0]
    [record] = setup.read(setup.names.triggers)
    assert "cart" == orjson.loads(record.value or b"{}")["campaign_id"]


@pytest.mark.parametrize("missing", ["topics", "broker"])
def test_what_is_missing_is_named(missing: str, embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    """No broker ends with 69, no topics with 78, each with a remedy, within seconds."""
    bootstrap = embedded_broker.bootstrap if missing == "topics" else f"127.0.0.1:{free_port()}"
    settings = {"KAFKA__BOOTSTRAP": bootstrap, "KAFKA__TOPIC_PREFIX": "nowhere."}
    with WorkerProcess(settings | SMALL, tmp_path / "worker.log") as worker:
        worker.start()
        assert {"topics": 78, "broker": 69}[missing] == worker.wait()
        [failure] = worker.events("worker_failed")
    assert {"topics": "nudge topics apply", "broker": bootstrap}[missing] in str(failure["error"])


def test_lost_records_stop_the_worker_by_name(setup: Setup, tmp_path: Path) -> None:
    """When the state knows more of the log than there is, the worker ends with 65 and resets nothing."""
    setup.produce_events(shop_stream(20, seed=7))
    with WorkerProcess(setup.environment | SMALL, tmp_path / "worker.log") as worker:
        worker.start()
        wait_until("all applied", lambda: setup.applied() == 420)
        assert 0 == worker.terminate()[0]
    # The events topic of another prefix, shorter, under the same group and the old state.
    other = Setup(setup.kafka.model_copy(update={"topic_prefix": f"{setup.kafka.topic_prefix}other."}))
    other.create()
    raw = setup.read(setup.names.user_state)

    async def copy() -> None:
        async with AIOKafkaProducer(bootstrap_servers=setup.kafka.bootstrap) as producer:
            for record in raw:
                await producer.send_and_wait(
                    other.names.user_state, key=record.key, value=record.value, partition=record.partition
                )

    asyncio.run(copy())
    with WorkerProcess(other.environment | SMALL, tmp_path / "other.log") as worker:
        worker.start()
        assert 65 == worker.wait()
        [failure] = worker.events("worker_failed")
    assert "nothing is skipped silently" in str(failure["error"])


def test_a_process_that_stood_still_does_not_take_that_for_idle_time(setup: Setup, tmp_path: Path) -> None:
    """A machine sleeps for longer than a cart may wait, and its user orders meanwhile: nothing is sent."""
    setup.produce_campaigns([cart_campaign(delay_s=8.0, consent=CONSENT)])
    setup.produce_events([event("Product Added", user="u1", at=START, product_id="p1")])
    environment = setup.environment | SMALL | {"CAMPAIGNS__HOLDOUT_SHARE": "0", "CAMPAIGNS__LATENESS_S": "0"}
    with WorkerProcess(environment | {"KAFKA__SESSION_TIMEOUT_MS": "30000"}, tmp_path / "w.log") as worker:
        worker.start()
        wait_until("the cart", lambda: setup.applied() == 1)
        os.kill(worker.pid, signal.SIGSTOP)
        order = event("Order Completed", user="u1", at=START + 1, products=[{"product_id": "p1"}])
        setup.produce_events([order])
        time.sleep(9.0)
        os.kill(worker.pid, signal.SIGCONT)
        wait_until("the order", lambda: setup.applied() == 2)
        assert 0 == worker.terminate()[0]
    assert not setup.read(setup.names.triggers)


LATIN_1 = b'{"item_id":"p1","version":1,"name":"M\xfcller"}'


@pytest.mark.parametrize("value", [LATIN_1, b'{"x":' + b"[" * 9000], ids=["latin-1", "deep"])
def test_a_record_that_is_no_utf8_or_too_deep_stops_nobody(
    setup: Setup, worker: WorkerProcess, value: bytes
) -> None:
    """A catalogue in another encoding, a command without end: counted, and the events are processed."""

    async def produce_both() -> None:
        async with AIOKafkaProducer(bootstrap_servers=setup.kafka.bootstrap) as producer:
            for topic in (setup.names.catalogue, setup.names.commands):
                await producer.send_and_wait(topic, value, key=b"p1", partition=0)

    asyncio.run(produce_both())
    lines = list(shop_stream(50, seed=6))
    setup.produce_events(lines)
    worker.start()
    wait_until("all applied", lambda: setup.applied() == len(lines), 30.0)
    wait_until("the command", lambda: worker.metric("nudge_commands_total") == 1, 30.0)
    assert 1 == worker.metric("nudge_reference_records_skipped_total")
    assert 0 == worker.terminate()[0]
