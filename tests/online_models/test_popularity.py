"""Decayed popularity: hand arithmetic, exact lists, exact undo."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models import popularity as module
from online_models.fold import ModelSet
from online_models.popularity import DecayedPopularity
from online_models.vocabulary import Vocabulary

HOUR = 3600.0
# Far enough apart that values pass several landmarks of 64 half-lives.
EVENTS = st.lists(
    st.tuples(st.sampled_from("abcdefghij"), st.floats(0, 1e6), st.floats(0.125, 8)), min_size=1, max_size=60
)


def learned(
    events: list[tuple[str, float, float]],
    max_rows: int = 50,
    half_lives_s: tuple[float, ...] = (HOUR, math.inf),
) -> tuple[DecayedPopularity, ModelSet]:
    """A model after committed events."""
    vocabulary = Vocabulary(max_rows)
    model = DecayedPopularity(vocabulary, half_lives_s)
    models = ModelSet([model], vocabulary)
    models.begin()
    for event in events:
        model.learn_one(*event)
    models.keep()
    return model, models


def clear_count(events: list[tuple[str, float, float]], item_id: str, at: float, half_life_s: float) -> float:
    """The definition: each event's weight halves with every half-life."""
    return math.fsum(
        weight * 0.5 ** ((at - then) / half_life_s) for item, then, weight in events if item == item_id
    )


def test_count_halves_with_each_half_life() -> None:
    """Three events, one half-life later 1.5; one more event then is 2.5; the plain count is 4."""
    model, _ = learned([("a", 0.0, 1.0)] * 3 + [("a", HOUR, 1.0)])

    assert 2.5 == model.count("a", HOUR, 0)
    assert 1.25 == model.count("a", 2 * HOUR, 0)
    assert 4.0 == model.count("a", 2 * HOUR, 1)
    assert 0.0 == model.count("unknown", 0.0, 0)


def test_late_event_counts_less() -> None:
    """An event an hour late adds half of its weight, and reading before the last event grows nothing back."""
    model, _ = learned([("a", HOUR, 1.0), ("a", 0.0, 1.0)])

    assert 1.5 == model.count("a", HOUR, 0)
    assert 1.5 == model.count("a", 0.0, 0)


def test_what_visits_begin_with_is_counted_apart() -> None:
    """Of three events one begins a visit, and half of it is left after 30 days; only its item is listed."""
    vocabulary = Vocabulary(5)
    model = DecayedPopularity(vocabulary, (HOUR, math.inf))
    models = ModelSet([model], vocabulary)
    models.begin()
    model.learn_one("landing", 0.0, begins=True)
    model.learn_one("landing", 0.0)
    model.learn_one("later", 0.0)
    models.keep()

    assert 0.5 == model.count("landing", 30 * 86_400.0, model.beginnings)
    assert 2.0 == model.count("landing", 30 * 86_400.0, 1)
    assert [("landing", 1.0)] == model.top(0.0, model.beginnings, 5)


@given(EVENTS)
def test_equals_the_definition(events: list[tuple[str, float, float]]) -> None:
    """Landmarks and rebases change nothing but rounding."""
    model, _ = learned(events)
    now = 1e6

    for item_id in "abcdefghij":
        for h, half_life_s in enumerate((HOUR, math.inf)):
            assert model.count(item_id, now, h) == pytest.approx(
                clear_count(events, item_id, now, half_life_s), rel=1e-9, abs=1e-300
            )


@pytest.mark.parametrize("seed", range(8))
def test_lists_are_exact_whatever_was_evicted(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of each half-life holds what a sort of all rows would give, also when it is short of room."""
    rng = np.random.Generator(np.random.Philox(seed))
    depth = 1 + seed % 3
    monkeypatch.setattr(module, "DEPTH", depth)
    monkeypatch.setattr(module, "CAPACITY", depth + 1)
    vocabulary = Vocabulary(6)
    model = DecayedPopularity(vocabulary, (HOUR, math.inf))
    vocabulary.begin()
    model.begin()
    for n in range(300):
        model.learn_one(f"i{int(20 * rng.random() ** 2)}", n * 600.0, float(rng.integers(1, 4)))
        for h in range(2):
            table = {item_id: model.table[vocabulary.row(item_id)] for item_id in vocabulary._rows}
            keys = {item_id: math.log2(row[h]) + 64.0 * row[3 + h] for item_id, row in table.items()}
            order = {item_id: vocabulary.order[vocabulary.row(item_id)] for item_id in keys}
            ranked = sorted(keys, key=lambda item_id: (-keys[item_id], order[item_id]))
            assert ranked[:depth] == [item_id for item_id, _ in model.top(0.0, h, 100)]


def test_ties_do_not_depend_on_rows() -> None:
    """Equal counts are ordered by the ids' hashes: two orders of arrival, one list."""
    items = [f"item-{n}" for n in range(20)]
    forward, _ = learned([(item, 0.0, 1.0) for item in items])
    backward, _ = learned([(item, 0.0, 1.0) for item in reversed(items)])

    assert forward.top(0.0, 1, 20) == backward.top(0.0, 1, 20)


@given(EVENTS, EVENTS, st.integers(2, 10))
def test_rollback_restores_counts_and_lists(
    kept: list[tuple[str, float, float]], undone: list[tuple[str, float, float]], max_rows: int
) -> None:
    """Undo is bit for bit, through evictions and list searches."""
    model, models = learned(kept, max_rows)
    before = models.digest(), [model.top(1e6, h, 256) for h in range(2)]
    models.begin()
    for event in undone:
        model.learn_one(*event)
    models.rollback()

    assert before == (models.digest(), [model.top(1e6, h, 256) for h in range(2)])


def test_snapshot_then_the_same_future() -> None:
    """A restored model has the digest, the lists and the future of the original."""
    events = [(f"i{n % 7}", n * 1000.0, 1.0 + n % 3) for n in range(50)]
    model, models = learned(events, max_rows=5)
    other_model, other = learned([], max_rows=5)
    other.restore(models.snapshot())

    assert models.digest() == other.digest()
    for one, its_models in ((model, models), (other_model, other)):
        its_models.begin()
        one.learn_one("new", 60_000.0)
        its_models.keep()
    assert models.digest() == other.digest()
    assert model.top(1e5, 0, 10) == other_model.top(1e5, 0, 10)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, 1e7])
def test_weights_are_positive_numbers(weight: float) -> None:
    """What cannot be counted is refused before anything changes."""
    model, models = learned([("a", 0.0, 1.0)])
    before = models.digest()
    models.begin()
    with pytest.raises(ValueError, match="positive"):
        model.learn_one("b", 0.0, weight)
    models.keep()

    assert before == models.digest()


@pytest.mark.parametrize("half_lives_s", [(), (0.0,), (-1.0,), (math.nan,)])
def test_half_lives_are_positive(half_lives_s: tuple[float, ...]) -> None:
    """A half-life of nothing is an error."""
    with pytest.raises(ValueError, match="half_lives_s"):
        DecayedPopularity(Vocabulary(2), half_lives_s)


def test_counts_stay_finite_over_decades() -> None:
    """A half-life of two hours over thirty years passes two thousand landmarks."""
    model, _ = learned([("a", year * 3.15e7, 1.0) for year in range(30)], half_lives_s=(7200.0,))

    assert np.isfinite(model.table).all()
    assert 1.0 == model.count("a", 29 * 3.15e7, 0)
