"""Optional sources: neighbours of items and users, and popularity in segments, alone and in the blend."""

from __future__ import annotations

import math

import numpy as np
import pytest

from online_models.cooccurrence import SequentialCooccurrence
from online_models.fold import ModelSet
from online_models.hybrid import OnlineBlend
from online_models.neighbourhood import ItemNeighbours, Measure, UserNeighbours
from online_models.optional_source import Asker, OptionalSource
from online_models.popularity import DecayedPopularity
from online_models.segment_popularity import SegmentPopularity
from online_models.slate import NewItems, ReasonCode, Source
from online_models.vocabulary import Vocabulary

CHOICES = {"ann": "tea milk", "bob": "tea milk jam", "cat": "tea jam", "dan": "beer chips"}


def taught(*sources: type, measure: Measure = "cosine") -> tuple[OnlineBlend, ModelSet]:
    """A blend with optional sources after the choices of four users, in no time; a batch is open."""
    vocabulary = Vocabulary(200)
    made: list[OptionalSource] = [
        kind(vocabulary) if kind is SegmentPopularity else kind(vocabulary, measure) for kind in sources
    ]
    blend = OnlineBlend(
        vocabulary, DecayedPopularity(vocabulary), SequentialCooccurrence(vocabulary), optional=made
    )
    models = ModelSet(blend.models, vocabulary)
    models.begin()
    for user, items in CHOICES.items():
        history: list[str] = []
        asker = Asker(user, ("bar" if user == "dan" else "cafe",))
        for item in items.split():
            blend.observe(item, history, 0.0, 1.0, False, b"", (), asker)
            history.insert(0, item)
    return blend, models


def scores(blend: OnlineBlend, history: list[str], asker: Asker) -> dict[str, float]:
    """What the first optional source says."""
    rows = np.array(blend.vocabulary.rows(history), np.int32)
    best, found = blend.optional[0].best(rows, 0.0, asker)
    return dict(zip(map(blend.vocabulary.item_id, best.tolist()), found.round(6).tolist(), strict=True))


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        # tea 3 choices, milk 2, jam 2; tea with milk 2, tea with jam 2, milk with jam 1
        ("cosine", {"milk": 2 / math.sqrt(6), "jam": 2 / math.sqrt(6)}),
        ("euclidean", {"milk": 1 / (1 + math.sqrt(3 + 2 - 4)), "jam": 1 / (1 + math.sqrt(3 + 2 - 4))}),
    ],
)
def test_items_are_as_similar_as_their_users(measure: Measure, expected: dict[str, float]) -> None:
    """Both measures equal their formulas over sets of users; what never met is not listed."""
    blend, _ = taught(ItemNeighbours, measure=measure)

    assert scores(blend, ["tea"], Asker("eve")) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("measure", "likeness"),
    [
        # eve has one item: ann has two and bob three, cat two, all share it
        ("cosine", [1 / math.sqrt(2), 1 / math.sqrt(3), 1 / math.sqrt(2)]),
        ("euclidean", [1 / 2, 1 / (1 + math.sqrt(2)), 1 / 2]),
    ],
)
def test_users_are_as_similar_as_their_items(measure: Measure, likeness: list[float]) -> None:
    """An item scores the similarities of the users who chose it; one's own class is left out."""
    blend, _ = taught(UserNeighbours, measure=measure)
    ann, bob, cat = likeness

    expected = {"tea": ann + bob + cat, "milk": ann + bob, "jam": bob + cat}
    assert scores(blend, ["tea"], Asker("eve")) == pytest.approx(expected, abs=1e-6)
    without = {"tea": bob + cat, "milk": bob, "jam": bob + cat}
    assert scores(blend, ["tea"], Asker("ann")) == pytest.approx(without, abs=1e-6)


def test_segments_have_their_own_popularity() -> None:
    """Members of a segment get what it chose, whatever the others did; nobody's segment lists nothing."""
    blend, _ = taught(SegmentPopularity)

    assert {"beer": 0.25, "chips": 0.25} == scores(blend, [], Asker("eve", ("bar",)))
    assert {} == scores(blend, [], Asker("eve"))
    slate = blend.propose([], 1.0, None, (), asker=Asker("eve", ("bar",)))
    place = blend.feature_names.index("segment_popularity_score")
    listed = [item for item in slate.item_ids(9) if slate.features[slate.place_of(item), place] > -1.0]
    assert {"beer", "chips"} == set(listed)


@pytest.mark.parametrize("kind", [ItemNeighbours, UserNeighbours, SegmentPopularity])
def test_what_a_source_lifts_it_explains(kind: type) -> None:
    """With all weight on a source its list leads the slate, with its reason; excluded items stay away."""
    blend, _ = taught(kind)
    source = blend.optional[0]
    blend.weights[:] = 0.0
    blend.weights[0, blend.feature_names.index(f"{source.name}_rank")] = 1.0
    slate = blend.propose(["tea"], 1.0, 60.0, {"tea"}, asker=Asker("eve", ("cafe",)))
    best = slate.top(2)

    assert {"milk", "jam"} == {one.item_id for one in best}
    assert {source.code} == {one.reasons[0].code for one in best}
    assert "tea" not in slate.item_ids(99)
    expected = Source.POPULARITY if kind is SegmentPopularity else Source.NEIGHBOURS
    assert {expected} == {one.source for one in best}


def test_a_batch_with_optional_sources_can_be_undone_and_folded() -> None:
    """Rolled back and folded from its delta, a blend answers as the one that learned it."""
    kinds = (ItemNeighbours, UserNeighbours, SegmentPopularity)
    blend, models = taught(*kinds)
    delta = models.delta()
    models.keep()
    other, others = taught(*kinds)
    others.rollback()
    others.fold(delta)

    assert models.digest() == others.digest()
    for one in (blend, other):
        rows = np.array(one.vocabulary.rows(["tea"]), np.int32)
        assert all(len(source.best(rows, 0.0, Asker("eve", ("cafe",)))[0]) for source in one.optional)


def test_newcomers_are_candidates_that_can_be_learned() -> None:
    """They need no row, are explained, ranked and taught like others, and an excluded one is no candidate."""
    blend, models = taught()
    newcomers, fresh = NewItems(["fresh", "gone", "last"], [1.0, 0.5, 1.0]), NewItems(["fresh"], [1.0])
    slate = blend.propose(["last", "tea"], 1.0, 60.0, {"tea", "gone"}, new_only=True, newcomers=newcomers)
    everything = {one.item_id: one for one in slate.top(99)}

    assert "fresh" in everything
    assert not {"gone", "last", "tea"} & set(everything)
    assert ReasonCode.NEW_OF_THE_KIND in {reason.code for reason in everything["fresh"].reasons}
    assert [*everything] == slate.item_ids(99) == [row[0] for row in slate.rows(99)]
    assert list(everything).index("fresh") == slate.rank_of("fresh")
    before = slate.rank_of("fresh")
    assert before is not None
    for _ in range(30):
        taught_slate = blend.propose(["tea"], 1.0, 60.0, {"tea"}, new_only=True, newcomers=fresh)
        blend.learn_one(taught_slate, "fresh")
    after = blend.propose(["tea"], 1.0, 60.0, {"tea"}, new_only=True, newcomers=fresh)
    assert 0 == after.rank_of("fresh")
    models.rollback()
