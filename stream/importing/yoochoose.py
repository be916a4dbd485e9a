"""YOOCHOOSE clicks (RecSys Challenge 2015) as session-rec prepares them: anonymous sessions.

Tab separated with a header: ``SessionId ItemId Time`` (seconds, with a fraction).
"""

from __future__ import annotations

from collections.abc import Iterator

from stream.importing.canonical import Intake, Reason, Timed, encode_event, epoch_ms
from stream.importing.columns import tab_fields, table
from stream.importing.lines import Line

__all__ = ["yoochoose_events"]

_COLUMNS = {"session": ("SessionId",), "item": ("ItemId",), "time": ("Time",)}


def yoochoose_events(lines: Iterator[Line], intake: Intake) -> Iterator[Timed]:
    """Translate the lines of a click file, in file order; the session is the anonymous visitor."""
    for line_number, (session_id, item_id, time_text) in table(lines, intake, tab_fields, _COLUMNS):
        if not (session_id and item_id and time_text):
            intake.reject(Reason.MISSING_FIELD)
            continue
        time_ms = epoch_ms(time_text)
        if time_ms is None:
            intake.reject(Reason.BAD_TIME)
            continue
        if not intake.admit(time_ms):
            continue
        intake.see(item_id, time_ms)
        yield Timed(
            time_ms,
            encode_event(
                intake.message_id(line_number),
                {"anonymousId": session_id},
                time_ms,
                "Product Viewed",
                {"product_id": item_id},
            ),
        )
