"""The way of a worker's models: what each batch notes leads back to the start without a gap."""

from __future__ import annotations

from stream.runtime.foldpath import MAX_STEPS, FoldPath


def test_of_overlapping_batches_the_one_that_began_last_counts() -> None:
    """B begins after A and commits first: C counts from B; that A commits then changes nothing."""
    path = FoldPath()
    path.took("r", 0, 5)
    a = path.read()
    path.took("f", 1, 3)
    b = path.read()
    path.took("f", 1, 6)
    path.committed(b, 2, 40)
    path.took("o", 2, 9)
    path.committed(a, 3, 50)
    assert b"start r0:5" == a.text
    assert b"start r0:5 f1:3" == b.text
    assert b"2:40 f1:6 o2:9" == path.read().text


def test_a_step_that_a_batch_has_read_is_not_drawn_out() -> None:
    """Neighbouring deltas of a partition are one step, but what was read stays; own ones never are."""
    path = FoldPath()
    path.restored("s7")
    path.took("f", 0, 2)
    path.took("f", 0, 4)
    path.read()
    path.took("f", 0, 6)
    path.took("o", 1, 1)
    path.took("o", 1, 3)
    assert b"start:s7 f0:4 f0:6 o1:1 o1:3" == path.read().text


def test_a_worker_that_commits_nothing_keeps_a_bounded_way() -> None:
    """Beyond the bound nothing is kept and nothing is claimed."""
    path = FoldPath()
    for n in range(2 * MAX_STEPS):
        path.took("f", n % 2, n)
    reading = path.read()
    path.committed(reading, 0, 1)
    assert (b"?", b"?") == (reading.text, path.read().text)
