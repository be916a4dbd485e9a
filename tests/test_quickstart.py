"""The README's quickstart is run as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def quickstart() -> str:
    """Commands of the README's block marked ``sh quickstart``."""
    [block] = re.findall(r"```sh quickstart\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    return str(block)


def test_the_quickstart_runs_as_printed(tmp_path: Path) -> None:
    """Every command but the set-up, in a fresh folder that has what the checkout has."""
    script = quickstart()
    assert script.startswith("make setup\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "nudge").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stream "$@"\n')
    (tmp_path / ".venv" / "bin" / "nudge").chmod(0o755)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUDGE_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.removeprefix("make setup\n")],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert 0 == done.returncode, done.stderr.decode()

    first_trigger = json.loads(done.stdout.splitlines()[-1])
    report = json.loads((tmp_path / "results" / "report.json").read_bytes())

    assert first_trigger["campaign_id"] in report["campaigns"]
    for funnel in report["campaigns"].values():
        assert funnel["eligible"] == funnel["sent"] + sum(funnel["suppressed"].values())
        assert funnel["sent"] > 0
        assert {"no_consent", "cooldown"} <= set(funnel["suppressed"])
