"""The dashboard answers an operator's questions with metrics that exist, on any data source."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.runtime.metrics import METRICS
from tests.deploy.metric_names import faults, series
from tests.deploy.promql import names_of

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
COLUMNS = 24


def plain(expression: str) -> str:
    """An expression with Grafana's variables filled in."""
    return (
        expression.replace("$__rate_interval", "5m").replace("$job", "nudge").replace("$instance", "worker")
    )


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_names_what_a_worker_shows(panel: dict[str, Any]) -> None:
    """Metrics, labels and label values exist, and a legend shows labels that the series still has."""
    for target in panel["targets"]:
        names = names_of(plain(target["expr"]))
        assert [] == faults(plain(target["expr"]))
        labels = names.grouped or series()[names.selectors[0].metric]
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_follows_the_variables(panel: dict[str, Any]) -> None:
    """Every selector asks for the chosen job and workers, every query goes to the chosen data source."""
    for target in panel["targets"]:
        for selector in names_of(target["expr"]).selectors:
            assert {("job", "=", "$job"), ("instance", "=~", "$instance")} <= set(selector.matchers)
        assert {"type": "prometheus", "uid": "${datasource}"} == target["datasource"] == panel["datasource"]
    assert panel["description"].endswith(".")


def test_each_row_is_a_question() -> None:
    """The rows are the questions of an operator, in the order in which one asks them."""
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert [
        "Is it alive, and does it keep up?",
        "What comes in?",
        "What goes out, and why not?",
        "What do messages cause?",
        "Do the models learn?",
        "How fresh?",
    ] == rows


def test_every_metric_is_shown() -> None:
    """A metric that nobody looks at is not worth its name."""
    shown = {
        selector.metric
        for panel in PANELS
        for target in panel["targets"]
        for selector in names_of(plain(target["expr"])).selectors
    }
    unseen = [
        spec.full_name for spec in METRICS if not any(name.startswith(spec.full_name) for name in shown)
    ]
    assert [] == unseen


def test_it_can_be_provisioned() -> None:
    """Fixed uid, no id of one Grafana, a variable for the data source, a provider that finds it."""
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    (provider,) = yaml.safe_load(
        (GRAFANA / "provisioning" / "dashboards" / "nudge.yaml").read_text(encoding="utf-8")
    )["providers"]
    (source,) = yaml.safe_load(
        (GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text(encoding="utf-8")
    )["datasources"]
    mounts = dict(mount.split(":")[:2] for mount in compose["services"]["grafana"]["volumes"])
    assert "nudge-worker" == DASHBOARD["uid"]
    assert "id" not in DASHBOARD
    assert "datasource" == DASHBOARD["templating"]["list"][0]["type"]
    assert mounts["./grafana/dashboard.json"].startswith(provider["options"]["path"] + "/")
    assert source["url"].strip("${}") in compose["services"]["grafana"]["environment"]


def test_panels_do_not_overlap() -> None:
    """Each panel has its own place on the grid, and ids are unique."""
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert grid["x"] + grid["w"] <= COLUMNS
        assert not places & cells, panel["title"]
        places |= cells
    assert len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})


def test_a_difference_may_be_negative() -> None:
    """A panel of what may lie below 0 does not end there: a campaign that does harm is seen."""
    signed = re.compile(r"nudge_lift_conversion_rate|nudge_challenger_(log_wealth|gain)|\} - | - sum")
    panels = [p for p in PANELS if any(signed.search(target["expr"]) for target in p["targets"])]
    assert {"Lift, with bounds that always hold", "Conversion rate, treated minus held out"} <= {
        panel["title"] for panel in panels
    }
    assert [] == [panel["title"] for panel in panels if "min" in panel["fieldConfig"]["defaults"]]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_reads_every_expression(tmp_path: Path) -> None:
    """Wrapped into recording rules, all expressions are valid PromQL."""
    expressions = [plain(target["expr"]) for panel in PANELS for target in panel["targets"]]
    rules = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(expressions)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr
