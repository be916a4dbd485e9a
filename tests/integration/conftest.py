"""Fixtures of the tests that talk to a broker over real sockets."""

from __future__ import annotations

import itertools

import pytest

from stream.runtime.broker import Broker

_COUNT = itertools.count(1)


@pytest.fixture(params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each of the two brokers in turn, shared by the session."""
    found: Broker = request.getfixturevalue(f"{request.param}_broker")
    return found


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """Name for a topic that no other test uses; the test creates it."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return f"{name}-{next(_COUNT)}"
