"""Sequential co-occurrence: the sums of its definition, in bounded rows, with exact undo."""

from __future__ import annotations

import math
import random
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.cooccurrence import SequentialCooccurrence
from online_models.fold import ModelSet
from online_models.kernels.cooccurrence import worst_case
from online_models.vocabulary import Vocabulary

BETA = 0.3
Stream = list[tuple[int, str, float]]
STREAMS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("abcdefghijkl"), st.floats(0, 2e5)), min_size=1, max_size=60
)


def fresh(
    max_rows: int = 50, slots: int = 40, pruned: int = 20, half_life_s: float = math.inf
) -> tuple[SequentialCooccurrence, ModelSet]:
    """A model and its set."""
    vocabulary = Vocabulary(max_rows)
    model = SequentialCooccurrence(vocabulary, slots, pruned, ring=4, beta=BETA, half_life_s=half_life_s)
    return model, ModelSet([model], vocabulary)


def feed(model: SequentialCooccurrence, stream: Stream, histories: dict[int, list[str]]) -> None:
    """Learn a stream of (user, item, time), keeping each user's history."""
    for user, item, at in stream:
        model.learn_one(item, histories[user], at)
        histories[user] = [item, *histories[user]][:6]


def learned(stream: Stream, **settings: float) -> tuple[SequentialCooccurrence, ModelSet]:
    """A model after one committed batch."""
    model, models = fresh(**settings)  # type: ignore[arg-type]
    models.begin()
    feed(model, stream, defaultdict(list))
    models.keep()
    return model, models


def clear_scores(stream: Stream, history: list[str]) -> dict[str, float]:
    """The definition with dicts, without bounds: (F + B / 2) / (c + 2)^.1 for every item."""
    c: dict[str, float] = defaultdict(float)
    forward: dict[tuple[str, str], float] = defaultdict(float)
    backward: dict[tuple[str, str], float] = defaultdict(float)
    histories: dict[int, list[str]] = defaultdict(list)
    for user, item, _ in stream:
        c[item] += 1.0
        for age, other in enumerate(histories[user][:4]):
            if other != item:
                forward[other, item] += math.exp(-BETA * age)
                backward[item, other] += math.exp(-BETA * age)
        histories[user] = [item, *histories[user]][:6]
    scores = {}
    for item in tuple(c):
        total = 0.0
        for age, other in enumerate(history[:4]):
            pair = forward[other, item] + 0.5 * backward[other, item]
            total += math.exp(-BETA * age) * pair / (c[other] + 2.0)
        if total > 0:
            scores[item] = total / (c[item] + 2.0) ** 0.1
    return scores


def test_one_pair_by_hand() -> None:
    """After bread, butter: C = 1, each counted once: the score is 1 / 3 / 3^.1, and backward half of it."""
    model, _ = learned([(0, "bread", 0.0), (0, "butter", 1.0)])

    [(item, score)] = model.top(["bread"], 2.0, 5)
    assert "butter" == item
    assert score == pytest.approx(1 / 3 / 3**0.1, rel=1e-7)
    [(item, score)] = model.top(["butter"], 2.0, 5)
    assert "bread" == item
    assert score == pytest.approx(0.5 / 3 / 3**0.1, rel=1e-7)


@given(STREAMS, st.lists(st.sampled_from("abcdefghijkl"), max_size=4))
def test_equals_the_definition_while_rows_have_room(stream: Stream, history: list[str]) -> None:
    """Packed rows give the sums that dicts give, to float32 precision."""
    model, _ = learned(stream)
    expected = clear_scores(stream, history)

    actual = dict(model.top(history, 2e5, 100))
    assert expected.keys() == actual.keys()
    for item, score in expected.items():
        assert actual[item] == pytest.approx(score, rel=1e-5)


def test_forgetting_halves_counts_and_pairs() -> None:
    """One half-life later C = .5 and c = .5: the score is (.5 / 2.5) / 3^.1, at any landmark."""
    for start in (0.0, 1e9):
        model, _ = learned([(0, "a", start), (0, "b", start)], half_life_s=100.0)

        [(_, score)] = model.top(["a"], start + 100.0, 1)
        assert score == pytest.approx(0.5 / 2.5 / 3**0.1, rel=1e-5)


def test_landmarks_pass_without_a_trace() -> None:
    """An old pair fades to nothing over many half-lives, a new one counts in full."""
    stream = [(0, "a", 0.0), (0, "b", 1.0), (1, "a", 1e6), (1, "c", 1e6)]
    model, _ = learned(stream, half_life_s=100.0)
    scores = dict(model.top(["a"], 1e6, 5))

    assert scores["c"] == pytest.approx(1 / 3 / 3**0.1, rel=1e-5)
    assert scores.get("b", 0.0) < 1e-30


def test_full_row_keeps_the_strongest() -> None:
    """When a row of 4 overflows, the 2 strongest stay and the new one joins them."""
    model, models = fresh(slots=4, pruned=2)
    models.begin()
    model.learn_one("a", [], 0.0)
    for times, item in [(3, "b"), (1, "c"), (2, "d"), (1, "e"), (1, "f")]:
        for _ in range(times):
            model.learn_one(item, ["a"], 0.0)
    models.keep()

    assert {"b", "d", "f"} == {item for item, _ in model.top(["a"], 0.0, 10)}


def test_evicted_neighbour_leaves_no_ghost() -> None:
    """An item that takes over a row does not inherit the row's neighbours, nor its place in other rows."""
    model, _ = learned([(0, "a", 1.0), (0, "b", 2.0), (1, "a", 3.0), (2, "c", 4.0)], max_rows=2)

    assert "b" not in model.vocabulary
    assert [] == model.top(["a"], 5.0, 5)
    assert [] == model.top(["c"], 5.0, 5)


