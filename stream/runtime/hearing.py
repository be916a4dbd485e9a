"""What the event loop is told of errors that nobody awaits."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import MessageBatch

__all__ = ["hear", "is_of_a_failed_producer"]

logger = structlog.get_logger(__name__)


def hear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody has heard of, but for waiters inside aiokafka's producer.

    When its sender fails it tells everybody who might wait: for a batch, its turn, the transaction. Nobody
    can reach those futures; whoever sent has heard it where the plane awaits its sends, or timed out before.
    """
    if is_of_a_failed_producer(context):
        logger.debug("waiter_failed", error=repr(context["exception"]))
        return
    loop.default_exception_handler(context)


def is_of_a_failed_producer(context: dict[str, Any]) -> bool:
    """Whether a report to the loop is one that aiokafka's producer makes when its sender fails.

    It forgets all batches at once, and then each batch's own callback does not find itself: a ``KeyError``.
    """
    error = context.get("exception")
    if isinstance(error, KafkaError):
        return not isinstance(context.get("future"), asyncio.Task)
    return isinstance(error, KeyError) and bool(error.args) and isinstance(error.args[0], MessageBatch)
