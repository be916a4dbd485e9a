"""More canaries, of what Faust and aiokafka do without a broker; see `test_upstream.py` for what they are."""

from __future__ import annotations

import asyncio
import inspect
import pkgutil
import ssl
import time
from types import SimpleNamespace
from typing import Any

import faust
import mode
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import ScramAuthenticator
from aiokafka.coordinator import assignors
from aiokafka.errors import NotLeaderForPartitionError
from aiokafka.helpers import create_ssl_context
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol import transaction
from faust.assignor.client_assignment import ClientAssignment
from faust.assignor.partition_assignor import PartitionAssignor
from faust.stores.memory import Store
from faust.stores.rocksdb import RocksDBOptions
from faust.transport.consumer import Consumer
from faust.transport.drivers.aiokafka import Producer
from faust.types.tuples import TP, FutureMessage

SOURCE = TP("events", 0)


@pytest.fixture
async def app() -> Any:
    """An application that is never started."""
    return faust.App("canary", autodiscover=False)


@pytest.mark.parametrize(
    ("committed", "acked", "commits"),
    [(10, [11, 12, 13, 14, 15], 16), (None, [1, 2, 3, 4, 5], 6)],
)
def test_b4_a_commit_passes_a_record_that_is_not_done(
    committed: int | None, acked: list[int], commits: int
) -> None:
    """The next record, 10 or 0, is still in hand. So the plane counts offsets itself, one batch at a time."""
    consumer: Any = SimpleNamespace(  # a whole one brings a thread
        _committed_offset={SOURCE: committed},
        _acked={SOURCE: acked},
        _acked_index={SOURCE: set(acked)},
        _gap={SOURCE: None},
    )
    assert commits == Consumer._new_offset(consumer, SOURCE)


async def test_b7_all_applications_of_a_process_share_their_transactions(app: Any) -> None:
    """So the plane opens and closes transactional producers itself."""
    one, other = (app.transport.create_producer() for _ in range(2))
    assert isinstance(one, Producer)
    assert one._transaction_producers is other._transaction_producers


async def test_b8_a_failed_send_is_a_line_on_the_log(app: Any) -> None:
    """Whoever sent and went on hears nothing. So the plane awaits every send before it commits."""

    async def fails(*_arguments: object, **_options: object) -> asyncio.Future[object]:
        refused = asyncio.get_running_loop().create_future()
        refused.set_exception(NotLeaderForPartitionError())
        return refused

    async def producer() -> object:
        return SimpleNamespace(send=fails)

    topic = app.topic("out", value_type=bytes)
    topic._get_producer = producer
    message = FutureMessage(topic.as_future_message(value=b"v").message)
    await topic.publish_message(message)
    await asyncio.sleep(0)
    assert isinstance(message.exception(), NotLeaderForPartitionError)  # known to this future alone


async def test_b11_a_zero_after_a_tombstone_is_lost(app: Any) -> None:
    """So user state has a changelog of its own, in which an absent value is what deletes and nothing else."""
    store: Store[str, int] = Store("memory://", app, app.Table("counts"))

    def change(value: int | None) -> Any:
        return SimpleNamespace(key="u1", value=value, message=SimpleNamespace(value=value, partition=0))

    store.apply_changelog_batch(
        [change(7), change(None), change(0)], to_key=str, to_value=lambda value: value
    )
    assert "u1" not in store.data


async def _itself(service: mode.Service, _index: int) -> mode.Service:
    return service


async def test_b10_a_hundred_failures_a_second_end_an_application(app: Any) -> None:
    """So no poison record reaches an agent."""
    agent = app.agent(app.topic("events"))(lambda stream: stream)
    agent._replace_actor = _itself
    supervisor = agent._new_supervisor()
    failing = mode.Service()
    supervisor.add(failing)
    started = time.monotonic()
    with pytest.raises(SystemExit):
        await supervisor.restart_services([failing] * 1000)
    assert time.monotonic() - started < 10.0  # at that rate it would have been allowed a thousand


