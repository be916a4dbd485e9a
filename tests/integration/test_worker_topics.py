"""``topics plan`` and ``apply`` against a real broker: creates what is missing, touches nothing else."""

from __future__ import annotations

import pytest
from aiokafka.admin import NewTopic

from stream.runtime.broker import Broker
from stream.runtime.errors import BrokerUnreachableError, TopicMismatchError
from stream.runtime.topics import TOPICS, apply, open_admin, plan, require_partitions
from stream.sections import KafkaSettings
from tests.runtime.worker_process import free_port


def _kafka(broker: Broker, topic: str, partitions: int = 2) -> KafkaSettings:
    return KafkaSettings(bootstrap=broker.bootstrap, topic_prefix=f"{topic}.", partitions=partitions)


async def test_apply_creates_all_and_then_nothing(broker: Broker, topic: str) -> None:
    """Every declared topic is created with its settings; a second plan finds nothing to do."""
    kafka = _kafka(broker, topic)
    async with open_admin(kafka.bootstrap) as admin:
        created = await apply(admin, kafka)
        assert {kafka.topic_prefix + spec.name for spec in TOPICS} == {change.topic for change in created}
        assert {"create"} == {change.action for change in created}
        assert [] == await plan(admin, kafka)
        counts = await require_partitions(admin, kafka)
    assert 2 == counts[f"{topic}.events.v1"]


async def test_differences_are_reported_and_left_alone(broker: Broker, topic: str) -> None:
    """Other partition counts and settings are named with both values, and stay."""
    kafka = _kafka(broker, topic)
    async with open_admin(kafka.bootstrap) as admin:
        await admin.create_topics(
            [NewTopic(f"{topic}.events.v1", 3, 1, topic_configs={"cleanup.policy": "compact"})]
        )
        await apply(admin, kafka)
        changes = {change.action: change for change in await plan(admin, kafka)}
        assert {"partitions", "config"} == set(changes)
        assert "has 3 partitions, 2 wanted" in changes["partitions"].detail
        assert "wanted cleanup.policy=delete" in changes["config"].detail
        with pytest.raises(TopicMismatchError, match=r"has 3 partitions but .*recommendations\.v1 has 2"):
            await require_partitions(admin, kafka)


async def test_too_few_replicas_are_refused(broker: Broker, topic: str) -> None:
    """A worker whose settings ask for three replicas does not run on topics that have one."""
    kafka = _kafka(broker, topic)
    async with open_admin(kafka.bootstrap) as admin:
        await apply(admin, kafka)
        strict = kafka.model_copy(update={"replication": 3})
        changes = await plan(admin, strict)
        assert {"replicas"} == {change.action for change in changes} - {"config"}
        assert any("min.insync.replicas=2" in c.detail for c in changes if c.action == "config")
        with pytest.raises(TopicMismatchError, match=r"3 replicas are wanted.*events\.v1 has 1"):
            await require_partitions(admin, strict)


async def test_missing_topics_are_named_with_the_remedy(broker: Broker, topic: str) -> None:
    """A worker that finds no topics says which, and asking creates none."""
    kafka = _kafka(broker, topic)
    async with open_admin(kafka.bootstrap) as admin:
        with pytest.raises(TopicMismatchError, match=r"events\.v1.*nudge topics apply"):
            await require_partitions(admin, kafka)
        assert len(TOPICS) == len(await plan(admin, kafka))


async def test_no_broker_is_named_with_its_address() -> None:
    """Where nobody listens, the error says where that was and which setting names it."""
    port = free_port()
    with pytest.raises(BrokerUnreachableError, match=f"127.0.0.1:{port}.*NUDGE_KAFKA__BOOTSTRAP"):
        async with open_admin(f"127.0.0.1:{port}"):
            pytest.fail("connected to nobody")
