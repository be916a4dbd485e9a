"""What the simulation has found in the data plane, each as small as it can be shown."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.protocol.group import SyncGroupRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest

from stream.core.rows import Header, ModelMemory, Profile
from stream.runtime.growing import GrowthError, _require_all_read
from stream.runtime.kafka import KafkaTransport
from stream.runtime.outbox import Outbox
from stream.runtime.producing import key_of
from stream.runtime.restoring import OF_BATCH, Restored, _restore, restore
from stream.runtime.statecache import Cached, Mark
from stream.runtime.statecodec import decode_row, encode_header, encode_row
from tests.runtime.shop_stream import campaigns, shop_stream
from tests.simulation.cluster import Cluster, settings_of
from tests.simulation.history import committed
from tests.simulation.log import TOO_LARGE, PartitionLog, RefusedError
from tests.simulation.loop import Machine
from tests.simulation.network import Trap
from tests.simulation.stage import on_stage

Written = tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]


def test_a_reader_does_not_jump_over_what_was_trimmed() -> None:
    """A worker that was away while the delta log was trimmed must hear of it, or its models miss deltas."""

    async def trim(cluster: Cluster) -> None:
        log = TopicPartition(cluster.names.model_deltas, 0)
        transport = KafkaTransport(cluster.settings.kafka)
        for n in range(3):
            cluster.broker.write(log, [(b"k", b"%d" % n, ())])
        async with transport.reader([log]) as reader:
            await transport.delete_before({log: 2})
            reader.seek(log, 0)  # what was fetched ahead does not help
            with pytest.raises(OffsetOutOfRangeError):
                await reader.getmany(timeout_ms=1000)

    on_stage(trim)


def test_a_former_owners_late_state_does_not_count() -> None:
    """Without transactions nobody fences a worker that was frozen: what it still writes is passed by."""

    async def write_late(cluster: Cluster) -> Restored | None:
        changelog = TopicPartition(cluster.names.user_state, 0)
        for events, following in ((1, 10), (2, 20), (1, 15)):
            cluster.broker.write(changelog, batch_of(following, ("u", events)))
        return await restore(KafkaTransport(cluster.settings.kafka), changelog)

    restored = on_stage(write_late, settings_of(2, exactly_once=False))

    assert restored is not None
    assert 20 == restored.next_offset
    assert [2] == [decode_row(value)[0].n_events for value in restored.rows.values()]


def test_a_former_owners_rows_between_its_successors_do_not_count() -> None:
    """Of a user's rows that of the latest batch counts; one that no later batch wrote may be its own."""

    async def write_between(cluster: Cluster) -> Restored | None:
        changelog = TopicPartition(cluster.names.user_state, 0)

        def row(
            user: bytes, events: int, following: int
        ) -> tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]:
            value = encode_row(Profile(n_events=events), ModelMemory())
            return user, value, ((OF_BATCH, b"%d" % following),)

        def header(following: int) -> Written:
            return (*encode_header(Header(), following), ((OF_BATCH, b"%d" % following),))

        written = [
            row(b"u", 1, 10),
            header(10),
            row(b"u", 2, 20),
            row(b"u", 1, 15),
            row(b"v", 1, 15),
            header(20),
        ]
        cluster.broker.write(changelog, written)
        cluster.broker.write(changelog, [header(15), row(b"w", 1, 30)])
        return await restore(KafkaTransport(cluster.settings.kafka), changelog)

    restored = on_stage(write_between, settings_of(2, exactly_once=False))

    assert restored is not None
    assert 20 == restored.next_offset
    assert {"u": 2, "v": 1} == {user: decode_row(value)[0].n_events for user, value in restored.rows.items()}


def compact(cluster: Cluster, partition: TopicPartition) -> None:
    """Let the broker's cleaner go over a log."""
    log = cluster.broker.log_of(partition)
    assert log is not None
    log.compact()


