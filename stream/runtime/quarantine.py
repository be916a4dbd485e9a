"""Find the one record that the engine fails on, so that it can be passed by and the rest processed.

A batch that failed twice is run record by record; a record that then fails alone is the culprit. Where the
engine failed on what came due, it says so, and no record is to blame. Failures of the broker never count:
they say nothing about either.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.core.state import Due
    from stream.runtime.transport import LogRecord

__all__ = ["Suspects"]

FAILURES: Final = 2
MAX_DUES: Final = 64


@dataclass(slots=True)
class _Span:
    first: int
    last: int
    failures: int = 1


class Suspects:
    """Per partition, the offsets among which the engine failed, and what came due when it did."""

    def __init__(self) -> None:
        self._spans: dict[int, _Span] = {}
        self._dues: defaultdict[int, Counter[Due]] = defaultdict(Counter)

    def given_up(self, partition: int) -> list[Due]:
        """What came due and failed too often."""
        return [due for due, failures in self._dues[partition].items() if failures > FAILURES]

    def due_failed(self, partition: int, due: Due) -> None:
        """Note that the engine raised on something that came due."""
        dues = self._dues[partition]
        dues[due] += 1
        if len(dues) > MAX_DUES:
            del dues[next(iter(dues))]  # the first that failed

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
