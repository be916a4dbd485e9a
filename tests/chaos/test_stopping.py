"""Workers that are asked to end while they work: soon, with code 0, and nothing is done twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.runtime.broker import KafkaBroker
from tests.chaos.harness import Fleet, topics_for
from tests.chaos.report import report, size
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.worker_process import SETTINGS


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_sigterm_under_load_reprocesses_nothing(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str, guarantee: str
) -> None:
    """Each life ends with 0 within 5 s; the effects are exact, which without transactions means no repeat."""
    lives, seconds = size(5 if guarantee == "exactly_once" else 2, 20), []
    setup = topics_for(kafka_broker.bootstrap, name, guarantee=guarantee)
    with Fleet(setup, tmp_path) as fleet:
        [worker] = fleet.workers
        for _ in range(lives):
            fleet.start().advance(100)
            code, taken = worker.terminate()
            assert (0, True) == (code, taken <= 5.0), f"{code} after {taken:.1f} s: {worker.tail()}"
            seconds.append(round(taken, 2))
        fleet.start().finish()
        report(name, events=fleet.total, stops=lives, stop_s=seconds)
    assert_as_without_faults(setup, SETTINGS)
