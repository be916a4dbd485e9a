"""What a worker must not go on from: it says what is wrong and how to mend it, ends, and resets nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

from stream.runtime import topics
from stream.runtime.broker import KafkaBroker
from stream.runtime.producing import produce
from tests.chaos.harness import Fleet, topics_for
from tests.chaos.report import report
from tests.runtime.shop_stream import shop_stream
from tests.runtime.topic_setup import Setup

N_EVENTS = 400
MISSING_RECORDS, BAD_TOPICS = 65, 78  # exit codes
Damage = Callable[[AIOKafkaAdminClient, Setup], Awaitable[None]]


async def _retention_overran(admin: AIOKafkaAdminClient, setup: Setup) -> None:
    """More records come than retention leaves for us: the next ones are gone."""
    await _trim(admin, setup, setup.names.events)


async def _tail_lost(admin: AIOKafkaAdminClient, setup: Setup) -> None:
    """The topic is deleted and created again: what was acknowledged is gone, the log begins anew."""
    await _recreate(admin, setup, setup.names.events)


async def _another_log(admin: AIOKafkaAdminClient, setup: Setup) -> None:
    """The same, and it has grown beyond where we stopped: there are other records under our offsets."""
    await _recreate(admin, setup, setup.names.events)
    await produce(setup.kafka.bootstrap, setup.names.events, shop_stream(4 * N_EVENTS, seed=6))


async def _partitions_added(admin: AIOKafkaAdminClient, setup: Setup) -> None:
    """Users move away from their state when the producers' partitioner sees another count."""
    await admin.create_partitions({setup.names.events: NewPartitions(setup.kafka.partitions + 1)})


async def _changelog_lost(admin: AIOKafkaAdminClient, setup: Setup) -> None:
    """The user state is gone, and the group says that it had been committed."""
    await _recreate(admin, setup, setup.names.user_state)


async def _model_log_trimmed(admin: AIOKafkaAdminClient, setup: Setup) -> None:
    """Deltas are gone that no snapshot holds."""
    await _trim(admin, setup, setup.names.model_deltas)


async def _recreate(admin: AIOKafkaAdminClient, setup: Setup, topic: str) -> None:
    await admin.delete_topics([topic])
    async with asyncio.timeout(30.0):
        while topic in await topics.partition_counts(admin):
            await asyncio.sleep(0.05)
    await topics.apply(admin, setup.kafka)


async def _trim(admin: AIOKafkaAdminClient, setup: Setup, topic: str) -> None:
    everything = RecordsToDelete(before_offset=-1)
    await admin.delete_records({TopicPartition(topic, p): everything for p in range(setup.kafka.partitions)})


@pytest.mark.parametrize(
    ("damage", "code", "says"),
    [
        (_retention_overran, MISSING_RECORDS, "retention overran"),
        (_tail_lost, MISSING_RECORDS, "lost its tail"),
        (_another_log, MISSING_RECORDS, "created anew"),
        (_partitions_added, BAD_TOPICS, "has 5 partitions"),
        (_changelog_lost, MISSING_RECORDS, "the changelog was lost"),
        (_model_log_trimmed, BAD_TOPICS, "no complete snapshot"),
    ],
)
def test_a_worker_that_finds_a_gap_says_so_and_ends(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str, damage: Damage, code: int, says: str
) -> None:
    """Between two lives something was lost: the second ends with its code, and commits nothing."""
    setup = topics_for(kafka_broker.bootstrap, name)
    setup.produce_events(shop_stream(N_EVENTS, seed=4))
    with Fleet(setup, tmp_path, rate=0) as fleet:
        fleet.start().finish()
        setup.produce_events(shop_stream(N_EVENTS, seed=5))
        asyncio.run(_damage(setup, damage))
        before = setup.committed(), setup.ends(setup.names.user_state)
        [worker] = fleet.start().workers
        assert code == worker.wait(), worker.tail()
        [failed] = worker.events("worker_failed")
        assert says in str(failed["error"])
        assert before == (setup.committed(), setup.ends(setup.names.user_state))
        report(name, exit_code=code, error=str(failed["error"]))


def test_records_that_vanish_under_a_worker_end_it(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str
) -> None:
    """Retention overruns a worker that sleeps; awake, it takes no later record for the next one."""
    setup = topics_for(kafka_broker.bootstrap, name)
    setup.produce_events(shop_stream(N_EVENTS, seed=4))
    with Fleet(setup, tmp_path, rate=0) as fleet:
        fleet.start().drain()
        [worker] = fleet.workers
        os.kill(worker.pid, signal.SIGSTOP)
        setup.produce_events(shop_stream(N_EVENTS, seed=5))
        asyncio.run(_damage(setup, _retention_overran))
        first = setup.ends(setup.names.events)  # what the log begins with
        setup.produce_events(shop_stream(N_EVENTS, seed=6))
        os.kill(worker.pid, signal.SIGCONT)
        assert MISSING_RECORDS == worker.wait(), worker.tail()
        [failed] = worker.events("worker_failed")
        assert "retention overran" in str(failed["error"])
        # A fetch under way may have brought some of what is gone; nothing beyond the gap was taken for it.
        assert all(offset <= first[p] for p, offset in setup.committed_offsets().items())
        report(name, exit_code=MISSING_RECORDS, error=str(failed["error"]))


async def _damage(setup: Setup, damage: Damage) -> None:
    async with topics.open_admin(setup.kafka.bootstrap) as admin:
        await damage(admin, setup)


@pytest.mark.parametrize(
    ("damage", "leads_on"), [(_retention_overran, True), (_tail_lost, False), (_another_log, False)]
)
def test_an_operator_may_go_on_after_a_gap(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str, damage: Damage, *, leads_on: bool
) -> None:
    """With NUDGE_KAFKA__ACCEPT_GAP the same gap is logged as an error, and what there is is read, once."""
    setup = topics_for(kafka_broker.bootstrap, name)
    setup.produce_events(shop_stream(N_EVENTS, seed=4))
    with Fleet(setup, tmp_path, rate=0) as fleet:
        fleet.start().finish()
    setup.produce_events(shop_stream(N_EVENTS, seed=5))
    asyncio.run(_damage(setup, damage))
    first = setup.ends(setup.names.events) if leads_on else dict.fromkeys(range(setup.kafka.partitions), 0)
    setup.produce_events(shop_stream(N_EVENTS, seed=6))

    patient = replace(setup, kafka=setup.kafka.model_copy(update={"accept_gap": True}))
    for life in ("accepts", "again"):
        (tmp_path / life).mkdir()
    with Fleet(patient, tmp_path / "accepts", rate=0) as fleet:
        fleet.start().finish()
        accepted = fleet.events("gap_accepted")
    assert first == {line["partition"]: line["position"] for line in accepted}
    assert all((int(str(line["expected"])) < int(str(line["position"]))) == leads_on for line in accepted)
    setup.produce_events(shop_stream(N_EVENTS, seed=7))
    with Fleet(patient, tmp_path / "again", rate=0) as fleet:
        fleet.start().finish()
        assert [] == fleet.events("gap_accepted")
