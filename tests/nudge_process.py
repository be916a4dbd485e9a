"""`nudge` as a process of its own, untouched by the settings around it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def nudge(
    *arguments: str | Path, stdin: bytes = b"", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUDGE_")}
    return subprocess.run(
        [sys.executable, "-m", "stream", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=180,
        env=clean | {"NUDGE_MAX_ITEMS": "1024"} | (environment or {}),
    )
