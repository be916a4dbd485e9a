"""Half a working day in short: load for minutes, a fault each minute, and nothing that grows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import linear_regression

import pytest

from tests.chaos.conftest import Line
from tests.chaos.harness import SETTINGS, Fleet, topics_for
from tests.chaos.processes import open_files, rss_mib
from tests.chaos.report import LONG, report
from tests.runtime.oracle import assert_as_without_faults

MINUTES = max(int(os.environ.get("NUDGE_CHAOS_MINUTES", "10")), 10)  # fewer say nothing about a slope
MAX_SLOPE_MIB = 2.0  # a minute, over the second half
MAX_MORE_FILES = 20


@pytest.mark.skipif(not LONG, reason="NUDGE_CHAOS=long runs the soak; NUDGE_CHAOS_MINUTES says how long")
def test_nothing_grows_while_faults_come_every_minute(line: Line, tmp_path: Path, name: str) -> None:
    """The worker that no fault kills keeps its memory and its file descriptors; all effects are exact."""
    setup = topics_for(line.broker.bootstrap, name)
    memory: list[float] = []
    files: list[float] = []
    with Fleet(setup, tmp_path, 2, through=line.bootstrap) as fleet:
        fleet.start().wait_at_work()
        survivor, victim = fleet.workers
        faults = (line.proxy.reset, line.broker.restart, line.proxy.half_open, victim.kill)
        for minute in range(MINUTES):
            ends = time.monotonic() + 60.0
            faults[minute % len(faults)]()
            fleet.start().advance(1, limit_s=30.0)
            while time.monotonic() < ends:
                fleet.check()
                time.sleep(1.0)
            memory.append(round(rss_mib(survivor.pid), 1))
            files.append(open_files(survivor.pid))
        fleet.finish(limit_s=600.0)
        half = memory[len(memory) // 2 :]
        slope = linear_regression(range(len(half)), half).slope
        report(name, events=fleet.total, rss_mib=memory, files=files, slope_mib_per_minute=round(slope, 2))
    assert slope <= MAX_SLOPE_MIB
    assert max(files) <= min(files) + MAX_MORE_FILES
    assert_as_without_faults(setup, SETTINGS)
