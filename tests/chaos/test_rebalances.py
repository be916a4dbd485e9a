"""Members that come, go and sleep: partitions move, none has two owners, and the effects stay exact."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from stream.runtime.broker import KafkaBroker
from tests.chaos.harness import Fleet, open_transaction, topics_for
from tests.chaos.report import SEED, report, size
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.worker_process import SETTINGS, WorkerProcess

STEADY_S = 5.0
BETWEEN_S = 2.0
N_MEMBERS = 4


def test_a_storm_of_rebalances_leaves_one_owner_and_exact_effects(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str
) -> None:
    """Every 2 s a member joins or leaves, two to four at a time; then the group is steady within 5 s."""
    changes = size(8, 300)
    setup = topics_for(kafka_broker.bootstrap, name)
    random_ = random.Random(SEED)
    with Fleet(setup, tmp_path, N_MEMBERS) as fleet:
        fleet.start(2).advance(1)
        sightings = 0
        for _ in range(changes):
            members = [worker for worker in fleet.workers if worker.runs()]
            if len(members) == N_MEMBERS or (len(members) > 2 and random_.random() < 0.5):
                leaver = random_.choice(members)
                leaver.wait_listening()  # before that nobody hears a signal
                assert 0 == leaver.terminate()[0]
            else:
                random_.choice([worker for worker in fleet.workers if not worker.runs()]).start()
            sightings += _watch_owners(fleet, BETWEEN_S)
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
    assert_as_without_faults(setup, SETTINGS)


def _is_steady(members: list[WorkerProcess], partitions: int) -> bool:
    """Each member that runs is ready, and together they own each partition once."""
    owned = sorted(p for worker in members for p in worker.partitions())
    return owned == list(range(partitions)) and all(worker.is_ready() for worker in members)


def _watch_owners(fleet: Fleet, seconds: float) -> int:
    """Ask all members what they own for a while; fail when one keeps a partition that another has opened.

    A member that names a partition before and after another named it, and did not open it anew meanwhile,
    owned it all the time.
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
    """Frozen in a transaction beyond its session, it is woken when another has its partitions: fenced."""
    rounds = size(2, 50)
    setup = topics_for(kafka_broker.bootstrap, name, transaction_timeout_ms=30_000)
    with Fleet(setup, tmp_path, 2) as fleet:
        fleet.start()
        for _ in range(rounds):
            fleet.wait_at_work()
            partition = open_transaction(setup)
            sleeper = next(worker for worker in fleet.workers if partition in worker.partitions())
            other = next(worker for worker in fleet.workers if worker is not sleeper)
            os.kill(sleeper.pid, signal.SIGSTOP)
            fleet.wait_until("all moved", lambda: len(other.partitions()) == setup.kafka.partitions)  # noqa: B023  called at once
            fleet.advance(200)
            os.kill(sleeper.pid, signal.SIGCONT)
        fleet.finish()
        fenced = fleet.fenced()
        unheard = sum("never retrieved" in worker.log.read_text(encoding="utf-8") for worker in fleet.workers)
        report(name, events=fleet.total, frozen=rounds, fenced=fenced)
    assert fenced, "void: no transaction of a sleeper was open when its successor came"
    assert not unheard, "a future's error was left to nobody"
    assert_as_without_faults(setup, SETTINGS)


def test_a_killed_workers_partitions_move(kafka_broker: KafkaBroker, tmp_path: Path, name: str) -> None:
    """Of two workers one is killed: the other owns all partitions within the session and 3 s, exactly."""
    setup = topics_for(kafka_broker.bootstrap, name)
    with Fleet(setup, tmp_path, 2) as fleet:
        fleet.start().wait_at_work()
        fleet.wait_committed(400)
        killed, other = fleet.workers
        killed.kill()
        limit_s = setup.kafka.session_timeout_ms / 1000 + 3.0
        moved_s = fleet.wait_until(
            "all moved", lambda: len(other.partitions()) == setup.kafka.partitions, limit_s
        )
        fleet.finish()
        report(name, events=fleet.total, takeover_s=round(moved_s, 2), session_s=limit_s - 3.0)
    assert_as_without_faults(setup, SETTINGS)
