"""The Faust application: the worker's service tree. It carries no data and opens no connection of its own.

Faust's consumer, conductor and table manager stay off: without topics its conductor ends with a ``TypeError``
and its table manager sleeps for a second (docs/adr/0002). Safe defaults stand here for the day an
agent is added.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import faust
from faust.app.base import BootStrategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import mode

    from stream.settings import Settings

__all__ = ["build_app"]


class _ServicesOnly(BootStrategy):
    """Start sensors and our services, nothing that talks to Kafka."""

    enable_kafka = False
    enable_web = False

    def agents(self) -> Iterable[mode.Service]:
        return ()

    def tables(self) -> Iterable[mode.Service]:
        return ()


class _App(faust.App):
    BootStrategy = _ServicesOnly


def build_app(settings: Settings, services: Sequence[mode.Service]) -> faust.App:
    """Build the application with our services; ``await app.start()`` starts them in order."""
    app = _App(
        f"{settings.kafka.group}-control",
        broker=f"kafka://{settings.kafka.bootstrap.replace(',', ';kafka://')}",
        store="memory://",
        datadir=tempfile.gettempdir(),  # nothing is written there: no tables
        web_enabled=False,
        worker_redirect_stdouts=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
    )
    for service in services:
        app.service(service)  # type: ignore[arg-type]  # it takes instances as well as classes
    return app