def batch_of(following: int, *rows: tuple[str, int], numbered: bool = True) -> list[Written]:
    """A batch of user state: rows with their number of events, and the header behind them."""
    headers = ((OF_BATCH, b"%d" % following),) if numbered else ()
    written = [(user.encode(), encode_row(Profile(n_events=n), ModelMemory()), headers) for user, n in rows]
    return [*written, (*encode_header(Header(), following), headers)]


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(
    "numbered", [(True,) * 3, (False,) * 3, (False, True, True), (True, False, False), (True, False, True)]
)
def test_rows_outlive_the_headers_of_their_batches(*, compacted: bool, numbered: tuple[bool, ...]) -> None:
    """Compaction leaves a partition one header: rows of all batches before count, under either guarantee."""

    async def write(cluster: Cluster) -> Restored | None:
        changelog = TopicPartition(cluster.names.user_state, 0)
        batches = ("u", "w", "x"), ("v", "w"), ("w", "x")
        for n, (users, by_number) in enumerate(zip(batches, numbered, strict=True), 1):
            rows = [(user, n) for user in users]
            cluster.broker.write(changelog, batch_of(10 * n, *rows, numbered=by_number))
        if compacted:
            compact(cluster, changelog)
        return await restore(KafkaTransport(cluster.settings.kafka), changelog)

    restored = on_stage(write, settings_of(1, exactly_once=False))

    assert restored is not None
    assert 30 == restored.next_offset
    found = {user: decode_row(value)[0].n_events for user, value in restored.rows.items()}
    assert {"u": 1, "v": 2, "w": 3, "x": 3} == found


@pytest.mark.parametrize("exactly_once", [True, False])
def test_a_worker_knows_all_its_users_after_compaction(*, exactly_once: bool) -> None:
    """The changelog is compacted between two lives: nobody is forgotten."""

    async def live_twice(cluster: Cluster) -> tuple[set[str], set[str]]:
        cluster.produce_events(shop_stream(300, 1))
        worker = cluster.add("w0")
        cluster.start(worker)
        await asyncio.sleep(20.0)
        before = users_of(cluster)
        cluster.crash(worker)
        compact(cluster, TopicPartition(cluster.names.user_state, 0))
        cluster.start(worker)
        await asyncio.sleep(20.0)
        return before, users_of(cluster)

    before, after = on_stage(live_twice, settings_of(1, exactly_once=exactly_once))

    assert len(before) > 20
    assert before == after


@pytest.mark.parametrize("exactly_once", [True, False])
def test_what_a_batch_taught_is_on_the_log_where_its_state_is(
    monkeypatch: pytest.MonkeyPatch, *, exactly_once: bool
) -> None:
    """The delta log takes nothing for a while: no batch goes on without what it taught."""

    async def refuse_twice(cluster: Cluster) -> tuple[int, list[tuple[int, int]]]:
        cluster.produce_events(list(shop_stream(200, 1))[:200])
        [deltas] = cluster.broker.topics[cluster.names.model_deltas]
        append, calls = deltas.append, itertools.count()

        def refusing(data: bytes, now_ms: int, may_write: Callable[[int, int], bool]) -> tuple[int, int]:
            if next(calls) in {2, 4}:
                raise RefusedError(TOO_LARGE)
            return append(data, now_ms, may_write)

        monkeypatch.setattr(type(deltas), "append", append_of(deltas, refusing))
        cluster.start(cluster.add("w0"))
        await asyncio.sleep(20.0)
        [records] = committed(cluster.broker, cluster.names.model_deltas)
        found = [dict(record.headers) for record in records]
        spans = [(int(one["nudge.first_offset"]), int(one["nudge.next_offset"])) for one in found]
        [events] = cluster.broker.topics[cluster.names.events]
        return events.end, spans

    end, spans = on_stage(refuse_twice, settings_of(1, exactly_once=exactly_once))

    taught = {offset for first, following in spans for offset in range(first, following)}
    assert set(range(end)) == taught


def append_of(one: PartitionLog, instead: Callable[..., tuple[int, int]]) -> Callable[..., tuple[int, int]]:
    """Let one log append in another way."""
    append = PartitionLog.append

    def chosen(log: PartitionLog, *arguments: Any) -> tuple[int, int]:
        return instead(*arguments) if log is one else append(log, *arguments)

    return chosen


