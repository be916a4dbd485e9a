"""What the event loop is told of errors that nobody awaits."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiokafka.errors import KafkaError

__all__ = ["hear"]

logger = structlog.get_logger(__name__)


def hear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody has heard of, but for waiters inside aiokafka's producer.

    When its sender fails it tells everybody who might wait: for a batch, its turn, the transaction. Nobody
    can reach those futures; whoever sent has heard it where the plane awaits its sends, or timed out before.
    """
    future = context.get("future")
    if isinstance(context.get("exception"), KafkaError) and not isinstance(future, asyncio.Task):
        logger.debug("waiter_failed", error=repr(context["exception"]))
        return
    loop.default_exception_handler(context)
