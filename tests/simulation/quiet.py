"""What a run must not do: talk, and collect garbage at moments that nobody draws."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the workers' logs off the terminal and the garbage collector out of the run."""
    before = structlog.get_config()
    structlog.configure(processors=[_drop])
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        structlog.configure(**before)


def _drop(_logger: object, _name: str, _event: object) -> str:
    raise structlog.DropEvent
