"""The record to blame is found alone, after few failures, and nobody else is."""

from __future__ import annotations

from aiokafka import ConsumerRecord

from stream.runtime.quarantine import Suspects
from stream.runtime.transport import LogRecord


def _records(first: int, last: int) -> list[LogRecord]:
    return [
        ConsumerRecord("t", 0, offset, 0, 1, None, b"", None, -1, 0, ()) for offset in range(first, last + 1)
    ]


def _run(suspects: Suspects, bad: set[int], end: int) -> tuple[list[int], int]:
    """Drive a partition as the plane does; return quarantined offsets and the number of failures."""
    position, quarantined, failures = 0, [], 0
    while position < end:
        size = suspects.batch_size(0, position, usual=10)
        batch = _records(position, min(position + size, end) - 1)
        if suspects.is_culprit(0, batch):
            quarantined.append(position)
        elif bad & {record.offset for record in batch}:
            suspects.failed(0, batch)
            failures += 1
            assert failures < 100, "no progress"
            continue
        suspects.passed(0, batch)
        position = batch[-1].offset + 1
    return quarantined, failures


def test_a_culprit_is_found_after_three_failures() -> None:
    """One bad record of forty: two failures of its batch, one alone, then it is passed by."""
    assert ([17], 3) == _run(Suspects(), {17}, 40)


def test_each_culprit_is_found() -> None:
    """Several, next to one another, first and last: exactly they are passed by."""
    bad = {0, 4, 5, 29, 39}
    assert sorted(bad) == _run(Suspects(), bad, 40)[0]


def test_a_failure_that_does_not_come_back_blames_nobody() -> None:
    """A batch that failed once and then passes leaves the batch size as it was."""
    suspects = Suspects()
    suspects.failed(0, _records(0, 9))
    assert 10 == suspects.batch_size(0, 0, usual=10)
    suspects.passed(0, _records(0, 9))
    assert not suspects.is_culprit(0, _records(0, 0))


def test_partitions_are_apart() -> None:
    """A suspect of one partition slows no other down."""
    suspects = Suspects()
    for _ in range(2):
        suspects.failed(0, _records(0, 9))
    assert (1, 10) == (suspects.batch_size(0, 3, 10), suspects.batch_size(1, 3, 10))
