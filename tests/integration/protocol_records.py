"""Steps about topics, records and positions."""

from __future__ import annotations

import asyncio

from aiokafka.admin import NewPartitions, RecordsToDelete

from tests.integration.protocol_client import Client, outcome

DAY_MS = 86_400_000


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


async def seeks_forget_what_was_fetched(c: Client) -> object:
    """After a seek the next record is the one sought, not one fetched ahead."""
    partition = c.partition("plain", 1)
    async with c.consumer() as consumer:
        consumer.assign([partition])
        first = (await consumer.getmany(partition, timeout_ms=1000, max_records=2))[partition]
        consumer.seek(partition, 7)
        then = (await consumer.getmany(partition, timeout_ms=1000, max_records=2))[partition]
        return [record.offset for record in first], [record.offset for record in then]


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