def test_a_fenced_producer_costs_the_partition_and_not_the_worker() -> None:
    """What is sent after the sender has ended is refused with an error that is no KafkaError."""

    async def fence_while_sending(cluster: Cluster) -> list[BaseException]:
        cluster.produce_campaigns(campaigns())
        cluster.produce_events(list(shop_stream(60, 1))[:60])

        def fence(_machine: Machine) -> None:
            for number in range(2):
                cluster.broker.transactions.init(f"sim.{cluster.names.events}.{number}", 4000)

        cluster.network.latency_s = 0.015
        cluster.network.traps.append(Trap(AddPartitionsToTxnRequest.API_KEY, fence))
        cluster.start(cluster.add("w0"))
        await asyncio.sleep(10.0)
        assert cluster.broker.transactions.ended["committed"] > 0
        return cluster.crashed

    assert [] == on_stage(fence_while_sending)


def test_a_backlog_is_fetched_once() -> None:
    """What was fetched of a partition whose inbox is full stays: it is neither lost nor fetched again."""

    async def work_off(cluster: Cluster) -> tuple[int, int]:
        cluster.produce_events(shop_stream(4000, 1))
        logs = cluster.broker.topics[cluster.names.events]
        cluster.start(cluster.add("w0"))
        group = cluster.broker.groups.group(cluster.settings.kafka.group)
        async with asyncio.timeout(120.0):
            while sum(offset for offset, _ in group.offsets.values()) < sum(log.end for log in logs):
                await asyncio.sleep(0.25)
        sources = [TopicPartition(cluster.names.events, number) for number in range(len(logs))]
        served = sum(cluster.broker.served[source] for source in sources)
        return served, sum(len(batch.raw) for log in logs for batch in log.batches)

    served, written = on_stage(work_off)

    assert written == served


def users_of(cluster: Cluster) -> set[str]:
    """Everybody whom some worker knows."""
    planes = [worker.plane for worker in cluster.workers if worker.plane is not None]
    tasks = [task for plane in planes if plane._assignment for task in plane._assignment.tasks.values()]
    return {user for task in tasks for user in task._engine.state}


def owners(cluster: Cluster) -> list[int]:
    """How many partitions each worker has open."""
    found = []
    for worker in cluster.workers:
        assignment = worker.plane._assignment if worker.plane is not None else None
        found.append(len(assignment.tasks) if assignment is not None else 0)
    return found


def test_a_worker_without_partitions_takes_over_after_any_time() -> None:
    """It fetches nothing for twenty minutes, and must not leave the group for that."""

    async def stand_by(cluster: Cluster) -> tuple[list[int], list[int]]:
        owner, other = cluster.add("w0"), cluster.add("w1")
        cluster.start(owner)
        await asyncio.sleep(5.0)
        cluster.start(other)
        await asyncio.sleep(1200.0)
        before = owners(cluster)
        cluster.crash(owner if before[0] else other)
        await asyncio.sleep(10.0)
        return before, owners(cluster)

    before, after = on_stage(stand_by, settings_of(1))

    assert [0, 1] == sorted(before)
    assert [0, 1] == sorted(after)
    assert before != after


@pytest.mark.parametrize("times", [1, 4])
def test_a_group_that_fails_without_a_reason_is_joined_again(times: int) -> None:
    """The client waits for somebody to fetch before it tries again, and who has no partition does not."""

    async def refuse(cluster: Cluster) -> list[int]:
        cluster.broker.refusals[SyncGroupRequest.API_KEY] = [-1] * times
        cluster.start(cluster.add("w0"))
        await asyncio.sleep(30.0)
        assert [] == cluster.crashed
        return owners(cluster)

    assert [2] == on_stage(refuse)


def test_a_group_that_goes_on_failing_ends_the_worker_by_name() -> None:
    """Thirty refusals in a row: a new process may help, and the supervisor hears of it."""

    async def refuse(cluster: Cluster) -> list[str]:
        cluster.broker.refusals[SyncGroupRequest.API_KEY] = [-1] * 30
        cluster.start(cluster.add("w0"))
        await asyncio.sleep(120.0)
        assert [2] == owners(cluster)
        return cluster.events

    assert any("end w0.1: BrokerUnreachableError" in what for what in on_stage(refuse))


