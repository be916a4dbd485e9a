"""Results of a long run: kept in a file as they come, and written as a table into a document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["keep", "read_kept", "write_between"]


def read_kept(path: Path | None) -> dict[str, Any]:
    """What a run that was stopped has kept; nothing without a file."""
    if path is None or not path.is_file():
        return {}
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def keep(path: Path | None, results: dict[str, Any]) -> None:
    """Keep all results so far, where a file is named."""
    if path is not None:
        path.write_text(json.dumps(results, indent=1), encoding="utf-8")


def write_between(path: Path, text: str, marks: tuple[str, str]) -> None:
    """Put a text between the marks of a document."""
    begin, end = marks
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")
