"""More input than a worker can take, over a slow line: it falls behind and stays alive within its memory."""

from __future__ import annotations

import re
from pathlib import Path

from tests.chaos.conftest import Line
from tests.chaos.harness import Fleet, topics_for
from tests.chaos.processes import rss_mib, waited_s
from tests.chaos.report import SEED, report, size
from tests.runtime.shop_stream import shop_stream
from tests.runtime.worker_process import WorkerProcess

MAX_GROWTH_MIB = 150.0
MAX_LAG_S, WORST_LAG_S = 0.05, 0.25  # of the event loop: p99, and always
BUSY = 0.05  # share of the time in which others had the processors: from here on the lag is theirs
BYTES_PER_S = 2_000_000
_BUCKET = re.compile(r'^nudge_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)


def test_a_backlog_over_a_slow_line_costs_no_memory_and_no_session(
    line: Line, tmp_path: Path, name: str
) -> None:
    """Everything is there already: resident memory stays within 150 MiB of its base, heartbeats go out."""
    n = size(50_000, 400_000)
    setup = topics_for(line.broker.bootstrap, name, batch_records=1000, session_timeout_ms=6000)
    setup.produce_events(shop_stream(n, SEED))  # 120 users: what grows is not their state
    with Fleet(setup, tmp_path, rate=0, through=line.bootstrap) as fleet:
        [worker] = fleet.start().workers
        fleet.wait_at_work()
        line.proxy.slow(BYTES_PER_S)
        base = peak = rss_mib(worker.pid)
        goal = sum(setup.ends(setup.names.events).values())

        def done() -> bool:
            nonlocal peak
            peak = max(peak, rss_mib(worker.pid))
            return fleet.committed() >= goal

        waited = waited_s(worker.pid)
        seconds = fleet.wait_until("all committed", done, limit_s=size(150, 3600))
        waiting_share = (waited_s(worker.pid) - waited) / seconds
        line.proxy.heal()
        lag, worst = (_lag_quantile(worker, share) for share in (0.99, 1.0))
        fleet.finish()
        assignments = len(worker.events("assigned"))
    report(
        name,
        events=goal,
        seconds=round(seconds, 1),
        base_mib=round(base, 1),
        growth_mib=round(peak - base, 1),
        loop_lag_p99_s=lag,
        loop_lag_max_s=worst,
        waiting_share=round(waiting_share, 3),
        assignments=assignments,
    )
    assert peak - base <= MAX_GROWTH_MIB
    assert 1 == assignments, "the session was lost"
    held = lag > MAX_LAG_S or worst > WORST_LAG_S
    assert not held or waiting_share > BUSY, "something holds the event loop"


def _lag_quantile(worker: WorkerProcess, share: float) -> float:
    """Upper bound of the bucket of the loop's lag that holds this share of the observations, rounded down."""
    buckets = [(float(le), float(n)) for le, n in _BUCKET.findall(worker.get("/metrics")[1])]
    return next(le for le, n in buckets if n >= int(share * buckets[-1][1]))
