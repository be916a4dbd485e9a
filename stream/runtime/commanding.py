"""Write an operator's command to every partition of the commands topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stream.runtime.connecting import connection
from stream.runtime.errors import BrokerUnreachableError, TopicMismatchError
from stream.runtime.topics import TopicNames, open_admin, partition_counts

if TYPE_CHECKING:
    from schemas.commands import Command
    from stream.sections import KafkaSettings

__all__ = ["send_command"]


async def send_command(kafka: KafkaSettings, command: Command) -> int:
    """Send a command and wait until the broker has it for all partitions; return their number.

    Raises
    ------
    BrokerUnreachableError
        Nobody answers, or the broker refuses a record: some partitions may have the command, and to send
        it again does no harm.
    TopicMismatchError
        The commands topic does not exist.
    """
    topic = TopicNames(kafka.topic_prefix).commands
    value = msgspec.json.encode(command)
    key = (command.user_id or command.stops).encode()
    try:
        async with open_admin(kafka) as admin:
            n_partitions = (await partition_counts(admin)).get(topic, 0)
        if not n_partitions:
            raise TopicMismatchError(f"topic {topic} does not exist; run `nudge topics apply`")
        async with AIOKafkaProducer(**connection(kafka), acks="all", enable_idempotence=True) as producer:
            for partition in range(n_partitions):
                await producer.send_and_wait(topic, value, key=key, partition=partition)
    except (KafkaError, OSError) as error:
        raise BrokerUnreachableError(f"command to {topic} at {kafka.bootstrap}: {error!r}") from error
    return n_partitions
