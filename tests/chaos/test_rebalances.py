"""Members that come, go and sleep: partitions move, none has two owners, and the effects stay exact."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from stream.runtime.broker import KafkaBroker
from tests.chaos.harness import SETTINGS, Fleet, load, open_transaction
from tests.chaos.report import SEED, report, size
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.worker_process import WorkerProcess

STEADY_S = 5.0
BETWEEN_S = 2.0
N_MEMBERS = 4


def test_a_storm_of_rebalances_leaves_one_owner_and_exact_effects(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str
) -> None:
    """Every 2 s a member joins or leaves, two to four at a time; then the group is steady within 5 s."""
    changes = size(8, 300)
    setup = load(kafka_broker.bootstrap, name, changes * 1500)
    random_ = random.Random(SEED)
    with Fleet(setup, tmp_path, N_MEMBERS) as fleet:
        for worker in fleet.workers[:2]:
            worker.start()
        fleet.wait_committed(1)
        sightings = 0
        for change in range(1, changes + 1):
            members = [worker for worker in fleet.workers if worker.runs()]
            if len(members) == N_MEMBERS or (len(members) > 2 and random_.random() < 0.5):
                assert 0 == random_.choice(members).terminate()[0]
            else:
                random_.choice([worker for worker in fleet.workers if not worker.runs()]).start()
            sightings += _watch_owners(fleet, BETWEEN_S)
            assert fleet.committed() < fleet.total, f"void: the input ended at change {change}"
        last = [worker for worker in fleet.workers if worker.runs()]
        for worker in last:
            worker.wait_listening()
        steady_s = fleet.wait_until("steady", lambda: _is_steady(last, setup.kafka.partitions), STEADY_S)
        committed = fleet.committed()
        fleet.finish()
        report(
            name,
            events=fleet.total,
            changes=changes,
            assignments=len(fleet.events("assigned")),
            ownerships_seen=sightings,
            fenced=fleet.fenced(),
            steady_s=round(steady_s, 2),
            committed_at_last_change=committed,
        )
    assert committed < fleet.total, "void: the last change came after the end of the work"
    assert_as_without_faults(setup, SETTINGS)


def _is_steady(members: list[WorkerProcess], partitions: int) -> bool:
    """Each member that runs is ready, and together they own each partition once."""
    owned = sorted(p for worker in members for p in worker.partitions())
    return owned == list(range(partitions)) and all(worker.is_ready() for worker in members)


def _watch_owners(fleet: Fleet, seconds: float) -> int:
    """Ask all members what they own for a while; fail when one keeps a partition that another has opened.

    A member that names a partition before and after another named it, and did not open it anew meanwhile, owned
    it all the time.
    """
    ends, seen = time.monotonic() + seconds, 0
    members = [worker for worker in fleet.workers if worker.runs()]
    while time.monotonic() < ends:
        first = [(worker.partitions(), len(worker.events("partition_open"))) for worker in members]
        again = [(worker.partitions(), len(worker.events("partition_open"))) for worker in members]
        for n, (worker, (before, opened)) in enumerate(zip(members, first, strict=True)):
            after, opened_since = again[n]
            kept = before & after if opened == opened_since else set()
            for others, _ in (*first[n + 1 :], *again[:n]):  # asked between the two
                twice = kept & others
                assert not twice, f"partitions {twice} of {worker.log.name} have a second live owner"
            seen += len(kept)
        time.sleep(0.1)
    return seen


def test_a_worker_that_slept_too_long_changes_nothing(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str
) -> None:
    """Frozen with a transaction open beyond its session, it is woken when another has its partitions: fenced."""
    rounds = size(2, 50)
    setup = load(kafka_broker.bootstrap, name, rounds * 4000, transaction_timeout_ms=30_000)
    with Fleet(setup, tmp_path, 2) as fleet:
        fleet.start()
        for done in range(1, rounds + 1):
            fleet.wait_until("both at work", lambda: all(worker.partitions() for worker in fleet.workers))
            partition = open_transaction(setup)
            sleeper = next(worker for worker in fleet.workers if partition in worker.partitions())
            other = next(worker for worker in fleet.workers if worker is not sleeper)
            os.kill(sleeper.pid, signal.SIGSTOP)
            fleet.wait_until("all moved", lambda: len(other.partitions()) == setup.kafka.partitions)  # noqa: B023  called at once
            fleet.wait_committed(fleet.committed() + 200)
            os.kill(sleeper.pid, signal.SIGCONT)
            assert fleet.committed() < fleet.total, f"void: the input ended in round {done}"
        fleet.finish()
        fenced = fleet.fenced()
        report(name, events=fleet.total, frozen=rounds, fenced=fenced)
    assert fenced, "void: no transaction of a sleeper was open when its successor came"
    assert_as_without_faults(setup, SETTINGS)


def test_a_killed_workers_partitions_move(kafka_broker: KafkaBroker, tmp_path: Path, name: str) -> None:
    """Of two workers one is killed: the other owns all partitions within the session and 3 s, and all is exact."""
    setup = load(kafka_broker.bootstrap, name, 6000)
    with Fleet(setup, tmp_path, 2) as fleet:
        fleet.start()
        fleet.wait_until("both at work", lambda: all(worker.partitions() for worker in fleet.workers))
        fleet.wait_committed(400)
        killed, other = fleet.workers
        killed.kill()
        limit_s = setup.kafka.session_timeout_ms / 1000 + 3.0
        moved_s = fleet.wait_until(
            "all moved", lambda: len(other.partitions()) == setup.kafka.partitions, limit_s
        )
        assert fleet.committed() < fleet.total, "void: killed after the end of the work"
        fleet.finish()
        report(name, events=fleet.total, takeover_s=round(moved_s, 2), session_s=limit_s - 3.0)
    assert_as_without_faults(setup, SETTINGS)
