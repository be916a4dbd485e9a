"""What a run must not do: talk, and collect garbage at moments that nobody draws."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the workers' logs off the terminal and the garbage collector out of the run.

    The dead leave clients open and coroutines unawaited: their complaints are swept up with them.
    """
    before = structlog.get_config()
    structlog.configure(processors=[_drop])
    gc.disable()
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            mock.patch.object(AIOKafkaProducer, "__del__", _nothing),
            mock.patch.object(AIOKafkaConsumer, "__del__", _nothing),
        ):
            yield
            gc.collect()
    finally:
        gc.enable()
        structlog.configure(**before)


def _nothing(_self: object) -> None:
    """Say nothing."""


def _drop(_logger: object, _name: str, _event: object) -> str:
    raise structlog.DropEvent
