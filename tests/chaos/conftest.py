"""The broker of all fault tests, and the lines to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from stream.runtime.broker import KafkaBroker, free_ports
from tests.chaos.proxy import Proxy
from tests.chaos.report import SEED
from tests.conftest import running


@dataclass(frozen=True, slots=True)
class Line:
    """A broker with a second address that leads through a proxy."""

    broker: KafkaBroker
    proxy: Proxy
    bootstrap: str


@pytest.fixture(scope="package")
def _line() -> Iterator[Line]:
    """An Apache Kafka that tells those who come through the proxy to go on through the proxy."""
    clients, controller, behind, front = free_ports(4)
    address = "PLAINTEXT://127.0.0.1:{},PROXIED://127.0.0.1:{}".format
    overrides = {
        "listeners": f"{address(clients, behind)},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": address(clients, front),
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    with (
        running(KafkaBroker(overrides=overrides, ports=(clients, controller))) as broker,
        Proxy(front, behind, SEED) as proxy,
    ):
        yield Line(broker, proxy, f"127.0.0.1:{front}")


@pytest.fixture(scope="package")
def kafka_broker(_line: Line) -> KafkaBroker:
    """The same broker without the proxy; use topic and group names of your own."""
    return _line.broker


@pytest.fixture
def line(_line: Line) -> Iterator[Line]:
    """The broker behind a proxy, which passes all on again after the test."""
    yield _line
    _line.proxy.heal()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Name of a test's topics and group."""
    return re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")
