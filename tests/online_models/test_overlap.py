"""How many others learn at the same time: counts, their memory, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from online_models.delta import DeltaError, DeltaWriter, read_delta
from online_models.overlap import BLOCK, Overlap


def counted(batches: list[tuple[int, int]]) -> Overlap:
    """Counts of batches of so many examples that began after so many."""
    overlap = Overlap("overlap")
    for n, base in batches:
        overlap.count(n, base)
    return overlap


@pytest.mark.parametrize("workers", [1, 2, 16])
def test_batches_that_begin_together_are_as_many_as_there_are(workers: int) -> None:
    """Workers that exchange batches of 50 learn beside all of the others, one worker beside none."""
    rounds = [(50, 50 * workers * k) for k in range(4) for _ in range(workers)]
    assert float(workers - 1) == counted(rounds).others


def test_a_partition_that_commits_late_counts_what_came_in_between() -> None:
    """Of three batches of 100 the last began before the second: 100 meanwhile, of 300, each pair twice."""
    assert pytest.approx(2 / 3) == counted([(100, 0), (100, 100), (100, 100)]).others


def test_a_fleet_that_shrinks_is_forgotten() -> None:
    """What was counted counts half after a block of examples, whatever batches they come in."""
    rounds = [(64, 256 * k) for k in range(BLOCK // 256) for _ in range(4)]
    before = counted(rounds).others
    after = [
        counted([*rounds, *((size, BLOCK + at) for at in range(0, 3 * BLOCK, size))]).others
        for size in (1, 64)
    ]
    assert before == pytest.approx(3.0, abs=0.05)
    assert after[0] == after[1] == pytest.approx(3.0 / 15.0, rel=0.05)


def test_who_folds_counts_as_who_learned() -> None:
    """A batch that was kept and one that was undone and folded leave the same counts."""
    learner, follower = Overlap("overlap"), Overlap("overlap")
    for n in (5, 7):
        learner.open()
        writer = DeltaWriter("spec")
        learner.write(writer, n)
        learner.keep(n)
        follower.open()
        follower.read(read_delta(writer.to_bytes(), "spec"))
        follower.keep(0)
    assert [12, 0] == learner.state().tolist() == follower.state().tolist()
    learner.open()
    learner.keep(9)
    learner.undo()
    assert [12, 0] == learner.state().tolist()


@pytest.mark.parametrize(
    "examples",
    [
        np.array([[0, 0]]),
        np.array([[1, -1]]),
        np.array([[2**53 + 1, 0]]),
        np.array([[1, 0], [1, 0]]),
        np.array([[1.0, 0.0]]),
    ],
)
def test_refuses_numbers_that_no_batch_had(examples: np.ndarray) -> None:
    """Empty and negative batches, huge ones, several and fractions count nothing."""
    overlap = Overlap("overlap")
    writer = DeltaWriter("spec")
    writer.add("overlap", {"examples": examples})
    with pytest.raises(DeltaError):
        overlap.read(read_delta(writer.to_bytes(), "spec"))
    assert [0, 0] == overlap.state().tolist()


@pytest.mark.parametrize("counts", [[1], [1, -1], [1.0, 0.0]])
def test_refuses_snapshots_that_hold_no_counts(counts: list[float]) -> None:
    """A snapshot has two whole numbers."""
    with pytest.raises(ValueError, match="two whole numbers"):
        Overlap("overlap").take_over(np.array(counts))
