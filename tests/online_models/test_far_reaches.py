"""What models meet only after long: sums beyond 2**53, calls beyond 2**31, rows that pass on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

from online_models.click_rate import ClickRate
from online_models.content import attribute_value, content_of
from online_models.cooccurrence import SequentialCooccurrence
from online_models.fold import ModelSet
from online_models.hybrid import LAST_CALL, OnlineBlend
from online_models.kernels import ranker
from online_models.kernels.fading import roll
from online_models.optional_source import Asker
from online_models.popularity import DecayedPopularity
from online_models.segment_popularity import SegmentPopularity
from online_models.vocabulary import Vocabulary

DAY = 86_400.0
BIG = 2**53 + 1  # the first whole number that no float64 is

rolled: Callable[..., int] = numba.njit(lambda *arguments: roll(*arguments))  # noqa: PLW0108  no door


@pytest.mark.parametrize(("behind", "older"), [(1, BIG), (2, 0)])
def test_sums_keep_all_their_bits_when_their_era_ends(behind: int, older: int) -> None:
    """A float would round them, and increments would not commute; the sum before the last is gone."""
    table = np.array([[BIG, 7, 3]], np.int64)

    assert 0 == rolled(0, 3.0 + behind, 1, 2, table)
    assert [[0, older, 3 + behind]] == table.tolist()


def test_what_a_busy_model_learns_first_in_a_new_era_can_be_folded() -> None:
    """A rounded sum would come as an increment that takes precision away, which every worker refuses."""
    model = ClickRate(2**8, half_life_s=DAY)
    models = ModelSet([model], Vocabulary(3))
    models.begin()
    for hour in range(6 * 24):
        model.learn_one({"list": "home"}, hour == 0, 1.0, at=hour * 3600.0)
    models.keep()
    sums = model._state[:, 0]
    model._state[:, :2] *= np.int64(2**54 // sums[0])  # as if each impression had been so many
    for extra in range(1, 20, 2):
        kept = model._state.copy()
        sums[sums > 0] += extra
        models.begin()
        model.learn_one({"list": "home"}, False, 1.0, at=6 * DAY + 60.0)
        delta = models.delta()
        models.rollback()
        models.fold(delta)
        model._state[:] = kept


def small_blend(**more: Any) -> tuple[OnlineBlend, ModelSet, Vocabulary]:
    """A blend of few rows, with its models open for learning."""
    vocabulary = Vocabulary(more.pop("rows", 50))
    optional = tuple(source(vocabulary) for source in more.pop("optional", ()))
    content = content_of(vocabulary) if more.pop("content", False) else None
    sources = DecayedPopularity(vocabulary), SequentialCooccurrence(vocabulary)
    blend = OnlineBlend(vocabulary, *sources, content=content, optional=optional)
    models = ModelSet(blend.models, vocabulary)
    models.begin()
    return blend, models, vocabulary


def test_slates_are_the_same_when_the_numbers_of_calls_begin_anew() -> None:
    """Marks of calls before are void by their number; none is valid any more when numbers run out."""
    blend, models, _ = small_blend()
    blend.observe("bread", [], 0.0, 1.0, False, b"")
    for item_id in ("butter", "jam"):
        blend.observe(item_id, ["bread"], 1.0, 1.0, False, b"")
    models.keep()

    def slate() -> list[str]:
        return [
            one.item_id for one in blend.propose(["bread"], 20.0, 20.0, {"butter"}, new_only=False).top(9)
        ]

    expected = slate()
    blend._call = LAST_CALL - 2
    blend._marks[:] = 0
    assert ["jam", "bread"] == expected
    assert [expected] * 5 == [slate() for _ in range(5)]
    assert 3 == blend._call


def test_a_late_item_that_its_own_category_displaces_is_not_learned_as_the_category() -> None:
    """Where all rows are in use, the category of an item whose event is the oldest takes its row."""
    blend, models, vocabulary = small_blend(rows=6, optional=[SegmentPopularity], content=True)
    asker = Asker("ann", ("vip",))

    def meet(item_id: str, at: float, *categories: str) -> None:
        values = [attribute_value("category", category) for category in categories]
        blend.observe(item_id, [], at, 1.0, False, b"", values, asker, gap_s=10.0)

    for n in range(5):
        meet(f"f{n}", 100.0 + n)
    meet("late", 50.0, "rare")
    models.keep()

    assert attribute_value("category", "rare") in vocabulary.ids
    found = blend.propose(["f4"], 110.0, 1.0, (), new_only=True, asker=asker).top(9)
    assert [] == [one.item_id for one in found if one.item_id.startswith("\x1f")]


def test_an_empty_slate_is_explained_without_a_compiler() -> None:
    """Its mean would be a division by zero, which a compiled kernel passes over."""
    explain = getattr(ranker.explain, "py_func", ranker.explain)
    none, whole = np.zeros(0, np.int64), np.zeros((0, 6), np.int64)
    numbers, names = np.zeros((2, 0)), np.zeros((3, 0), np.int64)
    weights, groups = np.zeros((3, 2)), np.zeros(2, np.int64)
    lifts = np.zeros((0, 1))

    explain(
        none,
        0,
        1,
        2,
        np.zeros((2, 0), np.float32),
        numbers,
        names,
        weights,
        groups,
        groups[:1],
        numbers,
        lifts,
        whole,
    )

    assert 0 == lifts.size
