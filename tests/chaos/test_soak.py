"""Half a working day in short: load for minutes, a fault each minute, and nothing that grows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import linear_regression

import pytest

from tests.chaos.conftest import Line
from tests.chaos.harness import RATE, Fleet, topics_for
from tests.chaos.processes import open_files, rss_mib
from tests.chaos.report import LONG, report
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.worker_process import SETTINGS

RESTORED_S = 60.0  # the changelog keeps every row for an hour, and a takeover reads all of them
ROUND = 4  # minutes: each kind of fault once
# The first round is warm-up: users, dictionaries and pools fill up to their bounds. After it the least of
# each round counts, for what a fault needs for a moment is no growth.
MINUTES = max(int(os.environ.get("NUDGE_CHAOS_MINUTES", "16")), 3 * ROUND)
LOAD = float(os.environ.get("NUDGE_CHAOS_RATE", RATE))  # events a second
MAX_GROWTH_MIB = 16.0  # by the line through the rounds: the same worker's rounds differ by ten either way
MAX_MORE = 5.0  # files, or tasks
SETTLED_S = 30.0  # the last seconds of a minute, when a fault is over


@pytest.mark.skipif(not LONG, reason="NUDGE_CHAOS=long runs the soak; NUDGE_CHAOS_MINUTES and _RATE shape it")
def test_nothing_grows_while_faults_come_every_minute(line: Line, tmp_path: Path, name: str) -> None:
    """The worker that no fault kills keeps its memory, files and tasks; all effects are exact."""
    setup = topics_for(line.broker.bootstrap, name, batch_records=500)
    memory: list[float] = []
    files: list[float] = []
    tasks: list[float] = []
    with Fleet(setup, tmp_path, 2, through=line.bootstrap, rate=LOAD) as fleet:
        fleet.start().wait_at_work()
        survivor, victim = fleet.workers
        faults = (line.proxy.reset, line.broker.restart, line.proxy.half_open, victim.kill)
        for minute in range(MINUTES):
            ends = time.monotonic() + 60.0
            faults[minute % ROUND]()
            fleet.start().advance(1, limit_s=RESTORED_S)
            ends = max(ends, time.monotonic() + SETTLED_S)
            settled = []
            while time.monotonic() < ends:
                fleet.check()
                if time.monotonic() > ends - SETTLED_S:
                    settled.append((open_files(survivor.pid), survivor.metric("nudge_loop_tasks")))
                time.sleep(1.0)
            memory.append(round(rss_mib(survivor.pid), 1))
            files.append(min(n for n, _ in settled))
            tasks.append(min(n for _, n in settled))
        fleet.finish(limit_s=600.0)
        least = _least_of_rounds(memory)
        growth = linear_regression(range(len(least)), least).slope * (len(least) - 1)
        report(
            name,
            events=fleet.total,
            rate=LOAD,
            rebuilds=len(fleet.events("partition_rebuild")),
            rss_mib=memory,
            files=files,
            tasks=tasks,
            growth_mib=round(growth, 1),
        )
    assert_as_without_faults(setup, SETTINGS)
    assert growth <= MAX_GROWTH_MIB
    for counts in (_least_of_rounds(files), _least_of_rounds(tasks)):
        assert max(counts) <= min(counts) + MAX_MORE


def _least_of_rounds(values: list[float]) -> list[float]:
    """The least of each round after the warm-up."""
    return [min(values[n : n + ROUND]) for n in range(ROUND, MINUTES - ROUND + 1, ROUND)]
