"""What Nudge asks of a broker, one step at a time, each written down as one line.

The steps run in order through aiokafka against any broker. A line holds only what the protocol promises: no
addresses, no ids, no times. `conversation` returns the whole transcript.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalOperation, KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

Step = Callable[["Client"], Awaitable[object]]

STEP_TIMEOUT_S = 20.0  # the slowest step takes 3 s on Apache Kafka
DAY_MS = 86_400_000


class Client:
    """The few verbs the steps are written in, on topics and ids that start with ``prefix``."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix

    def name(self, short: str) -> str:
        """Full name of a topic, group or transactional id."""
        return f"{self.prefix}.{short}"

    def partition(self, topic: str, number: int = 0) -> TopicPartition:
        """Partition of one of our topics."""
        return TopicPartition(self.name(topic), number)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """Admin client for one step."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await client.start()
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def producer(self, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
        """Idempotent producer, transactional when an id is given; a fenced one may fail to say goodbye."""
        if "transactional_id" in options:
            options["transactional_id"] = self.name(options["transactional_id"])
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True, **options)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()
            # A fenced producer leaves its error also on a future that nobody awaits; asyncio would report it.
            manager = producer._txn_manager
            if manager.is_fatal_error():
                manager.wait_for_transaction_end().exception()

    @asynccontextmanager
    async def consumer(self, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
        """Consumer that commits only by hand and reads from the start."""
        settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_max_wait_ms": 50}
        consumer = AIOKafkaConsumer(
            *(self.name(topic) for topic in topics), bootstrap_servers=self.bootstrap, **(settings | options)
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()

    async def create(self, topic: str, partitions: int = 1, **configs: str) -> str:
        """Create a topic; underscores in the names of settings stand for dots."""
        spec = NewTopic(
            self.name(topic),
            partitions,
            1,
            topic_configs={k.replace("_", "."): v for k, v in configs.items()},
        )
        async with self.admin() as admin:
            answer: Any = await admin.create_topics([spec])
        code = answer.topic_errors[0][1]
        return "ok" if code == 0 else f"error {code}"

    async def settle(self, transactional_id: str) -> None:
        """Wait until the id's last transaction is complete.

        Kafka acknowledges a commit before its markers are written: for a moment readers still see the state
        before it, offsets too. A new producer of the same id is let in only when the markers are there.
        """
        async with self.producer(transactional_id=transactional_id):
            pass

    async def end(self, topic: str, isolation: str = "read_uncommitted") -> int:
        """End offset of partition 0 as a reader of this isolation sees it."""
        async with self.consumer(isolation_level=isolation) as consumer:
            ends = await consumer.end_offsets([self.partition(topic)])
        found: int = ends[self.partition(topic)]
        return found

    async def committed(self, group: str, partition: TopicPartition) -> int | None:
        """Committed offset of a group without members."""
        async with self.consumer(group_id=self.name(group)) as consumer:
            consumer.assign([partition])
            found: int | None = await consumer.committed(partition)
        return found

    async def read(
        self, topic: str, number: int = 0, isolation: str = "read_committed"
    ) -> list[ConsumerRecord[bytes, bytes]]:
        """All records of a partition up to the end that this isolation sees now."""
        partition = self.partition(topic, number)
        found: list[ConsumerRecord[bytes, bytes]] = []
        async with self.consumer(isolation_level=isolation) as consumer:
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found.extend(records)
        return found

    async def values(self, topic: str, isolation: str = "read_committed") -> str:
        """Values of partition 0, in order."""
        return " ".join((record.value or b"-").decode() for record in await self.read(topic, 0, isolation))


def membership(consumer: AIOKafkaConsumer) -> tuple[int, str]:
    """Generation and id of a member; aiokafka tells them to nobody."""
    coordinator: Any = consumer._coordinator
    return coordinator.generation, coordinator.member_id


def failed(error: BaseException) -> str:
    """Name of an error, as a transcript shows it."""
    return type(error).__name__


async def outcome(call: Awaitable[object]) -> str:
    """Return 'ok', or the name of the error of the client library."""
    try:
        await call
    except KafkaError as error:
        return failed(error)
    return "ok"


async def topics_are_created(c: Client) -> object:
    """Create what the steps need, the second time in vain."""
    # Kept for ever: a record whose own time is in 1970 is past any retention, and may go at any moment.
    return [
        await c.create("plain", 3, retention_ms="-1"),
        await c.create("plain", 3),
        await c.create("append", message_timestamp_type="LogAppendTime"),
        await c.create("compact", cleanup_policy="compact"),
        await c.create("both", cleanup_policy="compact,delete", retention_ms="3600000"),
        await c.create("small", max_message_bytes="1000"),
        await c.create("wrong", cleanup_policy="shred"),
    ]


async def topics_are_described(c: Client) -> object:
    """Partitions of a topic, and the code for one that does not exist and is not made by asking."""
    async with c.admin() as admin:
        known, unknown = await admin.describe_topics([c.name("plain"), c.name("absent")])
        return len(known["partitions"]), unknown["error_code"], c.name("absent") in await admin.list_topics()


async def headers_survive(c: Client) -> object:
    """Order and repetition of headers, key, value and the producer's time are kept."""
    headers = [("a", b"1"), ("b", b""), ("a", b"2")]
    async with c.producer() as producer:
        sent = await producer.send_and_wait(
            c.name("plain"), b"v", b"k", partition=0, timestamp_ms=DAY_MS, headers=headers
        )
    (record,) = await c.read("plain")
    return sent.offset, record.key, record.value, record.timestamp, record.timestamp_type, record.headers


