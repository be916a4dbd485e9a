"""The console reads the numbers that a worker's metrics expose."""

from __future__ import annotations

from stream.console.exposition import WorkerCounts, samples
from stream.runtime.metrics import Metrics


def test_counts_of_the_engine_come_through_metrics_unchanged() -> None:
    """What the engine counted in committed batches is what a reader of the exposition sees."""
    metrics = Metrics("1.2.3")
    metrics.count(
        {
            ("read",): 10,
            ("accepted",): 7,
            ("unknown",): 1,
            ("duplicate",): 1,
            ("rejected", "late"): 2,
            ("campaign", 'a "b"\\c', "armed"): 5,
            ("campaign", 'a "b"\\c', "sent"): 1,
            ("campaign", 'a "b"\\c', "suppressed", "holdout"): 3,
        }
    )
    metrics["consumer_lag_records"].labels("0").set(4)
    metrics["consumer_lag_records"].labels("1").set(5)
    metrics["model_quality"].labels("recommend", "recall_at_10").set(0.25)

    counts = WorkerCounts.parse(metrics.exposition().decode())

    expected = WorkerCounts(
        consumed=10,
        accepted=7,
        duplicate=1,
        unknown=1,
        lag=9,
        rejected={"late": 2},
        funnel={'a "b"\\c': {"armed": 5, "sent": 1}},
        suppressed={'a "b"\\c': {"holdout": 3}},
        quality={"recommend": {"recall_at_10": 0.25}},
    )
    assert expected == counts


def test_what_is_no_sample_is_passed_over() -> None:
    """Comments, empty and broken rows stop nothing."""
    text = '# TYPE x counter\n\nx 1\nbroken\ny{a="b"} NaNo\nz{a="l\\n"} 2.5 1700000000\n'
    assert [("x", {}, 1.0), ("z", {"a": "l\n"}, 2.5)] == list(samples(text))
