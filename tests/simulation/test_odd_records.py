"""Records that no producer of ours writes, as brokers take them: they stop nothing, and nothing is lost."""

from __future__ import annotations

import asyncio
import gzip
import struct

import pytest
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from stream.runtime.records import CUT
from tests.runtime.shop_stream import shop_stream
from tests.simulation.batches import KeyedRecord, is_sound, sign
from tests.simulation.cluster import Cluster, settings_of
from tests.simulation.history import committed
from tests.simulation.stage import on_stage

GZIP = 1
LENGTH_AT, ATTRIBUTES_AT, RECORDS_AT = 8, 21, 61
NAME, ODD = "badname", b"bad\xff\xfeme"  # as many bytes
BAD = b"no json"


def batch(*records: tuple[bytes, bytes, list[tuple[str, bytes | None]]], packed: bool = False) -> bytes:
    """A batch as another client may write it; the header name ``NAME`` becomes one that is no UTF-8."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for n, (key, value, headers) in enumerate(records):
        builder.append(n, 1, key, value, headers)
    data = bytearray(bytes(builder.build()).replace(NAME.encode(), ODD))
    if packed:
        data[RECORDS_AT:] = gzip.compress(data[RECORDS_AT:])
        struct.pack_into(">i", data, LENGTH_AT, len(data) - LENGTH_AT - 4)
        struct.pack_into(">h", data, ATTRIBUTES_AT, GZIP)
    sign(data)
    assert is_sound(bytes(data))
    return bytes(data)


def dead_letters(*batches: bytes) -> list[KeyedRecord]:
    """What a worker rejects of batches between good events, of which it leaves none; it lives on."""

    async def work(cluster: Cluster) -> tuple[list[KeyedRecord], int, int]:
        [log] = cluster.broker.topics[cluster.names.events]
        lines = list(shop_stream(60, 1))
        cluster.produce_events(lines[:10])
        for one in batches:
            log.append(one, cluster.broker.now_ms())
        cluster.produce_events(lines[10:20])
        worker = cluster.add("w0")
        cluster.start(worker)
        await asyncio.sleep(30.0)
        offset, _ = cluster.broker.groups.group("sim").offsets[TopicPartition(cluster.names.events, 0)]
        [letters] = committed(cluster.broker, cluster.names.dead_letters)
        return letters, log.end - offset, worker.life

    letters, left, lives = on_stage(work, settings_of(1))
    assert (0, 1) == (left, lives)
    return letters


def test_header_names_may_be_any_bytes() -> None:
    """Such a record is judged by its value, and comes back with a name that says what could not be read."""
    fine: list[tuple[str, bytes | None]] = [("fine", b"1"), ("empty", None)]
    odd: list[tuple[str, bytes | None]] = [(NAME, b"2"), ("fine", None)]

    found = dead_letters(
        batch((b"k0", BAD, fine), (b"k1", BAD, odd), (b"k2", BAD, fine), (b"k3", BAD, odd)),
        batch((b"k4", BAD, odd), packed=True),
    )

    expected = [["fine", "empty"], ["bad\\xff\\xfeme", "fine"]]
    names = [
        (letter.key, [name for name, _ in letter.headers[:2]]) for letter in found if letter.value == BAD
    ]
    assert [(b"k%d" % n, expected[n % 2 or n == 4]) for n in range(5)] == names


@pytest.mark.parametrize("part", ["key", "value", "header"])
def test_a_record_that_unpacks_to_more_than_a_dead_letter_holds_is_cut(part: str) -> None:
    """Brokers limit what is compressed; what does not fit into the dead letter topic stays outside."""
    much = bytes(range(256)) * (60 << 12)
    key, value = (much if part == "key" else b"k"), (much if part == "value" else BAD)
    headers: list[tuple[str, bytes | None]] = [("trace", much if part == "header" else b"t")]

    small = batch((key, value, headers), packed=True)
    assert len(small) < 1 << 20
    [letter] = [one for one in dead_letters(small) if CUT in dict(one.headers)]

    whole = len(key) + len(value) + sum(len(name) + len(of or b"") for name, of in headers)
    assert b"%d" % whole == dict(letter.headers)[CUT]
    assert key.startswith(letter.key or b"-")
    assert value.startswith(letter.value or b"-")
    assert len(letter.value or b"") == min(len(value), 1_500_000)
    assert ("trace" in dict(letter.headers)) == (part != "header")
