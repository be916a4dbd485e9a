"""Exactly once under SIGKILL, on Apache Kafka: workers are killed at their work, again and again.

The broker aborts what a dead worker had open, another or the next restores and goes on, and in the end all
committed effects equal, byte for byte, those of a run without faults.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.chaos.conftest import Line
from tests.chaos.harness import Fleet, aborted, next_write, open_transaction, topics_for
from tests.chaos.report import SEED, report, size
from tests.runtime.oracle import (
    assert_as_without_faults,
    committed_rows,
    expected_effects,
    values_by_partition,
)
from tests.runtime.shop_stream import campaigns
from tests.runtime.topic_setup import Setup
from tests.runtime.worker_process import SETTINGS

MIN_HITS = 10


def _kill_repeatedly(
    fleet: Fleet, aim: Callable[[Setup], int], hits: Callable[[Setup], int], *, kills: int, limit: int
) -> int:
    """Kill 0.3 to 1.3 s after progress until so many kills had enough hits; return how many there were.

    Three of four kills take aim, at the owner of the partition that ``aim`` waits for; the others hit
    somebody at work.
    """
    random_ = random.Random(SEED)
    fleet.start()
    for done in range(1, limit + 1):
        fleet.advance(1)  # at work again, all faults over
        time.sleep(random_.uniform(0.3, 1.3))
        owners = {p: worker for worker in fleet.workers for p in worker.partitions()}
        partition = aim(fleet.setup) if random_.random() < 3 / 4 else -1
        owners.get(partition, random_.choice(fleet.workers)).kill()
        if done >= kills and hits(fleet.setup) >= MIN_HITS:
            return done
        fleet.start()
    return limit


def test_killed_workers_leave_what_one_that_never_died_leaves(line: Line, tmp_path: Path, name: str) -> None:
    """Triggers, suppressions, dead letters and user state equal the fault-free run's; each id comes once."""
    line.proxy.delay(0.002, 0.001)  # as in a data centre: most of a batch's time its transaction is open
    setup = topics_for(line.broker.bootstrap, name)
    with Fleet(setup, tmp_path, 2, through=line.bootstrap) as fleet:
        kills = _kill_repeatedly(fleet, open_transaction, aborted, kills=size(10, 200), limit=size(25, 400))
        at_last_kill = fleet.committed()
        line.proxy.heal()
        recovery_s = fleet.start().wait_committed(at_last_kill + 1)
        fleet.finish(limit_s=size(150, 3600))
        torn = aborted(setup)
        report(
            name,
            events=fleet.total,
            kills=kills,
            aborted_transactions=torn,
            fenced=fleet.fenced(),
            committed_at_last_kill=at_last_kill,
            recovery_s=round(recovery_s, 2),
        )
    assert torn >= MIN_HITS, f"void: only {torn} kills hit an open transaction"
    assert_as_without_faults(setup, SETTINGS)


def test_killed_without_transactions_counts_nothing_twice(line: Line, tmp_path: Path, name: str) -> None:
    """at_least_once: outputs may come again, with the same id; state and model log hold an event once."""
    line.proxy.delay(0.02, 0.002)  # so that a kill comes between outputs and the state that follows them
    setup = topics_for(line.broker.bootstrap, name, guarantee="at_least_once")
    with Fleet(setup, tmp_path, through=line.bootstrap) as fleet:
        kills = _kill_repeatedly(fleet, _next_output, _repeated, kills=size(4, 40), limit=size(20, 120))
        line.proxy.heal()
        fleet.start().finish()

    expected = expected_effects(SETTINGS, campaigns(), setup.read(setup.names.events), setup.kafka.partitions)
    written = values_by_partition(setup.read(setup.names.triggers), setup.kafka.partitions)
    once = {p: list(dict.fromkeys(values)) for p, values in written.items()}
    repeated = sum(map(len, written.values())) - sum(map(len, once.values()))
    decisions = _repeated(setup)
    report(
        name,
        events=fleet.total,
        kills=kills,
        triggers_repeated=repeated,
        decisions_repeated=decisions,
    )
    assert decisions >= MIN_HITS, f"void: only {decisions} decisions came again"
    assert expected.rows == committed_rows(setup.read(setup.names.user_state))
    assert expected.triggers == once
    assert_model_log_covers_once(setup)


def _next_output(setup: Setup) -> int:
    """Wait until decisions are on the log; the state that knows of them follows."""
    return next_write(setup, setup.names.decisions)


def _repeated(setup: Setup) -> int:
    """Decisions that came again."""
    ids = [
        msgspec.json.decode(record.value or b"")["decision_id"]
        for record in setup.read(setup.names.decisions)
    ]
    return len(ids) - len({*ids})


def assert_model_log_covers_once(setup: Setup) -> None:
    """With repeats dropped as the fold drops them, the deltas name each input offset once at most."""
    covered = dict.fromkeys(range(setup.kafka.partitions), 0)
    for record in setup.read(setup.names.model_deltas):
        headers = dict(record.headers)
        if not headers["nudge.part"].startswith(b"0/"):
            continue
        first, following = int(headers["nudge.first_offset"]), int(headers["nudge.next_offset"])
        if first < covered[record.partition]:
            assert following <= covered[record.partition], "a repeat teaches something beside what it repeats"
            continue
        covered[record.partition] = following
