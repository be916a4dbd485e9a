"""Fixtures that more than one folder of tests needs: brokers, data sets, hypothesis' profile.

Nothing here imports our code before a test asks for it, so that a broken module fails its own tests only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import hypothesis
import pytest

if TYPE_CHECKING:
    from stream.runtime.broker import EmbeddedBroker, KafkaBroker

B = TypeVar("B", bound="EmbeddedBroker | KafkaBroker")

ROOT = Path(__file__).resolve().parents[1]
# The marker follows from what a test asks for or where it lives; nobody has to remember it.
MARKER_OF_FIXTURE = {
    "kafka_broker": "kafka",
    "embedded_broker": "integration",
    "data_dir": "data",
    "_line": "kafka",
}
MARKER_OF_FOLDER = {"integration": "integration", "chaos": "chaos"}

# The same examples in each run; NUDGE_HYPOTHESIS=search looks for new ones.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("NUDGE_HYPOTHESIS", "same"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder and by the fixtures it needs."""
    for item in items:
        for name in getattr(item, "fixturenames", ()):
            if name in MARKER_OF_FIXTURE:
                item.add_marker(MARKER_OF_FIXTURE[name])
        for folder in item.path.relative_to(ROOT).parts[1:-1]:
            if folder in MARKER_OF_FOLDER:
                item.add_marker(MARKER_OF_FOLDER[folder])


def missing(what: str) -> NoReturn:
    """Skip, or fail where nothing may be missing: continuous integration sets CI=true."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"required when CI=true: {what}", pytrace=False)
    pytest.skip(what)


@contextmanager
def running(broker: B) -> Iterator[B]:
    """Start a broker, or say what is missing; stop it at the end."""
    from stream.runtime.broker import BrokerUnavailable

    try:
        broker.start()
    except BrokerUnavailable as error:
        broker.close()
        missing(str(error))
    try:
        yield broker
    finally:
        broker.close()


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """Run the demo's broker once for all tests; use topic and group names of your own."""
    from stream.runtime.broker import EmbeddedBroker

    with running(EmbeddedBroker()) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[KafkaBroker]:
    """Run an Apache Kafka once for all tests; use topic and group names of your own."""
    from stream.runtime.broker import KafkaBroker

    with running(KafkaBroker()) as broker:
        yield broker


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Directory of the public data sets: ``NUDGE_DATA``, else ``../shared/data`` beside the repository."""
    folder = Path(os.environ.get("NUDGE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        missing(f"no data sets in {folder}; set NUDGE_DATA to their directory")
    return folder