async def test_b13_a_store_takes_gigabytes_unless_told_otherwise() -> None:
    """Of each partition. So user state stays in memory, and its cache on disk is our own."""
    assert (2 << 30, 500 << 20) == (
        RocksDBOptions.block_cache_size,
        RocksDBOptions.block_cache_compressed_size,
    )


async def test_b14_workers_of_one_address_hide_each_other(app: Any) -> None:
    """What one of them owns is not known to the group. So the plane uses Kafka's assignor."""
    assignor = PartitionAssignor(app)
    members: Any = {name: SimpleNamespace(url="http://localhost:6066") for name in ("w0", "w1")}
    assignor._update_member_urls(members)
    owned = {
        name: ClientAssignment(actives={"events": [n]}, standbys={}) for n, name in enumerate(("w0", "w1"))
    }
    distribution = assignor._get_external_topic_distribution(owned)
    assert {"http://localhost:6066": {"events": [1]}} == distribution


async def test_b17_b18_what_an_application_is_unless_told_otherwise(app: Any) -> None:
    """State served to everybody, one replica, commits each 2.8 s: so the plane uses none of it."""
    conf = app.conf
    assert ("0.0.0.0", 6066, True, True) == (  # noqa: S104  it is what must not be
        conf.web_bind,
        conf.web_port,
        conf.web_enabled,
        conf.web_tables_enabled,
    )
    assert (1, 8, 2.8) == (
        conf.topic_replication_factor,
        conf.topic_partitions,
        conf.broker_commit_interval,
    )


async def test_c2_a_batch_that_expires_without_a_leader_has_taken_its_sequence_numbers() -> None:
    """The next batch would leave a gap. So after a failed send the plane throws its producer away."""
    tp = TopicPartition("out", 0)
    transactions = TransactionManager(None, 1000)
    transactions.set_pid_and_epoch(1, 0)
    queue = MessageAccumulator(ClusterMetadata(), 1000, 0, -1.0, txn_manager=transactions)
    sent = await queue.add_message(tp, b"k", b"v", timeout=1.0)
    queue.drain_by_nodes(ignore_nodes=[])
    with pytest.raises(NotLeaderForPartitionError):
        await sent
    assert 1 == transactions.sequence_number(tp)


@pytest.mark.parametrize(
    "request_of",
    ["InitProducerId", "AddPartitionsToTxn", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn"],
)
def test_c3_transactions_speak_their_first_version_only(request_of: str) -> None:
    """No fencing by the group (KIP-447) nor by each transaction (KIP-890): so each partition has an id."""
    known = [name for name in dir(transaction) if name.startswith(f"{request_of}Request_v")]
    assert [f"{request_of}Request_v0"] == known


def test_c7_rebalances_stop_everybody() -> None:
    """No cooperative assignor, no consumer protocol of KIP-848: so opening a partition has to be quick."""
    found = {module.name for module in pkgutil.iter_modules(assignors.__path__)}
    assert {"abstract", "range", "roundrobin", "sticky"} == found
    assert "group_protocol" not in inspect.signature(AIOKafkaConsumer).parameters


def test_c12_names_of_scram_users_are_quoted() -> None:
    """A comma or an equals sign in a name breaks nothing (RFC 5802, 5.1): mended in 0.12."""
    authenticator = ScramAuthenticator(
        loop=None, sasl_plain_username="a,b=c", sasl_plain_password="p", sasl_mechanism="SCRAM-SHA-512"
    )
    assert authenticator.first_message().startswith("n,,n=a=2Cb=3Dc,r=")


def test_c12_tls_looks_at_the_brokers_name() -> None:
    """A context that aiokafka makes checks it, unless somebody turns that off."""
    context = create_ssl_context()
    assert context.check_hostname
    assert ssl.CERT_REQUIRED == context.verify_mode


def test_c8_a_consumer_skips_and_commits_unless_told_otherwise() -> None:
    """So each of these is set where the plane makes a consumer."""
    parameters = inspect.signature(AIOKafkaConsumer).parameters
    assert ("latest", True, 52_428_800) == tuple(
        parameters[name].default for name in ("auto_offset_reset", "enable_auto_commit", "fetch_max_bytes")
    )