@pytest.mark.parametrize("ends", ["plain", "committed", "aborted"])
def test_markers_at_the_end_of_the_input_are_no_lag(ends: str) -> None:
    """Events of a transactional producer: once all are read time passes, and nothing is taken for stalled."""

    async def read(cluster: Cluster) -> tuple[list[int], str | None, int]:
        lines = list(shop_stream(60, 1))[:40]
        if ends == "plain":
            cluster.produce_events(lines)
        else:
            producer = KafkaTransport(cluster.settings.kafka).producer("theirs", "theirs")
            await producer.start()
            await producer.begin_transaction()
            outbox = Outbox(producer, 0)
            for line in lines:
                outbox.add(cluster.names.events, key_of(line), line)
            await outbox.send()
            if ends == "committed":
                await producer.commit_transaction()
            else:
                await producer.abort_transaction()  # type: ignore[attr-defined]  # aiokafka's
            await producer.stop()
        worker = cluster.add("w0")
        cluster.start(worker)
        await asyncio.sleep(200.0)
        assert [] == cluster.crashed
        plane = worker.plane
        assert plane is not None
        assert plane._assignment is not None
        lags = [plane._assignment.lag(task) for task in plane._assignment.tasks.values()]
        return lags, plane.unready(), worker.life

    assert ([0, 0], None, 1) == on_stage(read)


@pytest.mark.parametrize("offset_s", [0.0, 0.1, 0.2])
def test_the_first_event_after_a_long_quiet_finds_a_worker(offset_s: float) -> None:
    """Partitions that had never had an event are not stalled while their first is on its way."""

    async def wait_long(cluster: Cluster) -> tuple[int, list[BaseException]]:
        worker = cluster.add("w0")
        cluster.start(worker)
        await asyncio.sleep(125.0 + offset_s)
        cluster.network.latency_s = 0.02
        cluster.produce_events(list(shop_stream(60, 1))[:6])
        await asyncio.sleep(10.0)
        return worker.life, cluster.crashed

    assert (1, []) == on_stage(wait_long)


@pytest.mark.parametrize("numbered", [True, False])
def test_a_cache_that_was_written_beside_batches_is_brought_up_to_date(*, numbered: bool) -> None:
    """A row was copied, then changed by a batch before the last that the copy names: the change counts."""

    async def read(cluster: Cluster) -> Restored | None:
        changelog = TopicPartition(cluster.names.user_state, 0)
        for following, user, n in ((10, "u", 1), (15, "u", 2), (20, "v", 3)):
            cluster.broker.write(changelog, batch_of(following, (user, n), numbered=numbered))
        copied = {"u": encode_row(Profile(n_events=1), ModelMemory())}
        mark = Mark(encode_header(Header(), 20)[1], 0, 6, since=10)
        async with KafkaTransport(cluster.settings.kafka).reader([changelog]) as reader:
            return await _restore(reader, changelog, Cached(copied, mark, 0.0))

    restored = on_stage(read, settings_of(1, exactly_once=not numbered))

    assert restored is not None
    assert {"u": 2, "v": 3} == {user: decode_row(value)[0].n_events for user, value in restored.rows.items()}


@pytest.mark.parametrize("obeyed", [0, 1])
def test_a_command_that_nobody_obeyed_is_not_left_behind(obeyed: int) -> None:
    """Partitions are not moved while an order to forget somebody waits."""

    async def ask(cluster: Cluster) -> None:
        erase = b'{"command_id":"c","kind":"erase","user_id":"u"}'
        cluster.broker.write(TopicPartition(cluster.names.commands, 0), [(b"u", erase, ())])
        changelog = TopicPartition(cluster.names.user_state, 0)
        header = encode_header(Header(next_command=obeyed), 0)
        cluster.broker.write(changelog, [(*header, ())])
        transport = KafkaTransport(cluster.settings.kafka)
        state = await restore(transport, changelog)
        await _require_all_read(transport, cluster.names, [state])

    if obeyed:
        on_stage(ask, settings_of(1))
        return
    with pytest.raises(GrowthError, match="1 commands for partition 0 wait"):
        on_stage(ask, settings_of(1))
