"""Run a piece of work on a simulated broker, without faults unless it makes them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from stream.settings import Settings
from tests.simulation.cluster import Cluster, settings_of
from tests.simulation.lessons import recorded
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import installed
from tests.simulation.quiet import quiet

T = TypeVar("T")


def on_stage(
    work: Callable[[Cluster], Coroutine[Any, Any, T]], settings: Settings | None = None, seed: int = 0
) -> T:
    """Run work on a cluster of its own."""
    loop = SimulatedLoop(seed)
    with installed(seed), recorded(), quiet():
        cluster = Cluster(loop, settings or settings_of(2), seed)
        try:
            return loop.run_until_complete(work(cluster))
        finally:
            cluster.network.down = True
            loop.unwind()
            loop.service = None
            loop.close()
