"""How long the fault tests run, and the figures each leaves behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

LONG: Final = os.environ.get("NUDGE_CHAOS") == "long"
SEED: Final = int(os.environ.get("NUDGE_CHAOS_SEED", "1"))


def size(ci: int, long: int) -> int:
    """Choose a count: small for each run of the tests, large where ``NUDGE_CHAOS=long``."""
    return long if LONG else ci


def report(test: str, **figures: float | str | list[float] | list[str]) -> None:
    """Print a test's figures as one line of JSON, and append it to the file ``NUDGE_CHAOS_REPORT``."""
    line = json.dumps({"test": test, "seed": SEED, "long": LONG, **figures})
    print(line)  # noqa: T201  what a fault test saw belongs beside its verdict
    if path := os.environ.get("NUDGE_CHAOS_REPORT"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
