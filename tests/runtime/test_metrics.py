"""Counts of the engine become metrics with bounded labels, and the page lists all of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream.core.rows import Tally
from stream.report import lift
from stream.runtime.metrics import METRICS, Metrics, markdown_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def _samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_counts_become_metrics() -> None:
    """Each kind of count that the engine makes shows under its name and labels."""
    metrics = Metrics("1.2.3")
    metrics.count(
        Counter(
            {
                ("read",): 10,
                ("accepted",): 7,
                ("unknown",): 1,
                ("duplicate",): 2,
                ("foreign_key",): 6,
                ("faulty", "bad_time"): 3,
                ("rejected", "late"): 1,
                ("recommendation", "emitted"): 3,
                ("offer", "ten"): 4,
                ("campaign", "cart", "sent"): 2,
                ("campaign", "cart", "suppressed", "holdout"): 5,
            }
        )
    )
    samples = _samples(metrics)
    assert 10 == samples["nudge_events_consumed_total", ()]
    assert 1 == samples["nudge_events_rejected_total", (("code", "late"),)]
    assert 3 == samples["nudge_events_faulty_total", (("code", "bad_time"),)]
    assert 6 == samples["nudge_events_foreign_key_total", ()]
    assert 4 == samples["nudge_offer_selections_total", (("offer", "ten"),)]
    held = (("campaign", "cart"), ("outcome", "suppressed"), ("reason", "holdout"))
    assert 5 == samples["nudge_triggers_total", held]
    assert 1 == samples["nudge_build_info", (("version", "1.2.3"),)]


def test_a_count_that_no_metric_shows_is_an_error() -> None:
    """A new count of the engine cannot go unseen by operators."""
    with pytest.raises(ValueError, match="novelty"):
        Metrics("0").count({("novelty",): 1})


def test_ids_as_labels_are_bounded() -> None:
    """A flood of campaigns makes at most fifty series and one more for the rest."""
    metrics = Metrics("0")
    for n in range(1000):
        metrics.count({("campaign", f"c{n}", "sent"): 1})
    series = {key: value for key, value in _samples(metrics).items() if key[0] == "nudge_triggers_total"}
    assert 51 == len(series)
    assert 1000 == sum(series.values())


def test_lift_and_revenue_are_shown() -> None:
    """Users by arm, the difference with its bounds, the split's p-value, and money by currency."""
    metrics = Metrics("0")
    metrics.count_revenue({("cart", "EUR"): 2.5})
    metrics.show_lift(lift({"gone": Tally(0.5)}, 0.05, 0.001))
    found = lift({"cart": Tally(0.5, [90, 80], [60, 50], [30, 20])}, 0.05, 0.001)
    metrics.show_lift(found)
    samples = _samples(metrics)
    labels = (("arm", "control"), ("campaign", "cart"), ("outcome", "converted"))
    bounds = {dict(key)["bound"]: n for (name, key), n in samples.items() if name.endswith("conversion_rate")}

    assert 20 == samples["nudge_lift_users", labels]
    assert found["cart"]["conversion"] == bounds
    assert pytest.approx(0.1) == bounds["estimate"]
    assert 0.1 < samples["nudge_lift_sample_ratio_p_value", (("campaign", "cart"),)]
    assert 2.5 == samples["nudge_campaign_revenue_total", (("campaign", "cart"), ("currency", "EUR"))]


def test_money_of_different_currencies_is_never_added() -> None:
    """Of more currencies than get a label the rest is left out."""
    metrics = Metrics("0")
    for n in range(50):
        metrics.count_revenue({("cart", f"X{n:02}"): 1.0})
    metrics.count_revenue({("cart", "EUR"): 100.0, ("cart", "X07"): 2.0, ("cart", "JPY"): 15_000.0})
    found = {
        dict(key)["currency"]: n for (name, key), n in _samples(metrics).items() if "revenue_total" in name
    }
    assert {f"X{n:02}": 3.0 if n == 7 else 1.0 for n in range(50)} == found


def test_quality_is_absent_until_there_is_some() -> None:
    """After a start no gauge shows a 0 that nobody measured; a measured 0 is shown."""
    metrics = Metrics("0")
    before = _samples(metrics)
    metrics.show_quality({"slate_hit_rate": {"shown": 0.0}, "exposure_gini": {"": 0.0}, "offer_entropy": {}})
    shown = {key: value for key, value in _samples(metrics).items() if key not in before}

    assert not [name for name, _ in before if name.startswith("nudge_recent_")]
    assert shown == {
        ("nudge_recent_slate_hit_rate", (("list", "shown"),)): 0.0,
        ("nudge_recent_exposure_gini", ()): 0.0,
    }


def test_freshness_is_a_histogram_of_every_record() -> None:
    """Buckets are cumulative, the sum is that of the values, and a clock ahead of ours counts as zero."""
    metrics = Metrics("0")
    metrics["event_to_effect_seconds"].observe_many([0.004, 0.004, 0.3, -1.0, 1000.0])
    samples = _samples(metrics)
    name = "nudge_event_to_effect_seconds"
    assert 1 == samples[f"{name}_bucket", (("le", "0.001"),)]
    assert 3 == samples[f"{name}_bucket", (("le", "0.005"),)]
    assert 4 == samples[f"{name}_bucket", (("le", "0.5"),)]
    assert 5 == samples[f"{name}_bucket", (("le", "+Inf"),)]
    assert samples[f"{name}_sum", ()] == pytest.approx(1000.308)


def test_the_page_lists_every_metric() -> None:
    """docs/metrics.md holds the table as the code has it."""
    assert markdown_table() in PAGE.read_text(encoding="utf-8")


def test_names_follow_the_conventions() -> None:
    """Base units, one prefix, and a sentence of help for each."""
    for spec in METRICS:
        assert spec.full_name.startswith("nudge_")
        assert spec.help.endswith(".")
        assert not spec.name.endswith(("_ms", "_total", "_percent"))
