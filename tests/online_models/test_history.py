"""Rows of a history are those of the vocabulary, however it was asked before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from online_models.history import HistoryRows
from online_models.vocabulary import Vocabulary

ITEMS = st.sampled_from("abcdefg")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("touch"), ITEMS),
        st.tuples(st.just("push"), ITEMS),
        st.tuples(st.just("read"), st.lists(ITEMS, max_size=7).map("".join)),
        st.tuples(st.just("roll back"), st.just("")),
    ),
    max_size=40,
)


@given(STEPS)
def test_rows_are_looked_up_or_just_as_if(steps: list[tuple[str, str]]) -> None:
    """Admissions, evictions, rollbacks and one item in front: the rows are those of a look-up."""
    vocabulary = Vocabulary(max_rows=3)
    vocabulary.begin()
    rows, history = HistoryRows(vocabulary, 5), list("ab")
    for at, (what, items) in enumerate(steps):
        if what == "touch":
            vocabulary.touch(items, float(at))
        elif what == "push":
            history = [items, *history]
        elif what == "read":
            history = list(items)
        else:
            vocabulary.rollback()
            vocabulary.begin()
        found, n, complete = rows.read(history)

        assert min(5, len(history)) == n
        assert vocabulary.rows(history[:5]) == found[:n].tolist()
        assert complete == (-1 not in found[:n])


def test_a_list_that_its_owner_changed_is_read_anew() -> None:
    """What was read is kept by value: the same list object may hold other items now."""
    vocabulary = Vocabulary(3)
    vocabulary.begin()
    vocabulary.touch("a", 0.0)
    vocabulary.touch("b", 1.0)
    rows, history = HistoryRows(vocabulary, 5), ["a"]
    rows.read(history)
    history[0] = "b"
    found, n, _ = rows.read(history)

    assert [1] == found[:n].tolist()


def test_rows_that_were_taken_back_are_looked_up_though_others_have_them() -> None:
    """After a rollback other items came into the same rows: what was read of the first no longer stands."""
    vocabulary = Vocabulary(4)
    rows = HistoryRows(vocabulary, 5)
    vocabulary.begin()
    vocabulary.touch("a", 0.0)
    rows.read(["a"])
    vocabulary.rollback()
    vocabulary.begin()
    vocabulary.touch("b", 1.0)
    found, n, complete = rows.read(["a"])

    assert [-1] == found[:n].tolist()
    assert not complete