async def null_is_not_empty(c: Client) -> object:
    """A null key, a tombstone and an empty value stay three things."""
    async with c.producer() as producer:
        for key, value in ((None, b"v"), (b"k", None), (b"k", b"")):
            await producer.send_and_wait(c.name("plain"), value, key, partition=2)
    return [(record.key, record.value) for record in await c.read("plain", 2)]


async def compacted_topics_want_keys(c: Client) -> object:
    """A record without a key is refused by a compacted topic; a tombstone is taken."""
    async with c.producer() as producer:
        keyless = await outcome(producer.send_and_wait(c.name("compact"), b"v", partition=0))
    async with c.producer() as producer:
        tombstone = await outcome(producer.send_and_wait(c.name("compact"), None, b"k", partition=0))
    return keyless, tombstone


async def append_time_is_the_brokers(c: Client) -> object:
    """With LogAppendTime the producer's time is replaced, in the record and in the acknowledgement."""
    async with c.producer() as producer:
        sent = await producer.send_and_wait(c.name("append"), b"v", partition=0, timestamp_ms=1)
    (record,) = await c.read("append")
    return record.timestamp_type, record.timestamp > DAY_MS, sent.timestamp_type, sent.timestamp > DAY_MS


async def batches_take_offsets_in_order(c: Client) -> object:
    """Ten records in one batch after one: base offset, record offsets and end offset."""
    async with c.producer(linger_ms=50) as producer:
        sends = [await producer.send(c.name("plain"), b"%d" % n, partition=1) for n in range(10)]
        sent = await asyncio.gather(*sends)
    read = await c.read("plain", 1)
    async with c.consumer() as consumer:
        partitions = [c.partition("plain", n) for n in range(3)]
        first = await consumer.beginning_offsets(partitions)
        last = await consumer.end_offsets(partitions)
    return [s.offset for s in sent], [r.offset for r in read], list(first.values()), list(last.values())


async def prepared_batches_are_one(c: Client) -> object:
    """A batch built by hand is written whole, and its records get consecutive offsets."""
    await c.create("batch")
    async with c.producer() as producer:
        batch = producer.create_batch()
        for n in range(3):
            batch.append(key=b"k", value=b"%d" % n, timestamp=DAY_MS)
        sent = await (await producer.send_batch(batch, c.name("batch"), partition=0))
        after = await producer.send_and_wait(c.name("batch"), b"after", partition=0)
    return sent.offset, after.offset, await c.values("batch")


