"""A Kafka broker in memory: takes the requests that aiokafka builds, gives the responses that it understands.

One node, no disk, no replication. The requests are objects, not bytes; the record batches in them are bytes.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.protocol.admin import (
    ApiVersionRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
)
from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)

from tests.simulation.batches import Header, encoded
from tests.simulation.groups import GroupCoordinator
from tests.simulation.log import Fetched, PartitionLog, RefusedError
from tests.simulation.transactions import TransactionCoordinator

HOST: Final = "simulated"
PORT: Final = 9092
EPOCH_S: Final = 1_800_000_000  # wall clock at virtual time 0

# Error codes of the protocol.
UNKNOWN_TOPIC: Final = 3
TOPIC_EXISTS: Final = 36
BAD_CONFIG: Final = 40

_LATEST, _EARLIEST = -1, -2
_POLICIES: Final = {"delete", "compact"}

# The one version of each request that is spoken, so that there is one shape of each.
VERSION_OF: Final[Mapping[type[Request[Any]], int]] = {
    ApiVersionRequest: 0,
    ProduceRequest: 7,
    FetchRequest: 4,
    OffsetRequest: 3,
    MetadataRequest: 5,
    OffsetCommitRequest: 3,
    OffsetFetchRequest: 3,
    FindCoordinatorRequest: 1,
    JoinGroupRequest: 5,
    HeartbeatRequest: 1,
    LeaveGroupRequest: 1,
    SyncGroupRequest: 3,
    CreateTopicsRequest: 3,
    DeleteTopicsRequest: 3,
    CreatePartitionsRequest: 1,
    DescribeConfigsRequest: 2,
    DeleteRecordsRequest: 2,
    InitProducerIdRequest: 0,
    AddPartitionsToTxnRequest: 0,
    AddOffsetsToTxnRequest: 0,
    EndTxnRequest: 0,
    TxnOffsetCommitRequest: 0,
}
VERSIONS: Final = {request.API_KEY: (version, version) for request, version in VERSION_OF.items()}

Answer = tuple[Any, ...] | asyncio.Future[Any]


class Broker:
    """Topics and coordinators, and a method for each request."""

    def __init__(self, seed: int = 0, noted: Callable[[str, str], None] = lambda _group, _what: None) -> None:
        self.topics: dict[str, list[PartitionLog]] = {}
        self.served: Counter[TopicPartition] = Counter()  # bytes that fetches got
        self.groups = GroupCoordinator(noted)
        self.transactions = TransactionCoordinator(
            random.Random(f"markers {seed}"), self.log_of, self.groups.end_transaction, self.now_ms
        )
        # Error codes that the next requests of a kind hear instead of an answer; see `faults`.
        self.refusals: dict[int, list[int]] = {}
        self._answers: dict[int, Callable[[Any], Answer]] = {
            ProduceRequest.API_KEY: self._produce,
            FetchRequest.API_KEY: self._fetch,
            OffsetRequest.API_KEY: self._list_offsets,
            MetadataRequest.API_KEY: self._metadata,
            OffsetCommitRequest.API_KEY: self._commit_offsets,
            OffsetFetchRequest.API_KEY: self._fetch_offsets,
            FindCoordinatorRequest.API_KEY: self._find_coordinator,
            JoinGroupRequest.API_KEY: self._join,
            HeartbeatRequest.API_KEY: self._heartbeat,
            LeaveGroupRequest.API_KEY: self._leave,
            SyncGroupRequest.API_KEY: self._sync,
            CreateTopicsRequest.API_KEY: self._create_topics,
            DeleteTopicsRequest.API_KEY: self._delete_topics,
            CreatePartitionsRequest.API_KEY: self._create_partitions,
            DescribeConfigsRequest.API_KEY: self._describe_configs,
            DeleteRecordsRequest.API_KEY: self._delete_records,
            InitProducerIdRequest.API_KEY: self._init_producer,
            AddPartitionsToTxnRequest.API_KEY: self._add_partitions,
            AddOffsetsToTxnRequest.API_KEY: self._add_offsets,
            EndTxnRequest.API_KEY: self._end_transaction,
            TxnOffsetCommitRequest.API_KEY: self._commit_offsets_in_transaction,
        }

    @staticmethod
    def now_ms() -> int:
        """Wall clock of the broker."""
        return round((EPOCH_S + asyncio.get_running_loop().time()) * 1000)

    def handle(self, request: Any) -> Answer:
        """Answer one request with the fields of its response, at once or later."""
        return self._answers[request.API_KEY](request)

    def log_of(self, partition: TopicPartition) -> PartitionLog | None:
        """Log of a partition, if there is one."""
        logs = self.topics.get(partition.topic, [])
        return logs[partition.partition] if partition.partition < len(logs) else None

    def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> int:
        """Create a topic; return an error code."""
        if topic in self.topics:
            return TOPIC_EXISTS
        if not set(config.get("cleanup.policy", "delete").split(",")) <= _POLICIES:
            return BAD_CONFIG
        self.topics[topic] = [PartitionLog(config) for _ in range(partitions)]
        return 0

    def write(
        self,
        partition: TopicPartition,
        records: Sequence[tuple[bytes | None, bytes | None, Sequence[Header]]],
    ) -> None:
        """Append records without a client."""
        log = self.log_of(partition)
        assert log is not None
        log.append(encoded(records, self.now_ms()), self.now_ms())

    def _refusal(self, request: Any) -> int:
        waiting = self.refusals.get(request.API_KEY)
        return waiting.pop(0) if waiting else 0

    def _produce(self, request: Any) -> Answer:
        refusal, now_ms = self._refusal(request), self.now_ms()
        topics = []
        for topic, partitions in request.topics:
            answers = []
            for number, data in partitions:
                code, offset, stamp = refusal, -1, -1
                partition = TopicPartition(topic, number)
                log = self.log_of(partition)
                if log is None:
                    code = UNKNOWN_TOPIC
                elif not code:
                    try:
                        offset, stamp = log.append(
                            data, now_ms, partial(self.transactions.has_open, partition)
                        )
                    except RefusedError as refused:
                        code = refused.code
                answers.append((number, code, offset, stamp, 0))
            topics.append((topic, answers))
        return topics, 0

    def _fetch(self, request: Any) -> Answer:
        wanted = [
            (TopicPartition(topic, number), offset, max_bytes)
            for topic, partitions in request.topics
            for number, offset, max_bytes in partitions
        ]
        wanted.sort()  # clients draw the order, and replays must not depend on theirs
        committed = bool(request.isolation_level)
        first = self._read(wanted, committed=committed)
        if first is not None or not request.max_wait_time:
            return self._fetched(wanted, committed=committed)
        return self._wait_for_records(wanted, request.max_wait_time / 1000, committed=committed)

    def _wait_for_records(
        self, wanted: list[tuple[TopicPartition, int, int]], limit_s: float, *, committed: bool
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()

        def finish() -> None:
            if not answer.done():
                timer.cancel()
                answer.set_result(self._fetched(wanted, committed=committed))

        def look() -> None:
            if answer.done():
                return
            if self._read(wanted, committed=committed) is not None:
                finish()
            else:
                watch()

        def watch() -> None:
            for partition, _, _ in wanted:
                log = self.log_of(partition)
                if log is not None and look not in log.watchers:
                    log.watchers.append(look)

        timer = loop.call_later(limit_s, finish)
        watch()
        return answer

    def _read(self, wanted: list[tuple[TopicPartition, int, int]], *, committed: bool) -> bool | None:
        """Whether there is anything to say now: records, or an error."""
        for partition, offset, _ in wanted:
            log = self.log_of(partition)
            if log is None or not log.start <= offset <= log.end:
                return True
            if offset < (log.last_stable if committed else log.end):
                return True
        return None

    def _fetched(self, wanted: list[tuple[TopicPartition, int, int]], *, committed: bool) -> Answer:
        by_topic: dict[str, list[Any]] = {}
        for partition, offset, max_bytes in wanted:
            log, code = self.log_of(partition), 0
            found = Fetched(b"", -1, -1, [])
            if log is None:
                code = UNKNOWN_TOPIC
            else:
                try:
                    found = log.read(offset, max_bytes, committed=committed)
                    self.served[partition] += len(found.data)
                except RefusedError as refused:
                    code = refused.code
            by_topic.setdefault(partition.topic, []).append(
                (
                    partition.partition,
                    code,
                    found.high_watermark,
                    found.last_stable,
                    found.aborted,
                    found.data,
                )
            )
        return 0, list(by_topic.items())

    def _list_offsets(self, request: Any) -> Answer:
        topics = []
        for topic, partitions in request.topics:
            answers = []
            for number, timestamp in partitions:
                log = self.log_of(TopicPartition(topic, number))
                if log is None:
                    answers.append((number, UNKNOWN_TOPIC, -1, -1))
                elif timestamp == _LATEST:
                    answers.append((number, 0, -1, log.last_stable if request.isolation_level else log.end))
                elif timestamp == _EARLIEST:
                    answers.append((number, 0, -1, log.start))
                else:
                    offset, at = log.offset_at(timestamp) or (-1, -1)
                    answers.append((number, 0, at, offset))
            topics.append((topic, answers))
        return 0, topics

    def _metadata(self, request: Any) -> Answer:
        names = sorted(self.topics) if request.topics is None else request.topics
        described = []
        for name in names:
            logs = self.topics.get(name)
            partitions: list[Any] = [(0, n, 0, [0], [0], []) for n in range(len(logs or ()))]
            described.append((0 if logs is not None else UNKNOWN_TOPIC, name, False, partitions))
        return 0, [(0, HOST, PORT, None)], "simulated", 0, described

    def _find_coordinator(self, request: Any) -> Answer:
        return 0, self._refusal(request), "", 0, HOST, PORT

    def _join(self, request: Any) -> Answer:
        refusal = self._refusal(request)
        if refusal:
            return 0, refusal, -1, "", "", request.member_id, []
        joined = self.groups.join(
            request.group,
            request.member_id,
            request.group_instance_id,
            request.session_timeout / 1000,
            request.rebalance_timeout / 1000,
            list(request.group_protocols),
        )
        return _later(joined, lambda fields: (0, *fields))

    def _sync(self, request: Any) -> Answer:
        refusal = self._refusal(request)
        if refusal:
            return 0, refusal, b""
        synced = self.groups.sync(
            request.group, request.member_id, request.generation_id, list(request.group_assignment)
        )
        return _later(synced, lambda fields: (0, *fields))

    def _heartbeat(self, request: Any) -> Answer:
        code = self._refusal(request)
        return 0, code or self.groups.heartbeat(request.group, request.member_id, request.generation_id)

    def _leave(self, request: Any) -> Answer:
        return 0, self.groups.leave(request.group, request.member_id)

    def _commit_offsets(self, request: Any) -> Answer:
        offsets = {
            TopicPartition(topic, number): (offset, metadata)
            for topic, partitions in request.topics
            for number, offset, metadata in partitions
        }
        code = self._refusal(request) or self.groups.commit(
            request.consumer_group, request.consumer_id, request.consumer_group_generation_id, offsets
        )
        return 0, [
            (topic, [(number, code) for number, _, _ in partitions]) for topic, partitions in request.topics
        ]

    def _fetch_offsets(self, request: Any) -> Answer:
        refusal = self._refusal(request)
        topics = []
        for topic, numbers in request.topics:
            found = [
                (number, self.groups.committed(request.consumer_group, TopicPartition(topic, number)))
                for number in numbers
            ]
            topics.append(
                (topic, [(number, offset, metadata, refusal) for number, (offset, metadata) in found])
            )
        return 0, topics, 0

    def _create_topics(self, request: Any) -> Answer:
        return 0, [
            (topic, self.create(topic, partitions, dict(configs)), None)
            for topic, partitions, _, _, configs in request.create_topic_requests
        ]

    def _delete_topics(self, request: Any) -> Answer:
        return 0, [
            (topic, 0 if self.topics.pop(topic, None) is not None else UNKNOWN_TOPIC)
            for topic in request.topics
        ]

    def _create_partitions(self, request: Any) -> Answer:
        answers = []
        for topic, (count, _) in request.topic_partitions:
            logs = self.topics.get(topic)
            if logs is not None:
                logs.extend(PartitionLog(logs[0].config) for _ in range(count - len(logs)))
            answers.append((topic, 0 if logs is not None else UNKNOWN_TOPIC, None))
        return 0, answers

    def _describe_configs(self, request: Any) -> Answer:
        answers: list[Any] = []
        for kind, name, _ in request.resources:
            logs = self.topics.get(name)
            entries = [] if logs is None else sorted(logs[0].config.items())
            answers.append(
                (
                    0 if logs is not None else UNKNOWN_TOPIC,
                    None,
                    kind,
                    name,
                    [(key, value, False, 1, False, []) for key, value in entries],
                )
            )
        return 0, answers

    def _delete_records(self, request: Any) -> Answer:
        topics: list[Any] = []
        for topic, partitions, _ in request.topics:
            answers: list[Any] = []
            for number, offset, *_tags in partitions:
                log, code, low = self.log_of(TopicPartition(topic, number)), UNKNOWN_TOPIC, -1
                if log is not None:
                    try:
                        code, low = 0, log.delete_before(offset)
                    except RefusedError as refused:
                        code = refused.code
                answers.append((number, low, code, {}))
            topics.append((topic, answers, {}))
        return 0, topics, {}

    def _init_producer(self, request: Any) -> Answer:
        code = self._refusal(request)
        if code:
            return 0, code, -1, -1
        return 0, *self.transactions.init(request.transactional_id, request.transaction_timeout_ms)

    def _add_partitions(self, request: Any) -> Answer:
        partitions = {
            TopicPartition(topic, number) for topic, numbers in request.topics for number in numbers
        }
        code = self._refusal(request) or self.transactions.add(
            request.transactional_id, request.producer_id, request.producer_epoch, partitions, set()
        )
        return 0, [(topic, [(number, code) for number in numbers]) for topic, numbers in request.topics]

    def _add_offsets(self, request: Any) -> Answer:
        return 0, self._refusal(request) or self.transactions.add(
            request.transactional_id, request.producer_id, request.producer_epoch, set(), {request.group_id}
        )

    def _end_transaction(self, request: Any) -> Answer:
        return 0, self._refusal(request) or self.transactions.end(
            request.transactional_id,
            request.producer_id,
            request.producer_epoch,
            commit=bool(request.transaction_result),
        )

    def _commit_offsets_in_transaction(self, request: Any) -> Answer:
        code = self._refusal(request) or self.transactions.has_group(
            request.producer_id, request.producer_epoch, request.group_id
        )
        if not code:
            offsets = {
                TopicPartition(topic, number): (offset, metadata)
                for topic, partitions in request.topics
                for number, offset, metadata in partitions
            }
            self.groups.commit_in_transaction(request.group_id, request.producer_id, offsets)
        return 0, [
            (topic, [(number, code) for number, _, _ in partitions]) for topic, partitions in request.topics
        ]


def _later(answer: Any, shape: Callable[[Any], tuple[Any, ...]]) -> Answer:
    """Shape an answer that is there, or one that comes."""
    if not isinstance(answer, asyncio.Future):
        return shape(answer)
    shaped = asyncio.get_running_loop().create_future()
    answer.add_done_callback(lambda done: resolve(shaped, shape(done.result())))
    return shaped


def resolve(future: asyncio.Future[Any], result: object) -> None:
    """Give a result to whoever still waits for it."""
    if not future.done():
        future.set_result(result)
