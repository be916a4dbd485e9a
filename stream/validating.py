"""Validate a file before it meets the engine: what it holds, and of events what would be rejected and why."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from schemas.codec import UNREADABLE, Rejected, decode
from schemas.events import EVENT_NAMES
from schemas.reasons import EventKind
from stream.reading import open_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Kind", "kind_of", "validate_events"]

Kind = Literal["events", "campaigns", "catalogue", "offers"]
_OF_FIELD: Final[dict[str, Kind]] = {
    "campaign_id": "campaigns",
    "segment_id": "campaigns",
    "item_id": "catalogue",
    "offer_id": "offers",
}
MAX_EXAMPLES = 3
MAX_NAMES = 100


def kind_of(path: Path) -> Kind:
    """Return what a file or folder holds, by its ending and its first record: events, if neither tells.

    Raises
    ------
    BadFileError
        The file cannot be read.
    """
    if path.is_dir() or path.suffix in {".yaml", ".yml"}:
        return "campaigns"
    first = next((line for line in open_lines(path) if line.strip()), b"")
    try:
        record = msgspec.json.decode(first)
    except UNREADABLE:
        record = [] if first[:1] in {b"{", b"["} else None  # JSON over several lines
    if isinstance(record, list) and path.suffix == ".json":
        return "campaigns"
    if not isinstance(record, dict) or "event" in record:
        return "events"
    return next((kind for field, kind in _OF_FIELD.items() if field in record), "events")


def validate_events(path: Path, progress: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Decode every line of a file of events; nothing is kept but counts and a few examples.

    Returns
    -------
    dict
        ``read``, ``valid``, ``rejected`` (code -> count), ``faulty`` (the same of valid ones that count
        although their records are faulty), ``examples`` (code -> a few lines with their path and message),
        ``unknown`` (event name -> count and the nearest known name), ``out_of_order`` (lines
        whose time is before the line above) and the first and last event time.

    Raises
    ------
    BadFileError
        The file cannot be read.
    """
    rejected: Counter[str] = Counter()
    faulty: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    examples: dict[str, list[dict[str, Any]]] = {}
    read = valid = out_of_order = 0
    first = last = previous = None
    for number, line in enumerate(open_lines(path), 1):
        read += 1
        if progress is not None and read % 10_000 == 0:
            progress(read)
        event = decode(line)
        if fault := event if isinstance(event, Rejected) else event.fault:
            (rejected if fault is event else faulty)[fault.code.value] += 1
            shown = examples.setdefault(fault.code.value, [])
            if len(shown) < MAX_EXAMPLES:
                shown.append({"line": number, "path": fault.path, "message": fault.message})
        if isinstance(event, Rejected):
            continue
        valid += 1
        if event.kind is EventKind.UNKNOWN and (event.name in unknown or len(unknown) < MAX_NAMES):
            unknown[event.name] += 1
        out_of_order += previous is not None and event.time < previous
        previous = event.time
        first = event.time if first is None else min(first, event.time)
        last = event.time if last is None else max(last, event.time)
    return {
        "read": read,
        "valid": valid,
        "rejected": dict(sorted(rejected.items())),
        "faulty": dict(sorted(faulty.items())),
        "examples": dict(sorted(examples.items())),
        "unknown": {
            name: {"count": n, "nearest": next(iter(difflib.get_close_matches(name, EVENT_NAMES, n=1)), None)}
            for name, n in unknown.most_common()
        },
        "out_of_order": out_of_order,
        "first_time": first,
        "last_time": last,
    }
