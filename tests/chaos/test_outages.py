"""A broker that goes away or stops answering, and a line to it that delays, breaks or goes dead."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


from stream.runtime.broker import KafkaBroker
from tests.chaos.conftest import Line
from tests.chaos.harness import SETTINGS, Fleet, load
from tests.chaos.report import report, size
from tests.runtime.oracle import assert_as_without_faults

HEAL_S = 60.0
FREEZE_S = 10.0
CUT_S = 30.0


def test_a_restarted_broker_is_waited_for(kafka_broker: KafkaBroker, tmp_path: Path, name: str) -> None:
    """The workers live through restarts of the broker, and their effects are those without them."""
    restarts = size(2, 20)
    setup = load(kafka_broker.bootstrap, name, restarts * 3000)
    with Fleet(setup, tmp_path).start() as fleet:
        recovered = []
        for done in range(restarts):
            fleet.wait_committed(fleet.total * (1 + 2 * done) // (2 * restarts + 2))
            kafka_broker.restart()
            recovered.append(_progress_again(fleet))
        fleet.finish()
        report(name, events=fleet.total, restarts=restarts, recovery_s=recovered)
    assert_as_without_faults(setup, SETTINGS)


def test_a_frozen_broker_is_waited_for(kafka_broker: KafkaBroker, tmp_path: Path, name: str) -> None:
    """The broker stops for 10 s with connections open, longer than sessions and transactions last."""
    setup = load(kafka_broker.bootstrap, name, 6000)
    with Fleet(setup, tmp_path, 2).start() as fleet:
        fleet.wait_committed(fleet.total // 5)
        kafka_broker.pause()
        try:
            time.sleep(FREEZE_S)
        finally:
            kafka_broker.resume()
        recovered = _progress_again(fleet)
        fleet.finish()
        report(
            name, events=fleet.total, recovery_s=recovered, rebuilds=len(fleet.events("partition_rebuild"))
        )
    assert_as_without_faults(setup, SETTINGS)


def _reset(line: Line) -> None:
    line.proxy.reset()


def _half_open(line: Line) -> None:
    line.proxy.half_open()


def _delay(line: Line) -> None:
    line.proxy.delay(0.2, 0.1)
    time.sleep(FREEZE_S)
    line.proxy.heal()


def _cut(line: Line) -> None:
    line.proxy.cut()
    time.sleep(CUT_S)
    line.proxy.heal()


def test_a_bad_line_costs_time_and_nothing_else(line: Line, tmp_path: Path, name: str) -> None:
    """Connections reset, half open, 200 ms ± 100 late, and dead for 30 s: one after the other, then exact."""
    faults: list[Callable[[Line], None]] = [_reset, _half_open, _delay, _cut] * size(1, 10)
    setup = load(line.bootstrap, name, 2000 * len(faults))
    with Fleet(setup, tmp_path, 2).start() as fleet:
        recovered = {}
        for n, fault in enumerate(faults):
            fleet.wait_committed(fleet.total * n // len(faults) + 200)  # and a phase without faults
            fault(line)
            recovered[f"{fault.__name__.strip('_')}_{n}_s"] = _progress_again(fleet)
        fleet.finish()
        report(
            name,
            events=fleet.total,
            connections=line.proxy.connections,
            rebuilds=len(fleet.events("partition_rebuild")),
            **recovered,
        )
    assert_as_without_faults(setup, SETTINGS)


def _progress_again(fleet: Fleet) -> float:
    """Seconds until something more is committed; fails after the limit."""
    before = fleet.committed()
    assert before < fleet.total, "void: the fault came after the end of the work"
    return round(fleet.wait_committed(before + 1, HEAL_S), 2)
