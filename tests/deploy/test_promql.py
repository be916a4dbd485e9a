"""The reader of PromQL sees every name, and refuses what it cannot read: the other tests rely on it."""

from __future__ import annotations

import pytest

from tests.deploy.metric_names import faults
from tests.deploy.promql import Selector, names_of


def test_every_mention_is_seen() -> None:
    """Plain, matched, ranged, offset and grouped mentions of metrics are all returned."""
    names = names_of(
        'sum by (job, le) (rate(a_bucket{code="x, (y)", le=~"1|2"}[5m])) / b > 0.5'
        " unless on (job) c offset 1h"
    )
    assert [
        Selector("a_bucket", (("code", "=", "x, (y)"), ("le", "=~", "1|2"))),
        Selector("b"),
        Selector("c"),
    ] == names.selectors
    assert {"job", "le"} == names.grouped


@pytest.mark.parametrize(
    "expression", ["rte(nudge_rebuilds_total[5m])", "a ; b", "a{code}", "sum by job (a)"]
)
def test_what_cannot_be_read_is_an_error(expression: str) -> None:
    """A misspelt function or a form unknown to the reader never passes as checked."""
    with pytest.raises(ValueError, match=r"unknown|cannot read|expected"):
        names_of(expression)


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("nudge_event_total", "no metric nudge_event_total"),
        ("nudge_batch_processing_seconds", "no metric nudge_batch_processing_seconds"),
        ('nudge_rebuilds_total{partition="0"}', "nudge_rebuilds_total has no label partition"),
        (
            'nudge_events_rejected_total{code="venom"}',
            "nudge_events_rejected_total never has code ['venom']",
        ),
        (
            'nudge_transactions_total{outcome=~"committed|kept"}',
            "nudge_transactions_total never has outcome ['kept']",
        ),
        (
            "sum by (reason) (nudge_events_rejected_total)",
            "no series of the expression has the label reason",
        ),
    ],
)
def test_what_no_worker_shows_is_found(expression: str, fault: str) -> None:
    """Each way to name what does not exist is told apart."""
    assert [fault] == faults(expression)