async def times_find_offsets(c: Client) -> object:
    """Offset of the first record at or after a time; none after the last."""
    await c.create("times", retention_ms="-1")
    async with c.producer() as producer:
        for n in range(3):
            await producer.send_and_wait(c.name("times"), b"%d" % n, partition=0, timestamp_ms=(n + 1) * 1000)
    found = []
    async with c.consumer() as consumer:
        for at in (0, 1001, 2000, 3001):
            answer = (await consumer.offsets_for_times({c.partition("times"): at}))[c.partition("times")]
            found.append(answer and answer.offset)
    return found


async def codecs_round_trip(c: Client) -> object:
    """Compressed batches come back as they were."""
    await c.create("codecs")
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        async with c.producer(compression_type=codec) as producer:
            await producer.send_and_wait(c.name("codecs"), codec.encode() * 50, partition=0)
    return [len(record.value or b"") for record in await c.read("codecs")]


async def large_records_are_refused(c: Client) -> object:
    """A record above the topic's limit is refused, and the next one is taken."""
    async with c.producer() as producer:
        large = await outcome(producer.send_and_wait(c.name("small"), b"x" * 2000, partition=0))
        small = await outcome(producer.send_and_wait(c.name("small"), b"x", partition=0))
    return large, small, len(await c.read("small"))


async def positions_out_of_range_are_errors(c: Client) -> object:
    """Without a reset policy a position that does not exist is an error and never a silent jump."""
    async with c.consumer(auto_offset_reset="none") as consumer:
        consumer.assign([c.partition("times")])
        consumer.seek(c.partition("times"), 100)
        return await outcome(consumer.getone())


async def transactions_commit(c: Client) -> object:
    """A committed transaction is visible to both kinds of readers; its marker takes an offset."""
    await c.create("tx", 2)
    async with c.producer(transactional_id="t1") as producer, producer.transaction():
        for value in (b"a", b"b"):
            await producer.send_and_wait(c.name("tx"), value, partition=0)
    await c.settle("t1")
    return await c.values("tx"), await c.end("tx")


