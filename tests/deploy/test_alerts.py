"""Alerts name real metrics, have a runbook each, and fire when they should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.settings import Settings
from tests.deploy.metric_names import faults
from tests.deploy.promql import names_of

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
CASES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))[
    "tests"
]
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_names_what_a_worker_shows(rule: dict[str, Any]) -> None:
    """Metrics, labels and label values of the expression exist."""
    assert [] == faults(rule["expr"])


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_tells_what_is_wrong_and_where_to_read_on(rule: dict[str, Any]) -> None:
    """Severity, summary, description and a runbook with the three parts a woken person needs."""
    notes = rule["annotations"]
    runbook = ROOT / notes["runbook_url"]
    assert re.fullmatch(r"Nudge[A-Z][A-Za-z]+", rule["alert"])
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert notes["summary"].endswith(".")
    assert notes["description"].endswith(".")
    assert f"docs/runbooks/{rule['alert']}.md" == notes["runbook_url"]
    text = runbook.read_text(encoding="utf-8")
    assert text.startswith(f"# {rule['alert']}\n")
    assert ["## Look at", "## Do"] == re.findall(r"^## .*$", text, re.MULTILINE)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_a_description_shows_labels_that_the_alert_has(rule: dict[str, Any]) -> None:
    """A label that the expression aggregates away would be an empty place in the message."""
    grouped = re.match(r"\s*(?:histogram_quantile\([^,]*,\s*)?(?:sum|max) by \(([^)]*)\)", rule["expr"])
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"]))
    assert grouped is None or shown <= set(grouped[1].split(", "))


def test_alerts_and_runbooks_are_the_same_set() -> None:
    """No alert without a runbook, no runbook of an alert that is gone, no name twice."""
    runbooks = sorted(path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md"))
    assert runbooks == sorted(NAMES)
    assert len(NAMES) == len(set(NAMES))


def test_every_alert_is_tried_firing_and_silent() -> None:
    """The unit tests of the rules hold a case of each kind for each alert, on series that a worker shows."""
    checks = [check for case in CASES for check in case["alert_rule_test"]]
    firing = {check["alertname"] for check in checks if check["exp_alerts"]}
    silent = {check["alertname"] for check in checks if not check["exp_alerts"]}
    inputs = [entry["series"] for case in CASES for entry in case["input_series"]]
    assert firing == set(NAMES)
    assert silent == set(NAMES)
    assert [] == [fault for text in inputs for fault in faults(text)]


def test_the_limit_of_users_is_that_of_the_settings() -> None:
    """The threshold is nine tenths of the default of NUDGE_MAX_USERS."""
    (rule,) = (rule for rule in RULES if rule["alert"] == "NudgeUsersNearLimit")
    assert 0.9 * Settings.model_fields["max_users"].default == float(rule["expr"].rpartition(">")[2])


def test_prometheus_scrapes_the_job_that_the_alerts_ask_for() -> None:
    """Rule file, job name and port belong together."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    asked = {
        value
        for rule in RULES
        for selector in names_of(rule["expr"]).selectors
        for label, _, value in selector.matchers
        if label == "job"
    }
    assert ["alerts.yml"] == config["rule_files"]
    assert asked <= set(jobs)
    assert [f"worker:{Settings.model_fields['metrics_port'].default}"] == jobs["nudge"]


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    """Prometheus' own tool reads the files, and every case of the unit tests holds."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr
