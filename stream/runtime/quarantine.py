"""Find the one record that the engine fails on, so that it can be passed by and the rest processed.

A batch that failed twice is run record by record; a record that then fails alone is the culprit. Failures of
the broker never count: they say nothing about a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.runtime.transport import LogRecord

__all__ = ["Suspects"]

FAILURES: Final = 2


@dataclass(slots=True)
class _Span:
    first: int
    last: int
    failures: int = 1


class Suspects:
    """Per partition, the offsets among which the engine failed."""

    def __init__(self) -> None:
        self._spans: dict[int, _Span] = {}

    def batch_size(self, partition: int, offset: int, usual: int) -> int:
        """How many records to run together from ``offset`` on."""
        span = self._spans.get(partition)
        if span is None or span.failures < FAILURES or not span.first <= offset <= span.last:
            return usual
        return 1

    def is_culprit(self, partition: int, batch: Sequence[LogRecord]) -> bool:
        """Whether this one record failed alone."""
        span = self._spans.get(partition)
        return (
            span is not None and len(batch) == 1 and span.failures > FAILURES and span.last == batch[0].offset
        )

    def failed(self, partition: int, batch: Sequence[LogRecord]) -> None:
        """Note that the engine raised on a batch."""
        first, last = batch[0].offset, batch[-1].offset
        span = self._spans.get(partition)
        if span is None or not span.first <= first <= span.last:
            self._spans[partition] = _Span(first, last)
            return
        span.first, span.last = first, last
        span.failures += 1

    def passed(self, partition: int, batch: Sequence[LogRecord]) -> None:
        """Note that a batch was committed."""
        span = self._spans.get(partition)
        if span is not None and batch[-1].offset >= span.last:
            del self._spans[partition]
