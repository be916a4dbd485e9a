"""Steps about transactions and fences."""

from __future__ import annotations

import asyncio

from aiokafka.errors import IllegalOperation

from tests.integration.protocol_client import Client, failed, outcome


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
