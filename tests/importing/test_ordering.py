"""Events in order of time, however many: a stable sort, and an error where a disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.importing import ordering
from stream.importing.canonical import Timed
from stream.importing.ordering import ordered


@given(times=st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 3), max_size=50))
def test_the_order_is_that_of_a_stable_sort(times: list[int]) -> None:
    """By time; what has the same time stays in its order; count, first and last are those of the events."""
    events = [Timed(time_ms, b"%d" % n) for n, time_ms in enumerate(times)]
    with ordered(iter(events)) as found:
        assert [one.event for one in sorted(events, key=lambda one: one.time_ms)] == list(found.events)
        assert (len(times), min(times, default=None), max(times, default=None)) == (
            found.count,
            found.first_ms,
            found.last_ms,
        )


def test_a_full_disk_is_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a kind that the command line ends on with a sentence."""
    setup = [*ordering._SET_UP[:-1], "PRAGMA max_page_count = 100", ordering._SET_UP[-1]]
    monkeypatch.setattr(ordering, "_SET_UP", setup)
    many = (Timed(n, b"x" * 1000) for n in range(1000))

    with pytest.raises(OSError, match=r"sorting needs temporary files \(TMPDIR\)"), ordered(many):
        pass


def test_an_error_of_the_source_comes_through() -> None:
    """A damaged file is told of as such."""

    def broken() -> Iterator[Timed]:
        yield Timed(1, b"x")
        raise EOFError("cut off")

    with pytest.raises(EOFError, match="cut off"), ordered(broken()):
        pass


def test_events_are_read_one_by_one() -> None:
    """Not all at once: memory does not grow with them."""
    with ordered(Timed(-n, b"%d" % n) for n in range(100)) as found:
        assert [b"99", b"98"] == list(islice(found.events, 2))
