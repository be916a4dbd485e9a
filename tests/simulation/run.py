"""One seed, one run: workers over a seeded shop stream, faults, healing, checks.

    python -m tests.simulation.run 17

runs seed 17 and prints what happened.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Final

from stream.testing import event
from tests.runtime.shop_stream import START, campaigns, shop_stream
from tests.simulation.checks import check, committed_lessons
from tests.simulation.cluster import Cluster, Worker, settings_of
from tests.simulation.faults import Schedule
from tests.simulation.history import History, digest_of
from tests.simulation.lessons import RecordedModels, recorded
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import installed
from tests.simulation.quiet import quiet

N_EVENTS: Final = 400
TAIL: Final = 400  # what `shop_stream` itself ends with
FAULTS_FROM_S, FAULTS_TO_S = 4.0, 58.0
HEAL_AT_S: Final = 62.0
PROGRESS_S: Final = 30.0
END_S: Final = 90.0  # after healing
LEARNED_S: Final = 5.0
READY_S: Final = 30.0  # a worker that has just been started reads its logs first
AT_LEAST_ONCE_EVERY: Final = 6  # seeds
STATIC_EVERY: Final = 4
PATIENCE_MS: Final = (50, 0)  # commits mostly follow each other, or mostly overlap; by the dozen seeds


def simulate(seed: int) -> History:
    """Run a seed."""
    loop = SimulatedLoop(seed)
    with installed(seed), recorded(), quiet():
        try:
            return loop.run_until_complete(_run(loop, seed))
        finally:
            loop.service.down = True
            loop.unwind()
            loop.service = None
            loop.close()


async def _run(loop: SimulatedLoop, seed: int) -> History:
    dice = random.Random(f"run {seed}")
    settings = settings_of(
        dice.randint(2, 4),
        exactly_once=seed % AT_LEAST_ONCE_EVERY != 0,
        snapshot_bytes=dice.choice((64 << 20, 20_000)),
        patience_ms=PATIENCE_MS[seed // 12 % 2],
    )
    cluster = Cluster(loop, settings, seed)
    cluster.network.latency_s = dice.choice((0.001, 0.004, 0.015))
    history = History(seed, cluster.events)
    cluster.produce_campaigns(campaigns())
    lines = list(shop_stream(N_EVENTS, seed, n_users=40, n_items=40))[:-TAIL]
    feeding = asyncio.create_task(_feed(cluster, lines, dice))
    for number in range(dice.randint(1, 3)):
        static = f"static-{number}" if seed % STATIC_EVERY == 1 else None
        own = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"instance_id": static})})
        worker = cluster.add(f"w{number}", own)
        loop.call_later(dice.uniform(0, 3), cluster.start, worker)
    schedule = Schedule(cluster, dice)
    for at in schedule.draw(FAULTS_FROM_S, FAULTS_TO_S):
        await asyncio.sleep(max(at - loop.time(), 0))
        cluster.note(f"fault {schedule.strike()}")
        history.faults += 1
    await asyncio.sleep(HEAL_AT_S - loop.time())
    await feeding
    schedule.heal()
    cluster.healed = True
    cluster.note("healed")
    if await _finish(cluster, history):
        await _check_models(cluster, history)
    history.virtual_s = loop.time()
    history.transactions = dict(cluster.broker.transactions.ended)
    check(cluster, history)
    committed_lessons(cluster, history)
    history.digest = digest_of(cluster.broker, cluster.events)
    return history


async def _feed(cluster: Cluster, lines: list[bytes], dice: random.Random) -> None:
    """Write the events bit by bit until shortly before healing, then what makes everything due."""
    chunk, pause = 8, (FAULTS_TO_S - 1.0) / (len(lines) / 8)
    for at in range(0, len(lines), chunk):
        cluster.produce_events(lines[at : at + chunk])
        await asyncio.sleep(pause * dice.uniform(0.5, 1.5))
    late = START + 30.0 * len(lines) + 43_200
    cluster.produce_events(
        event("Cart Viewed", user=f"end{k}", at=late, message_id=f"end{k}") for k in range(60)
    )


async def _finish(cluster: Cluster, history: History) -> bool:
    """Wait until all input is committed; whether it came to that. The committed offsets must move."""
    loop = cluster.loop
    moved, before, healed = loop.time(), -1, loop.time()
    while True:
        done, left = _progress(cluster)
        if not left and cluster.broker.transactions.settled:  # an end is acknowledged before its markers
            return True
        if done != before:
            moved, before = loop.time(), done
        if loop.time() - moved > PROGRESS_S or loop.time() - healed > END_S:
            history.found("no progress", f"{left} records left {loop.time() - healed:.0f} s after healing")
            return False
        await asyncio.sleep(0.25)


def _progress(cluster: Cluster) -> tuple[int, int]:
    """Records committed, and records left."""
    group = cluster.broker.groups.group(cluster.settings.kafka.group)
    done = sum(offset for offset, _ in group.offsets.values())
    return done, sum(log.end for log in cluster.broker.topics[cluster.names.events]) - done


async def _check_models(cluster: Cluster, history: History) -> None:
    """Each living worker has learned each committed delta once and nothing else, bit by bit."""
    began = cluster.loop.time()
    # Without a fence a former owner's delta may come after its successor has read the log to its end.
    once = cluster.settings.kafka.guarantee == "exactly_once"
    while wrong := [w.name for w in cluster.workers if not _has_learned(cluster, w)]:
        ready = all(
            worker.plane is not None and worker.plane._shared is not None for worker in cluster.workers
        )
        if cluster.loop.time() > began + (LEARNED_S if ready else READY_S):
            if not once and ready:
                break
            history.found("models differ", f"of {wrong}")
            return
        await asyncio.sleep(0.5)
    for worker in cluster.workers:
        assert worker.plane is not None
        assert worker.plane._shared is not None
        async with worker.plane._shared.turns.turn() as models:
            assert isinstance(models, RecordedModels)
            if models.digest() != models.learned_anew(cluster.settings).digest():
                history.found("models differ", f"{worker.name} has bits that its lessons do not give")


def _has_learned(cluster: Cluster, worker: Worker) -> bool:
    shared = worker.plane._shared if worker.plane is not None else None
    models = None if shared is None else shared.models.fold
    return isinstance(models, RecordedModels) and models.lessons == committed_lessons(cluster)


def main() -> None:
    """Run the seeds of the command line."""
    for seed in sys.argv[1:]:
        history = simulate(int(seed))
        print("\n".join(history.events))  # noqa: T201  a command
        print(history, history.digest, sep="\n")  # noqa: T201  a command


if __name__ == "__main__":
    main()
