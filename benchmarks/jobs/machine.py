"""Where a benchmark runs, and of which commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from benchmarks.jobs.process import ROOT


def machine() -> dict[str, object]:
    """Where this runs, and what else ran there."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return {
        "platform": platform.platform(),
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """Commit of the measured tree, with ``-dirty`` where it has changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() or "unknown"