def test_new_item_does_not_inherit_a_pair() -> None:
    """Butter's row passes to cake; cake after bread once counts once, whatever butter had there."""
    stream = [(0, "bread", 1.0), (0, "butter", 2.0), (1, "bread", 3.0), (2, "cake", 4.0), (1, "cake", 5.0)]
    model, _ = learned(stream, max_rows=2)

    [(item, score)] = model.top(["bread"], 6.0, 5)
    assert "cake" == item
    assert score == pytest.approx(1 / 4 / 4**0.1, rel=1e-6)


@given(STREAMS, STREAMS, st.integers(3, 12), st.sampled_from([math.inf, 500.0]))
def test_rollback_restores_the_bits(kept: Stream, undone: Stream, max_rows: int, half_life_s: float) -> None:
    """Undo is exact through prunes, evictions and rebases; the future is the same too."""
    model, models = learned(kept, max_rows=max_rows, slots=4, pruned=2, half_life_s=half_life_s)
    before = models.digest()
    arrays = {key: array.tobytes() for key, array in models.snapshot().items()}
    models.begin()
    feed(model, undone, defaultdict(list))
    models.rollback()

    assert before == models.digest()
    assert arrays == {key: array.tobytes() for key, array in models.snapshot().items()}


@given(STREAMS, st.integers(3, 12))
def test_snapshot_then_the_same_future(stream: Stream, max_rows: int) -> None:
    """A restored model learns on as the original does."""
    model, models = learned(stream, max_rows=max_rows, slots=4, pruned=2)
    other_model, other = fresh(max_rows=max_rows, slots=4, pruned=2)
    other.restore(models.snapshot())
    assert models.digest() == other.digest()
    for one, its_models in ((model, models), (other_model, other)):
        its_models.begin()
        feed(one, stream, defaultdict(list))
        its_models.keep()

    assert models.digest() == other.digest()


def test_undo_log_grows_with_the_batch() -> None:
    """A batch that writes more cells than the log was made for is undone like a short one."""
    model, models = fresh(slots=8, pruned=4)
    before = models.digest()
    models.begin()
    stream = [(n % 3, f"i{n % 40}", float(n)) for n in range(3000)]
    feed(model, stream, defaultdict(list))
    assert len(model._log) > 4 * model._worst
    models.rollback()

    assert before == models.digest()


@pytest.mark.parametrize(
    "settings", [{"pruned": 40}, {"pruned": 0}, {"ring": 0}, {"beta": -1.0}, {"half_life_s": 0.0}]
)
def test_impossible_bounds_are_refused(settings: dict[str, float]) -> None:
    """Bounds that cannot work are errors at construction."""
    with pytest.raises(ValueError, match="are needed"):
        SequentialCooccurrence(Vocabulary(2), **{"slots": 40, **settings})  # type: ignore[arg-type]


def test_self_pairs_are_skipped() -> None:
    """An item that follows itself teaches its count alone."""
    model, _ = learned([(0, "a", 0.0), (0, "a", 1.0)])

    assert [] == model.top(["a"], 2.0, 5)
    assert 2.0 == model.heads[0, 1]
    assert not np.any(model.cells)


@pytest.mark.parametrize("key", ["heads", "refs", "cells"])
def test_a_snapshot_whose_parts_do_not_fit_is_refused(key: str) -> None:
    """Nothing is read or written behind the end of an array, and the model stays what it was."""
    _, models = learned([(0, item, 1.0) for item in "abcabd"])
    other_model, other = learned([(1, item, 1.0) for item in "xyz"])
    arrays, before = models.snapshot(), other.digest()

    with pytest.raises(ValueError, match="a snapshot of"):
        other_model.restore(
            {
                name.removeprefix("cooccurrence/"): array[:-1] if name.endswith(key) else array
                for name, array in arrays.items()
                if name.startswith("cooccurrence/")
            }
        )
    assert before == other.digest()


def test_a_snapshot_with_more_neighbours_than_a_row_takes_is_refused() -> None:
    """Lengths are checked against the room before anything is copied."""
    model, models = learned([(0, item, 1.0) for item in "abcabd"])
    arrays = {name.removeprefix("cooccurrence/"): array for name, array in models.snapshot().items()}
    heads = arrays["heads"].copy()
    heads[:, 0] = [41.0, -1.0, *heads[2:, 0]]
    with pytest.raises(ValueError, match="there is room for"):
        model.restore({**arrays, "heads": heads})


@pytest.mark.parametrize(("slots", "pruned", "ring"), [(20, 19, 10), (20, 10, 16), (8, 7, 16), (4, 3, 2)])
def test_an_event_writes_no_more_cells_than_are_counted_with(slots: int, pruned: int, ring: int) -> None:
    """The log for undoing has room for so many: numba checks no index."""
    rng, vocabulary = random.Random(slots), Vocabulary(400)
    model = SequentialCooccurrence(vocabulary, slots=slots, pruned=pruned, ring=ring, half_life_s=86_400.0)
    hot, most, at = [f"h{n}" for n in range(ring)], 0, 0.0
    for n in range(2000):
        vocabulary.begin()
        model.begin()
        at += 86_400.0 * (40.0 if n % slots == 0 else 0.02)
        others = [f"x{(n * 7 + k) % 300}" for k in range(ring)]
        item, history = (f"x{n % 300}", hot) if rng.random() < 0.5 else (rng.choice(hot), others)
        model.learn_one(item, history, at=at)
        most = max(most, int(model._log[0, 0]))
        model.keep()
        vocabulary.keep()

    assert worst_case(ring, slots, pruned) / 4 < most <= worst_case(ring, slots, pruned)