async def transactions_abort(c: Client) -> object:
    """An aborted transaction is hidden from read_committed alone."""
    async with c.producer(transactional_id="t1") as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(c.name("tx"), b"x", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(c.name("tx"), b"c", partition=0)
    await c.settle("t1")
    return await c.values("tx"), await c.values("tx", "read_uncommitted"), await c.end("tx")


async def open_transactions_hold_readers_back(c: Client) -> object:
    """The last stable offset stays before an open transaction, also for later records of others."""
    async with c.producer(transactional_id="t1") as producer, c.producer() as other:
        await producer.begin_transaction()
        await producer.send_and_wait(c.name("tx"), b"d", partition=0)
        await other.send_and_wait(c.name("tx"), b"e", partition=0)
        held = await c.values("tx"), await c.end("tx", "read_committed"), await c.end("tx")
        await producer.commit_transaction()
    await c.settle("t1")
    return *held, await c.values("tx"), await c.end("tx", "read_committed")


async def offsets_ride_in_transactions(c: Client) -> object:
    """Source offsets become visible by commit and vanish by abort."""
    source = c.partition("plain", 1)
    seen = [await c.committed("g-tx", source)]
    async with c.producer(transactional_id="t1") as producer, producer.transaction():
        await producer.send_and_wait(c.name("tx"), b"f", partition=0)
        await producer.send_offsets_to_transaction({source: 4}, c.name("g-tx"))
    await c.settle("t1")
    seen.append(await c.committed("g-tx", source))
    async with c.producer(transactional_id="t1") as producer:
        await producer.begin_transaction()
        await producer.send_offsets_to_transaction({source: 9}, c.name("g-tx"))
        await producer.abort_transaction()
    await c.settle("t1")
    seen.append(await c.committed("g-tx", source))
    return seen


async def live_groups_take_offsets_by_transaction(c: Client) -> object:
    """While a group has a member, a plain commit from outside is refused and a transactional one is taken."""
    group, source = c.name("g-live"), c.partition("plain", 1)
    async with c.consumer("plain", group_id=group), c.consumer(group_id=group) as outsider:
        outsider.assign([source])
        plain = await outcome(outsider.commit({source: 1}))
        async with c.producer(transactional_id="t1") as producer, producer.transaction():
            await producer.send_offsets_to_transaction({source: 3}, group)
        await c.settle("t1")
        return plain, await outsider.committed(source)


async def zombies_are_fenced(c: Client) -> object:
    """A second producer of the same id aborts the first one's transaction and locks it out."""
    async with c.producer(transactional_id="t2") as first:
        await first.begin_transaction()
        await first.send_and_wait(c.name("tx"), b"zombie", partition=1)
        async with c.producer(transactional_id="t2") as second:
            late = await outcome(first.send_and_wait(c.name("tx"), b"late", partition=1))
            commit = await outcome(first.commit_transaction())
            async with second.transaction():
                await second.send_and_wait(c.name("tx"), b"alive", partition=1)
    await c.settle("t2")
    return late, commit, [record.value for record in await c.read("tx", 1)]


async def zombie_offsets_are_fenced(c: Client) -> object:
    """A fenced producer cannot move the group's offsets."""
    group, source = c.name("g-zombie"), c.partition("plain", 1)
    async with c.producer(transactional_id="t3") as first, c.producer(transactional_id="t3") as second:
        await first.begin_transaction()
        moved = await outcome(first.send_offsets_to_transaction({source: 7}, group))
        async with second.transaction():
            await second.send_offsets_to_transaction({source: 2}, group)
    await c.settle("t3")
    return moved, await c.committed("g-zombie", source)


async def forgotten_transactions_end(c: Client) -> object:
    """A transaction older than its timeout is aborted by the broker, and its producer is locked out."""
    await c.create("forgotten")
    async with c.producer(transactional_id="t4", transaction_timeout_ms=1000) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(c.name("forgotten"), b"x", partition=0)
        async with asyncio.timeout(8):  # its own second, and another one until the broker looks
            while await c.end("forgotten", "read_committed") < 2:  # the record and the abort marker
                await asyncio.sleep(0.1)
        return "aborted", await outcome(producer.commit_transaction()), await c.values("forgotten")


async def commits_keep_metadata(c: Client) -> object:
    """Offsets and their note are kept by group; an unknown group has none."""
    partition = c.partition("plain", 1)
    async with c.consumer(group_id=c.name("g1")) as consumer:
        consumer.assign([partition])
        await consumer.commit({partition: OffsetAndMetadata(5, "note")})
    async with c.consumer(group_id=c.name("g1")) as again, c.consumer(group_id=c.name("g2")) as other:
        again.assign([partition])
        other.assign([partition])
        position = await again.position(partition)
        return position, await again.committed(partition), await other.committed(partition)


async def groups_share_partitions(c: Client) -> object:
    """A second member takes over some partitions, and all of them again go to the one that stays."""
    group = {"group_id": c.name("g3"), "heartbeat_interval_ms": 200}
    async with c.consumer("plain", **group) as first:
        alone = len(first.assignment())
        async with c.consumer("plain", **group) as second:
            while not first.assignment() or len(first.assignment()) + len(second.assignment()) != 3:
                await asyncio.gather(first.getmany(timeout_ms=50), second.getmany(timeout_ms=50))
            shared = sorted((len(first.assignment()), len(second.assignment())))
        while len(first.assignment()) < 3:
            await first.getmany(timeout_ms=50)
        return alone, shared, len(first.assignment())


async def topics_grow_and_go(c: Client) -> object:
    """Partitions can be added; a deleted topic is gone from the list."""
    topic = c.name("times")
    async with c.admin() as admin:
        await admin.create_partitions({topic: NewPartitions(total_count=2)})
        while len((await admin.describe_topics([topic]))[0]["partitions"]) != 2:
            await asyncio.sleep(0.05)
        await admin.delete_topics([topic])
        while topic in await admin.list_topics():
            await asyncio.sleep(0.05)
    return "grown", "gone"


async def empty_partitions_have_two_equal_ends(c: Client) -> object:
    """A partition that nobody wrote to begins and ends at 0, and a position in it is found."""
    await c.create("empty", 2)
    partition = c.partition("empty", 1)
    async with c.consumer() as consumer:
        consumer.assign([partition])
        first = await consumer.beginning_offsets([partition])
        last = await consumer.end_offsets([partition])
        return first[partition], last[partition], await consumer.position(partition)


async def transactions_span_partitions(c: Client) -> object:
    """Both partitions of a transaction get records and a marker; before the end none is visible."""
    await c.create("span", 2)
    async with c.producer(transactional_id="t5") as producer:
        await producer.begin_transaction()
        for number in range(2):
            await producer.send_and_wait(c.name("span"), b"%d" % number, partition=number)
        before = [len(await c.read("span", number)) for number in range(2)]
        await producer.commit_transaction()
    await c.settle("t5")
    async with c.consumer() as consumer:
        ends = await consumer.end_offsets([c.partition("span", number) for number in range(2)])
    return before, [len(await c.read("span", number)) for number in range(2)], list(ends.values())


async def transactions_hold_back_their_own_partitions_only(c: Client) -> object:
    """The other partition of the topic is read on while a transaction is open on one."""
    async with c.producer(transactional_id="t5") as producer, c.producer() as other:
        await producer.begin_transaction()
        await producer.send_and_wait(c.name("span"), b"open", partition=0)
        await other.send_and_wait(c.name("span"), b"free", partition=1)
        seen = [[record.value for record in await c.read("span", number)] for number in range(2)]
        await producer.abort_transaction()
    await c.settle("t5")
    return seen


async def positions_pass_markers(c: Client) -> object:
    """Whoever has read the records of a committed and an aborted transaction stands behind the markers."""
    partition = c.partition("span", 0)
    async with c.consumer(isolation_level="read_committed") as consumer:
        consumer.assign([partition])
        values = []
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            fetched = await consumer.getmany(partition, timeout_ms=100)
            values += [record.value for record in fetched.get(partition, [])]
        return values, await consumer.position(partition), end


async def seeks_forget_what_was_fetched(c: Client) -> object:
    """After a seek the next record is the one sought, not one fetched ahead."""
    partition = c.partition("plain", 1)
    async with c.consumer() as consumer:
        consumer.assign([partition])
        first = (await consumer.getmany(partition, timeout_ms=1000, max_records=2))[partition]
        consumer.seek(partition, 7)
        then = (await consumer.getmany(partition, timeout_ms=1000, max_records=2))[partition]
        return [record.offset for record in first], [record.offset for record in then]


async def refused_records_do_not_fail_a_commit(c: Client) -> object:
    """A transaction commits although one of its records was refused: whoever sends has to look."""
    async with c.producer(transactional_id="t6") as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(c.name("tx"), b"g", partition=1)
        large = await outcome(producer.send_and_wait(c.name("small"), b"x" * 2000, partition=0))
        commit = await outcome(producer.commit_transaction())
    await c.settle("t6")
    return large, commit, [record.value for record in await c.read("tx", 1)]


async def pending_offsets_do_not_show(c: Client) -> object:
    """Offsets of an open transaction are neither seen nor waited for by the requests that aiokafka sends."""
    source = c.partition("plain", 1)
    async with c.producer(transactional_id="t7") as producer:
        await producer.begin_transaction()
        await producer.send_offsets_to_transaction({source: 6}, c.name("g-pending"))
        pending = await c.committed("g-pending", source)
        await producer.commit_transaction()
    await c.settle("t7")
    return pending, await c.committed("g-pending", source)


async def fencing_forgets_pending_offsets(c: Client) -> object:
    """The offsets of a transaction that a successor ended never count."""
    source = c.partition("plain", 1)
    async with c.producer(transactional_id="t8") as first:
        await first.begin_transaction()
        await first.send_offsets_to_transaction({source: 8}, c.name("g-fenced"))
        async with c.producer(transactional_id="t8"):
            seen = await c.committed("g-fenced", source)
        return seen, await outcome(first.commit_transaction()), await c.committed("g-fenced", source)


async def timed_out_ids_go_on_with_a_new_producer(c: Client) -> object:
    """After a timeout the id's next producer works as if nothing had been."""
    async with c.producer(transactional_id="t4") as producer, producer.transaction():
        await producer.send_and_wait(c.name("forgotten"), b"y", partition=0)
    await c.settle("t4")
    return await c.values("forgotten"), await c.values("forgotten", "read_uncommitted")


async def deleted_records_move_the_start(c: Client) -> object:
    """DeleteRecords moves the first offset; a reader before it hears so; past the end it is refused."""
    await c.create("trimmed")
    partition = c.partition("trimmed")
    async with c.producer() as producer:
        for n in range(5):
            await producer.send_and_wait(c.name("trimmed"), b"%d" % n, partition=0)
    async with c.admin() as admin:
        await admin.delete_records({partition: RecordsToDelete(before_offset=3)})
        past = await outcome(admin.delete_records({partition: RecordsToDelete(before_offset=9)}))
    async with c.consumer(auto_offset_reset="none") as consumer:
        consumer.assign([partition])
        first = (await consumer.beginning_offsets([partition]))[partition]
        consumer.seek(partition, 1)
        before = await outcome(consumer.getone())
    return first, before, past, await c.values("trimmed")


async def generations_count_rebalances(c: Client) -> object:
    """A member alone, a second one, and the first alone again: three generations, revoked before assigned."""
    calls: list[tuple[str, int]] = []

    class Listener(ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
            calls.append(("revoked", len(revoked)))

        def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
            calls.append(("assigned", len(assigned)))

    group = {"group_id": c.name("g4"), "heartbeat_interval_ms": 200}
    assignors = {"partition_assignment_strategy": (RangePartitionAssignor,)}
    generations = []
    async with c.consumer(**group, **assignors) as first:
        first.subscribe([c.name("plain")], listener=Listener())
        while len(first.assignment()) < 3:
            await first.getmany(timeout_ms=50)
        generations.append(membership(first)[0])
        async with c.consumer("plain", **group, **assignors) as second:
            while len(first.assignment()) + len(second.assignment()) != 3 or not second.assignment():
                await asyncio.gather(first.getmany(timeout_ms=50), second.getmany(timeout_ms=50))
            generations.append(membership(first)[0])
        while len(first.assignment()) < 3:
            await first.getmany(timeout_ms=50)
        generations.append(membership(first)[0])
    return generations, [name for name, _ in calls], calls[0], calls[1], calls[-1]


async def stale_generations_cannot_commit(c: Client) -> object:
    """A commit that names an older generation, or a member that is gone, is refused."""
    source = c.partition("plain", 0)
    # The member that was spoiled cannot say goodbye, so its session has to run out before the next one joins.
    group: dict[str, Any] = {
        "group_id": c.name("g5"),
        "heartbeat_interval_ms": 200,
        "session_timeout_ms": 1500,
    }
    refused = []
    for field, wrong in (("generation", 0), ("member_id", "nobody")):
        async with c.consumer("plain", **group) as consumer:
            while source not in consumer.assignment():
                await consumer.getmany(timeout_ms=50)
            ok = await outcome(consumer.commit({source: 1}))
            setattr(consumer._coordinator, field, wrong)
            refused.append((ok, await outcome(consumer.commit({source: 0}))))
    return refused, await c.committed("g5", source)


async def static_members_come_back_to_their_place(c: Client) -> object:
    """A static member that restarts within its session gets its partitions in the same generation."""
    options: dict[str, Any] = {
        "group_id": c.name("g6"),
        "heartbeat_interval_ms": 200,
        "session_timeout_ms": 6000,
        "group_instance_id": "static",
    }
    generations, members = [], []
    for _ in range(2):
        async with c.consumer("plain", **options) as consumer:
            while len(consumer.assignment()) < 3:
                await consumer.getmany(timeout_ms=50)
            generation, member_id = membership(consumer)
            generations.append(generation)
            members.append(member_id)
    return generations, members[0] == members[1]


async def silent_members_are_given_up(c: Client) -> object:
    """A static member that stops says nothing; after its session the other one has all partitions."""
    group: dict[str, Any] = {
        "group_id": c.name("g7"),
        "heartbeat_interval_ms": 200,
        "session_timeout_ms": 1500,
    }
    async with c.consumer("plain", **group) as stays:
        async with c.consumer("plain", group_instance_id="silent", **group) as leaves:
            while not leaves.assignment() or len(stays.assignment()) + len(leaves.assignment()) != 3:
                await asyncio.gather(stays.getmany(timeout_ms=50), leaves.getmany(timeout_ms=50))
            shared = len(stays.assignment()) < 3
        async with asyncio.timeout(10):
            while len(stays.assignment()) < 3:
                await stays.getmany(timeout_ms=50)
    return shared, "given up"


async def fetched_ends_are_told(c: Client) -> object:
    """A fetch tells the last stable offset and the high watermark, even where it brings no records."""
    partition = c.partition("tx", 0)
    async with c.producer(transactional_id="t1") as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(c.name("tx"), b"h", partition=0)
        async with c.consumer(isolation_level="read_committed") as consumer:
            consumer.assign([partition])
            stable = (await consumer.end_offsets([partition]))[partition]
            consumer.seek(partition, stable)
            while consumer.last_stable_offset(partition) is None:
                await consumer.getmany(partition, timeout_ms=100)
            told = consumer.last_stable_offset(partition) == stable, consumer.highwater(partition) - stable
        await producer.abort_transaction()
    await c.settle("t1")
    return told


async def unsent_transactions_end_in_silence(c: Client) -> object:
    """A transaction without records and offsets leaves no trace, and sends outside of one are refused."""
    before = await c.end("tx")
    async with c.producer(transactional_id="t1") as producer:
        async with producer.transaction():
            pass
        try:
            await producer.send(c.name("tx"), b"i", partition=0)
            outside = "taken"
        except IllegalOperation as error:
            outside = failed(error)
    return await c.end("tx") - before, outside


STEPS: Sequence[Step] = (
    topics_are_created,
    topics_are_described,
    headers_survive,
    null_is_not_empty,
    compacted_topics_want_keys,
    append_time_is_the_brokers,
    batches_take_offsets_in_order,
    prepared_batches_are_one,
    times_find_offsets,
    codecs_round_trip,
    large_records_are_refused,
    positions_out_of_range_are_errors,
    transactions_commit,
    transactions_abort,
    open_transactions_hold_readers_back,
    offsets_ride_in_transactions,
    live_groups_take_offsets_by_transaction,
    zombies_are_fenced,
    zombie_offsets_are_fenced,
    forgotten_transactions_end,
    commits_keep_metadata,
    groups_share_partitions,
    empty_partitions_have_two_equal_ends,
    transactions_span_partitions,
    transactions_hold_back_their_own_partitions_only,
    positions_pass_markers,
    seeks_forget_what_was_fetched,
    refused_records_do_not_fail_a_commit,
    pending_offsets_do_not_show,
    fencing_forgets_pending_offsets,
    timed_out_ids_go_on_with_a_new_producer,
    deleted_records_move_the_start,
    generations_count_rebalances,
    stale_generations_cannot_commit,
    static_members_come_back_to_their_place,
    silent_members_are_given_up,
    fetched_ends_are_told,
    unsent_transactions_end_in_silence,
    topics_grow_and_go,
)


async def conversation(bootstrap: str, prefix: str) -> dict[str, str]:
    """Run every step and return its line by the step's name; a step that fails says so and stops no other."""
    client = Client(bootstrap, prefix)
    lines: dict[str, str] = {}
    for step in STEPS:
        name = getattr(step, "__name__", repr(step))
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                lines[name] = str(await step(client))
        except (KafkaError, TimeoutError) as error:
            lines[name] = f"failed: {failed(error)}"
    return lines
