"""The vocabulary: bounded, exact under undo, and never changed by a look."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.delta import DeltaError, DeltaWriter, read_delta
from online_models.vocabulary import Vocabulary

Uses = list[tuple[str, float]]
USES = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 100)), max_size=40)


def used(*uses: tuple[str, float], max_rows: int = 3) -> Vocabulary:
    """A vocabulary after committed uses."""
    vocabulary = Vocabulary(max_rows)
    vocabulary.begin()
    for item_id, at in uses:
        vocabulary.touch(item_id, at)
    vocabulary.keep()
    return vocabulary


def state(vocabulary: Vocabulary) -> dict[str, object]:
    """All that a rollback has to bring back."""
    arrays = {key: array.tolist() for key, array in vocabulary.snapshot().items()}
    return {**arrays, "rows": dict(vocabulary._rows), "order": vocabulary.order.tolist()}


def test_least_recently_used_goes() -> None:
    """When all rows are taken, the item whose last use is oldest by event time loses its row."""
    vocabulary = used(("a", 5.0), ("b", 1.0), ("c", 3.0), ("d", 9.0))

    assert "b" not in vocabulary
    assert [0, 1, 2] == vocabulary.rows(["a", "d", "c"])


def test_tie_goes_to_the_lowest_row() -> None:
    """Of items last used at one time, the one in the lowest row is evicted."""
    assert [-1, 1, 2, 0] == used(("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 1.0)).rows("abcd")


def test_late_use_does_not_make_an_item_older() -> None:
    """A late event never moves a last use back."""
    assert "a" in used(("a", 5.0), ("b", 2.0), ("c", 3.0), ("a", 0.0), ("d", 4.0))


def test_reference_is_void_after_eviction() -> None:
    """A kept reference does not name the next item of the row."""
    vocabulary = used(("a", 1.0), max_rows=1)
    reference = vocabulary.reference("a")
    vocabulary.begin()
    vocabulary.touch("b", 2.0)

    assert vocabulary.referred(reference) is None
    assert "b" == vocabulary.referred(vocabulary.reference("b"))


def test_models_clear_a_row_before_it_changes_hands() -> None:
    """A subscriber is told the row while it still belongs to the old item."""
    vocabulary = used(("a", 1.0), max_rows=1)
    told: list[tuple[int, str]] = []
    vocabulary.subscribe(lambda row: told.append((row, vocabulary.item_id(row))))
    vocabulary.begin()
    vocabulary.touch("b", 2.0)

    assert [(0, "a")] == told


def test_looking_up_never_admits() -> None:
    """Unknown ids have row −1 and leave nothing behind."""
    vocabulary = used(("a", 1.0))
    before = state(vocabulary)

    assert -1 == vocabulary.row("zzz")
    assert -1 == vocabulary.reference("zzz")
    assert before == state(vocabulary)


@given(USES, USES)
def test_rollback_undoes_admissions_evictions_and_uses(kept: Uses, undone: Uses) -> None:
    """After a rollback everything is as it was at begin, whatever was used in between."""
    vocabulary = used(*kept)
    before = state(vocabulary)
    vocabulary.begin()
    for item_id, at in undone:
        vocabulary.touch(item_id, at)
    vocabulary.rollback()

    assert before == state(vocabulary)


@given(USES, st.integers(0, 40))
def test_points_of_eviction_do_not_depend_on_batches(uses: Uses, cut: int) -> None:
    """One batch or two: the same rows, generations and last uses."""
    parts = used(*uses[:cut])
    parts.begin()
    for item_id, at in uses[cut:]:
        parts.touch(item_id, at)
    parts.keep()

    assert state(used(*uses)) == state(parts)


@given(USES, USES)
def test_replay_of_a_delta_repeats_the_batch(kept: Uses, learned: Uses) -> None:
    """Folding the written uses gives the state that the batch gave."""
    writer, reader = used(*kept), used(*kept)
    writer.begin()
    for item_id, at in learned:
        writer.touch(item_id, at)
    delta = DeltaWriter("s")
    writer.write_delta(delta)
    writer.keep()
    reader.begin()
    list(reader.replay(read_delta(delta.to_bytes(), "s")))
    reader.keep()

    assert state(writer) == state(reader)


def test_snapshot_restores_the_state() -> None:
    """Ids of any alphabet, generations and last uses survive."""
    vocabulary = used(("a", 1.0), ("ü-東", 2.0), ("c", 3.0), ("d", 4.0))
    other = Vocabulary(3)
    other.restore(vocabulary.snapshot())

    assert state(vocabulary) == state(other)


def test_snapshot_that_does_not_fit_is_refused() -> None:
    """A snapshot with more ids than rows is an error, not a truncation."""
    with pytest.raises(ValueError, match="there are 2 rows"):
        Vocabulary(2).restore(used(("a", 1.0), ("b", 2.0), ("c", 3.0)).snapshot())


@pytest.mark.parametrize("at", [float("nan"), float("inf")])
def test_times_must_be_finite(at: float) -> None:
    """A time that is no number is refused before anything changes."""
    vocabulary = used(("a", 1.0))
    vocabulary.begin()
    before = state(vocabulary)

    for item_id in ("a", "new"):
        with pytest.raises(ValueError, match="finite"):
            vocabulary.touch(item_id, at)
    assert before == state(vocabulary)


def test_learning_outside_a_batch_is_refused() -> None:
    """Without begin there is no undo, so there is no use either."""
    with pytest.raises(RuntimeError, match="begin"):
        Vocabulary(3).touch("a", 1.0)


def test_two_open_batches_are_refused() -> None:
    """One batch at a time."""
    vocabulary = Vocabulary(3)
    vocabulary.begin()

    with pytest.raises(RuntimeError, match="open"):
        vocabulary.begin()


@pytest.mark.parametrize("max_rows", [0, -1, 2**31])
def test_ceiling_is_bounded(max_rows: int) -> None:
    """There is at least one row and a row fits into an int32."""
    with pytest.raises(ValueError, match="max_rows"):
        Vocabulary(max_rows)


@pytest.mark.parametrize("column", [{"item": [7], "at": [1.0]}, {"item": [0], "at": [float("nan")]}])
def test_replay_refuses_nonsense(column: dict[str, list[float]]) -> None:
    """An index outside the strings and a time that is no number are delta errors."""
    delta = DeltaWriter("s")
    delta.begin_strings(["a"])
    delta.add(
        "vocabulary", {"item": np.array(column["item"], np.int32), "at": np.array(column["at"], np.float64)}
    )
    vocabulary = Vocabulary(3)
    vocabulary.begin()

    with pytest.raises(DeltaError):
        list(vocabulary.replay(read_delta(delta.to_bytes(), "s")))
