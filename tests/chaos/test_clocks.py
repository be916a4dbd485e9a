"""Clocks that are wrong: producers' times from 1970 to 2099 and in every unit, and a worker's own clock."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest

from schemas.codec import rfc3339
from stream.runtime.broker import KafkaBroker
from stream.runtime.statecodec import HEADER_KEY, decode_header
from stream.testing import Driver, event
from tests.chaos.harness import Fleet, topics_for
from tests.chaos.report import SEED, report
from tests.runtime.oracle import assert_as_without_faults
from tests.runtime.shop_stream import START, campaigns, shop_stream
from tests.runtime.worker_process import RUN, SETTINGS

INT64_MAX = 2**63 - 1
NOW_S = 1_767_225_600
ODD_TIMES: tuple[object, ...] = (
    *("1970-01-01T00:00:00Z", "2099-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"),
    *("2026-02-30T00:00:00Z", "", "now", "NaN", None, True),
    *(INT64_MAX, -1, -INT64_MAX, 0, NOW_S, NOW_S * 10**3, NOW_S * 10**6, NOW_S * 10**9, 1e300, -0.5),
    *(str(INT64_MAX), str(NOW_S * 1000), "+292278994-08-17T07:12:55Z"),
)
MAX_FUTURE_S = 300.0
AHEAD_S = (200.0, 290.0, 310.0, 3600.0, 86_400.0)
MAX_RATIO = 10.0


def _at(odd: object, k: int) -> bytes:
    """An event with an odd time."""
    envelope = orjson.loads(
        event("Product Added", user=f"odd{k}", at=START, message_id=f"odd{k}", product_id="p1")
    )
    return orjson.dumps(envelope | {"timestamp": odd})


def test_times_from_1970_to_2099_move_no_watermark_ahead(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str
) -> None:
    """The watermark stays within five minutes of the broker's time, the others' effects stay exact."""
    lines = list(shop_stream(1000, SEED))
    odd = [_at(value, k) for k, value in enumerate(ODD_TIMES * 4)]
    setup = topics_for(kafka_broker.bootstrap, name)
    setup.produce_events([*lines[:500], *odd[: len(odd) // 2], *lines[500:], *odd[len(odd) // 2 :]])
    setup.produce_events(_at(rfc3339(time.time() + AHEAD_S[k % 5]), 1000 + k) for k in range(100))
    with Fleet(setup, tmp_path, rate=0) as fleet:
        fleet.start().finish()
        assert [] == fleet.events("partition_rebuild")
    newest = max(record.timestamp for record in setup.read(setup.names.events)) / 1000
    headers = [r.value for r in setup.read(setup.names.user_state) if r.key == HEADER_KEY and r.value]
    ahead = max(decode_header(value)[0].watermark for value in headers) - newest
    report(name, events=fleet.total, odd=len(odd), watermark_ahead_s=round(ahead, 3))
    assert 0 < ahead <= MAX_FUTURE_S
    assert_as_without_faults(setup, SETTINGS)


def test_an_odd_time_costs_no_more_than_ten_ordinary_ones() -> None:
    """CPU of a record with an odd time against that of the seeded shop's, through the whole engine."""
    driver = Driver(campaigns=campaigns(), consent="allow", batch_size=50)
    ordinary, odd = list(shop_stream(2000, SEED)), [_at(value, k) for k, value in enumerate(ODD_TIMES * 40)]
    driver.pipe(*ordinary[:400], ingest_time=NOW_S)  # loads and compiles
    driver.flush()
    spent = []
    for lines in (ordinary[400:2000], odd):
        started = time.process_time()
        driver.pipe(*lines, ingest_time=NOW_S)
        driver.flush()
        spent.append((time.process_time() - started) / len(lines))
    report("cpu-of-odd-times", ordinary_us=round(spent[0] * 1e6, 1), odd_us=round(spent[1] * 1e6, 1))
    assert spent[1] <= MAX_RATIO * spent[0]


# Runs before anything of the worker's is imported: all of it, and aiokafka, ask `time` what time it is.
WRONG_CLOCK = """
import time
right = time.time
time.time = lambda: right() + {shift}
time.time_ns = lambda: int(1e9 * time.time())
"""


@pytest.mark.parametrize(
    ("shift", "least_s", "most_s"),
    [
        pytest.param("3600", 3600.0, 4200.0, id="ahead"),
        pytest.param("-3600", 0.0, 0.0, id="behind"),  # each effect seems to come before its cause
        pytest.param("3600 * (int(5 * time.monotonic()) % 2)", 300.0, 3300.0, id="jumps"),
    ],
)
def test_a_workers_own_clock_changes_nothing(
    kafka_broker: KafkaBroker, tmp_path: Path, name: str, shift: str, least_s: float, most_s: float
) -> None:
    """An hour ahead, behind, or both by turns five times a second: the effects of a worker that is right."""
    setup = topics_for(kafka_broker.bootstrap, name)
    setup.produce_events(shop_stream(1000, SEED))
    with Fleet(setup, tmp_path, rate=0, run=WRONG_CLOCK.format(shift=shift) + RUN) as fleet:
        fleet.start().drain()
        [worker] = fleet.workers
        summed, count = (worker.metric(f"nudge_event_to_effect_seconds_{part}") for part in ("sum", "count"))
        fleet.finish()
        report(name, events=fleet.total, seems_late_s=round(summed / count, 3))
    assert least_s <= summed / count <= most_s, "its clock was right"
    assert_as_without_faults(setup, SETTINGS)
