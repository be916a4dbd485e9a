"""What a worker's series look like to Prometheus: sample names, labels, and the values these may have."""

from __future__ import annotations

import re
from pathlib import Path

from online_models.metrics import ClickMetrics, RankingMetrics
from schemas.reasons import RejectCode, SuppressionReason
from stream.runtime.metrics import METRICS
from tests.deploy.promql import Names, names_of

ROOT = Path(__file__).resolve().parents[2]
TARGET_LABELS = {"job", "instance"}  # Prometheus adds them to whatever it scrapes
HISTOGRAM_SUFFIXES = {"_bucket": {"le"}, "_sum": set(), "_count": set()}
ALERT_LABELS = {"alertname", "alertstate", "severity"}


def series() -> dict[str, set[str]]:
    """Sample name -> its labels, those of the target included."""
    found: dict[str, set[str]] = {"up": set(TARGET_LABELS), "ALERTS": TARGET_LABELS | ALERT_LABELS}
    for spec in METRICS:
        suffixes = HISTOGRAM_SUFFIXES if spec.kind in {"histogram", "freshness"} else {"": set()}
        for suffix, more in suffixes.items():
            found[spec.full_name + suffix] = {*spec.labels, *TARGET_LABELS, *more}
    return found


def label_values() -> dict[str, set[str]]:
    """Label -> every value that the code can give it, for the labels with a closed set."""
    literals = {
        literal
        for folder in ("core", "runtime")
        for path in (ROOT / "stream" / folder).glob("*.py")
        for literal in re.findall(r'"([a-z_0-9]+)"', path.read_text(encoding="utf-8"))
    }
    return {
        "code": {code.value for code in RejectCode},
        "reason": {reason.value for reason in SuppressionReason},
        "outcome": literals,
        "model": literals,
        "measure": _measures(),
    }


def faults(expression: str) -> list[str]:
    """Say what an expression names that no worker shows."""
    names, known, values = names_of(expression), series(), label_values()
    found = []
    for selector in names.selectors:
        if selector.metric not in known:
            found.append(f"no metric {selector.metric}")
            continue
        for label, operator, value in selector.matchers:
            if label not in known[selector.metric]:
                found.append(f"{selector.metric} has no label {label}")
            wanted = set(value.split("|")) if operator in {"=~", "!~"} else {value}
            if unknown := wanted - values.get(label, wanted):
                found.append(f"{selector.metric} never has {label} {sorted(unknown)}")
    return found + _ungroupable(names, known)


def _ungroupable(names: Names, known: dict[str, set[str]]) -> list[str]:
    labels = set().union(*(known.get(selector.metric, set()) for selector in names.selectors))
    return [f"no series of the expression has the label {label}" for label in sorted(names.grouped - labels)]


def _measures() -> set[str]:
    """Every measure that the models report once they have seen both outcomes and a list."""
    clicks, ranking = ClickMetrics(), RankingMetrics()
    for outcome, probability in ((1.0, 0.6), (0.0, 0.4)):
        clicks.update(outcome, probability)
    ranking.update(0, ["a"])
    return set(clicks.snapshot()) | set(ranking.snapshot())
