"""The learned blend: who is proposed, in which order, why, and what a step teaches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from online_models.base import Foldable, ItemModel
from online_models.cooccurrence import SequentialCooccurrence
from online_models.delta import DeltaError
from online_models.factorisation import StreamingIALS
from online_models.fold import ModelSet
from online_models.hybrid import OnlineBlend
from online_models.popularity import DecayedPopularity
from online_models.ranker_features import gap_class, length_class
from online_models.slate import ReasonCode, Slate, Source
from online_models.vocabulary import Vocabulary

HOUR = 3600.0


def fresh(*, factors: bool = False, n_each: int = 50, max_rows: int = 500) -> tuple[OnlineBlend, ModelSet]:
    """A blend and its set."""
    vocabulary = Vocabulary(max_rows)
    blend = OnlineBlend(
        vocabulary,
        DecayedPopularity(vocabulary),
        SequentialCooccurrence(vocabulary),
        StreamingIALS(vocabulary, n_factors=4) if factors else None,
        candidates_per_source=n_each,
    )
    return blend, ModelSet(blend.models, vocabulary)


def shop(*, factors: bool = False, n_each: int = 50) -> tuple[OnlineBlend, ModelSet]:
    """Thirty users buy bread, butter and one of forty others; a batch is left open."""
    blend, models = fresh(factors=factors, n_each=n_each)
    models.begin()
    for user in range(30):
        history: list[str] = []
        memory = b""
        for step, item in enumerate(("bread", "butter", f"other-{user % 20}", f"other-{20 + user % 7}")):
            memory = blend.observe(item, history, user * HOUR + step * 60.0, 1.0, False, memory)
            history.insert(0, item)
    return blend, models


def bits(slate: Slate) -> tuple[bytes, ...]:
    """Everything a slate holds."""
    n = len(slate)
    return tuple(
        array.tobytes()
        for array in (slate.features, slate.scores, slate._numbers[1, :n], slate._names[:, :n])
    )


def test_first_proposal_of_an_empty_model_is_empty() -> None:
    """Nothing was seen, so there is nothing to propose, and every question has an answer."""
    blend, models = fresh()
    slate = blend.propose([], 0.0, None, set())

    assert 0 == len(slate)
    assert [] == slate.top(5)
    assert [] == slate.item_ids(5)
    assert slate.rank_of("x") is None
    models.begin()
    blend.learn_one(slate, "x")
    assert b"" == models.delta()


def test_follows_what_was_viewed() -> None:
    """After bread comes butter, by the sequence source, because of bread."""
    blend, _ = shop()
    best = blend.propose(["bread"], 31 * HOUR, 60.0, {"bread"}).top(3)[0]

    assert "butter" == best.item_id
    assert Source.SEQUENCE is best.source
    assert ReasonCode.FOLLOWS_HISTORY is best.reasons[0].code
    assert "bread" == best.reasons[0].item_id


def test_unknown_user_gets_what_is_popular() -> None:
    """Without a history only popularity proposes and explains."""
    blend, _ = shop()
    best = blend.propose([], 31 * HOUR, None, set()).top(2)

    assert {"bread", "butter"} == {ranked.item_id for ranked in best}
    assert {Source.POPULARITY} == {ranked.source for ranked in best}


def test_excluded_items_are_never_candidates() -> None:
    """Excluding a popular, co-occurring item removes it from every source, factors included."""
    blend, _ = shop(factors=True)
    slate = blend.propose(["bread"], 31 * HOUR, 60.0, {"bread", "butter", "zzz"})

    assert len(slate) > 0
    assert not {"bread", "butter"} & set(slate.item_ids(500))
    assert slate.rank_of("butter") is None


@pytest.mark.parametrize("factors", [False, True])
def test_proposing_changes_nothing(factors: bool) -> None:
    """A thousand proposals for unknown and known users leave the digest and the next slate as they were."""
    blend, models = shop(factors=factors)
    models.keep()
    before = models.digest(), bits(blend.propose(["bread"], 1e6, 5.0, set()))
    for n in range(1000):
        blend.propose([f"new-{n}", "butter"], 1e6 + n, None, {f"seen-{n}"})

    assert before == (models.digest(), bits(blend.propose(["bread"], 1e6, 5.0, set())))


def test_ranks_agree_with_the_order() -> None:
    """rank_of is the place in item_ids, for every candidate."""
    blend, _ = shop()
    slate = blend.propose(["butter", "bread"], 31 * HOUR, 600.0, {"bread"})
    ranked = slate.item_ids(len(slate))

    assert len(slate) == len(set(ranked))
    assert list(range(len(slate))) == [slate.rank_of(item) for item in ranked]
    assert ranked[:4] == slate.item_ids(4)
    assert sorted(slate.scores.tolist(), reverse=True) == [item.score for item in slate.top(len(slate))]


@pytest.mark.parametrize("n", [1, 5, 60])
def test_withheld_items_are_not_shown(n: int) -> None:
    """The others keep their order, however deep they lie."""
    blend, _ = shop()
    slate = blend.propose(["butter", "bread"], 31 * HOUR, 600.0, {"bread"})
    everything = slate.item_ids(len(slate))
    even = [item for item in everything if item[-1] in "02468"]
    shown = slate.top(n, {item for item in everything if item not in even})

    assert even[:n] == [ranked.item_id for ranked in shown]
    assert [] == slate.top(n, set(everything))


def test_rows_say_the_same_as_top() -> None:
    """As text: scores to six digits, sources, and reasons that name the history item they follow."""
    blend, _ = shop(factors=True)
    for history in (["butter", "bread"], ["zzz", "other-3", "bread"], []):
        slate = blend.propose(history, 31 * HOUR, 600.0, {"bread"})
        spelled = [
            (
                ranked.item_id,
                round(ranked.score, 6),
                ranked.source.value,
                [f"{r.code.value}:{r.item_id}" if r.item_id else r.code.value for r in ranked.reasons],
            )
            for ranked in slate.top(20)
        ]

        assert spelled == slate.rows(20)
        assert spelled == slate.rows(20)  # texts are shared, and nobody wrote into them
        assert len(spelled) == 20


def test_reasons_name_the_loudest_history_item() -> None:
    """Butter follows bread in every history, so bread explains it, also from further back."""
    blend, _ = shop()
    [butter] = [
        r for r in blend.propose(["zzz", "bread"], 31 * HOUR, 60.0, ()).top(60) if r.item_id == "butter"
    ]

    assert "bread" in {reason.item_id for reason in butter.reasons if reason.code == "follows_history"}


def test_new_only_excludes_the_history() -> None:
    """As naming its items does; an item the vocabulary does not know excludes nothing."""
    blend, _ = shop(factors=True)
    history = ["butter", "zzz", "bread"]
    named = blend.propose(history, 31 * HOUR, 600.0, history)

    assert bits(named) == bits(blend.propose(history, 31 * HOUR, 600.0, (), new_only=True))


def test_ties_go_to_the_more_popular_then_to_the_hash() -> None:
    """With all weights 0 every score is 0: popularity orders, then the ids' hashes, never arrival."""
    blend, _ = shop()
    blend.weights[:] = 0.0
    ranked = blend.propose([], 31 * HOUR, None, set()).item_ids(60)
    count = {item: blend.popularity.count(item, 31 * HOUR, 4) for item in ranked}
    order = {item: int(blend.vocabulary.order[blend.vocabulary.row(item)]) for item in ranked}

    assert sorted(ranked, key=lambda item: (-count[item], order[item])) == ranked


def clear_features(blend: OnlineBlend, history: list[str], at: float, item: str) -> list[float]:
    """The features that do not depend on ranks, from public answers and the formulas."""
    model, c = blend.cooccurrence, {}
    forward = backward = transition = 0.0
    row = blend.vocabulary.row(item)
    for age, other in enumerate(history):
        other_row = blend.vocabulary.row(other)
        c = model.heads[other_row, 1]
        for slot in range(int(model.heads[other_row, 0])):
            if model.refs[other_row, slot] != row:
                continue
            cells = model.cells[other_row, slot].astype(float)
            forward += math.exp(-0.3 * age) * cells[0] / (c + 2)
            backward += math.exp(-0.3 * age) * cells[1] / (c + 2)
            if age == 0:
                transition = cells[2] / (c + 2)
    scores = [0.3 * math.log(score + 0.003) for score in (forward, backward, transition)]
    counts = [0.3 * math.log(blend.popularity.count(item, at, h) + 0.02) for h in range(5)]
    first, last = blend.popularity.table[row, -2:]
    times = [0.2 * math.log(1 + (at - first) / 3600.0), 0.2 * math.log(1 + (at - last) / 60.0)]
    no_content = 0.3 * math.log(0.003)
    return [*scores, 0.0, *counts, 0.0, *times, no_content, 0.0]


def test_features_are_those_of_the_formulas() -> None:
    """Scores, counts and times equal the definition; ranks are 1 − log(1 + r) / log(1 + C)."""
    blend, _ = shop()
    history, at = ["butter", "bread"], 40 * HOUR
    slate = blend.propose(history, at, 600.0, {"bread", "butter"})
    names = blend.feature_names

    assert 24 == len(names) == slate.features.shape[1]
    for item in slate.item_ids(60):
        place = slate.place_of(item)
        assert slate.features[place, 10:].tolist() == pytest.approx(
            clear_features(blend, history, at, item), rel=1e-5, abs=1e-6
        )
    by_count = [item for item, _ in blend.popularity.top(at, 4, 60) if item not in history]
    for rank, item in enumerate(by_count):
        expected = 1 - math.log(1 + rank) / math.log(51) if rank < 50 else 0.0
        assert slate.features[slate.place_of(item), names.index("popularity_infs_rank")] == pytest.approx(
            expected, abs=1e-6
        )


def test_what_visits_begin_with_counts_when_one_begins() -> None:
    """Thirty visits began with bread: it has the first rank and its count then, and neither in mid-visit."""
    blend, _ = shop()
    at, beginnings = 40 * HOUR, blend.popularity.beginnings
    columns = [blend.feature_names.index(f"beginnings_{kind}") for kind in ("rank", "score")]

    def features(gap_s: float | None) -> list[float]:
        slate = blend.propose(["butter"], at, gap_s, set())
        place = slate.place_of("bread")
        assert place is not None
        return [float(slate.features[place, column]) for column in columns]

    assert ["bread"] == [item for item, _ in blend.popularity.top(at, beginnings, 5)]
    score = 0.3 * math.log(blend.popularity.count("bread", at, beginnings) + 0.02)
    assert features(None) == pytest.approx([1.0, score], rel=1e-5)
    assert features(None) == features(HOUR)
    assert [0.0, 0.0] == features(HOUR - 1.0)


def clear_step(
    blend: OnlineBlend, slate: Slate, target: int, rows: list[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Softmax gradient and AdaGrad as the equations stand, in numpy."""
    x = slate.features.astype(np.float64)
    weights, squares = blend.weights.copy(), blend.squares.copy()
    scores = x @ weights[rows].sum(axis=0)
    shares = np.exp(scores - scores.max())
    residual = shares / shares.sum()
    residual[target] -= 1.0
    residual[np.abs(residual) < 1e-5] = 0.0
    gradient = residual @ x
    squares[rows] += gradient**2
    weights[rows] -= 0.15 * gradient / np.sqrt(squares[rows])
    return weights, squares


def test_a_step_is_that_of_the_equations() -> None:
    """Shared, gap and length weights move by one AdaGrad step of the softmax loss; the rest stays."""
    blend, _ = shop()
    slate = blend.propose(["bread"], 31 * HOUR, 90.0, {"bread"})
    target = slate.place_of("other-3")
    assert target is not None
    weights, squares = clear_step(blend, slate, target, [0, 3, 8])
    blend.learn_one(slate, "other-3")

    np.testing.assert_allclose(blend.weights, weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(blend.squares, squares, rtol=1e-9, atol=1e-12)


def test_a_first_event_moves_its_own_weights_little() -> None:
    """With g the gradient, its rows move by .15 g / √(30 + g²), the shared ones by .15 g / √(1 + g²)."""
    blend, _ = shop()
    slate = blend.propose([], 31 * HOUR, None, set())
    shared, first, gap = blend.weights[0].copy(), blend.weights[7].copy(), blend.weights[1].copy()
    blend.learn_one(slate, "other-3")
    squared = blend.squares[0] - 1.0

    assert (squared > 0.0).any()
    np.testing.assert_allclose(
        (blend.weights[7] - first) * np.sqrt(30.0 + squared),
        (blend.weights[0] - shared) * np.sqrt(1.0 + squared),
        atol=1e-9,
    )
    np.testing.assert_array_equal(blend.weights[1] - gap, blend.weights[7] - first)


def test_learning_lifts_the_target() -> None:
    """Told often enough that users take the last of the slate, the ranker puts it higher."""
    blend, _ = shop()
    slate = blend.propose(["bread"], 31 * HOUR, 90.0, {"bread"})
    last = slate.item_ids(len(slate))[-1]
    for _ in range(50):
        blend.learn_one(blend.propose(["bread"], 31 * HOUR, 90.0, {"bread"}), last)
    rank = blend.propose(["bread"], 31 * HOUR, 90.0, {"bread"}).rank_of(last)

    assert rank is not None
    assert rank < len(slate) // 2


def test_target_outside_the_slate_teaches_nothing() -> None:
    """An item that was not a candidate leaves all weights as they are."""
    blend, _ = shop()
    before = blend.weights.tobytes()
    slate = blend.propose(["bread"], 31 * HOUR, 90.0, {"bread", "butter"})
    blend.learn_one(slate, "butter")
    blend.learn_one(slate, "never-seen")

    assert before == blend.weights.tobytes()


def test_slate_is_a_value() -> None:
    """Later proposals and learning do not touch a slate."""
    blend, _ = shop()
    slate = blend.propose(["bread"], 31 * HOUR, 90.0, {"bread"})
    before = bits(slate)
    blend.learn_one(slate, "butter")
    blend.observe("other-1", ["bread"], 31 * HOUR, 1.0, False, b"")
    blend.propose([], 32 * HOUR, None, set())

    assert before == bits(slate)


def test_evicted_item_falls_off_an_old_slate() -> None:
    """A row that changed hands does not show its new item in a slate from before."""
    blend, models = fresh(max_rows=2)
    models.begin()
    blend.observe("a", [], 0.0, 1.0, False, b"")
    blend.observe("b", [], 1.0, 1.0, False, b"")
    slate = blend.propose([], 2.0, None, set())
    blend.observe("c", [], 3.0, 1.0, False, b"")

    assert ["b"] == slate.item_ids(5)
    assert slate.rank_of("c") is None


def test_repeat_counts_for_popularity_alone() -> None:
    """A repeat moves counts, not pairs and not the user's memory."""
    blend, _ = shop(factors=True)
    pairs = blend.cooccurrence.cells.tobytes(), blend.cooccurrence.heads.tobytes()
    memory = blend.observe("bread", ["butter", "bread"], 31 * HOUR, 1.0, True, b"as it was")

    assert b"as it was" == memory
    assert pairs == (blend.cooccurrence.cells.tobytes(), blend.cooccurrence.heads.tobytes())
    assert 31.0 == blend.popularity.count("bread", 31 * HOUR, 4)


def test_each_source_proposes_its_best_only() -> None:
    """With one candidate a source, a slate holds at most one item of each of eight sources."""
    blend, _ = shop(n_each=1)

    assert 1 <= len(blend.propose(["bread"], 31 * HOUR, 60.0, {"bread"})) <= 8


def test_factor_model_takes_part() -> None:
    """With a factor model its rank and score are features, and the user's memory comes back longer."""
    blend, models = shop(factors=True)
    history, memory = ["butter", "bread"], b""
    for n, item in enumerate(reversed(history)):
        memory = blend.observe(item, history[len(history) - n :], 31 * HOUR, 1.0, False, memory)
    slate = blend.propose(history, 32 * HOUR, 60.0, set(history), memory)

    assert len(memory) > 0
    assert 4 == len(models.models)
    assert np.any(slate.features[:, blend.feature_names.index("factors_rank")])
    assert np.any(slate.features[:, blend.feature_names.index("factors_score")])


def test_history_longer_than_is_read() -> None:
    """A history beyond 64 items is cut, and its length still selects the weights for long histories."""
    blend, _ = shop()
    history = ["bread", *(f"other-{n % 27}" for n in range(200))]
    slate = blend.propose(history, 31 * HOUR, 60.0, set())

    assert (3, 13) == slate.context
    assert bits(slate) == bits(blend.propose(history[:64], 31 * HOUR, 60.0, set()))


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, 1e308])
def test_bad_events_are_refused_before_anything_changes(weight: float) -> None:
    """A weight that cannot be learned leaves no use, no count and no pair."""
    blend, models = shop()
    models.keep()
    before = models.digest()
    models.begin()
    with pytest.raises(ValueError, match="positive"):
        blend.observe("new", ["bread"], 0.0, weight, False, b"")
    models.keep()

    assert before == models.digest()


def test_learning_outside_a_batch_is_refused() -> None:
    """Neither the ranker nor the sources learn without an open batch."""
    blend, models = shop()
    models.keep()
    slate = blend.propose([], 31 * HOUR, None, set())

    with pytest.raises(RuntimeError, match="begin"):
        blend.learn_one(slate, "bread")
    with pytest.raises(RuntimeError, match="begin"):
        blend.observe("bread", [], 31 * HOUR, 1.0, False, b"")


def test_snapshot_of_other_shape_is_refused() -> None:
    """Ranker weights of another number of features are an error."""
    with pytest.raises(DeltaError, match="shape"):
        fresh()[0].restore({"weights": np.zeros((14, 3)), "squares": np.zeros((14, 3))})


@pytest.mark.parametrize(
    "settings",
    [{"candidates_per_source": 0}, {"candidates_per_source": 10_000}, {"eta": 0.0}, {"start": {"x": 1.0}}],
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    """Errors at construction, not at the first event."""
    vocabulary = Vocabulary(5)
    with pytest.raises(ValueError, match=r"candidates_per_source|start weights"):
        OnlineBlend(vocabulary, DecayedPopularity(vocabulary), SequentialCooccurrence(vocabulary), **settings)  # type: ignore[arg-type]


def test_context_classes() -> None:
    """The classes cover rows 1 to 13 of the weights, each its own; a negative gap counts as none."""
    gaps = [None, -1.0, 59.9, 60.0, 600.0, 3600.0, 86400.0, 1e9]
    lengths = [0, 1, 2, 3, 5, 6, 10, 11, 30, 31]

    assert [1, 2, 2, 3, 4, 5, 6, 6] == [gap_class(gap_s) for gap_s in gaps]
    assert [7, 8, 9, 10, 10, 11, 11, 12, 12, 13] == [length_class(n) for n in lengths]


def test_parts_keep_their_contracts() -> None:
    """Sources are item models; the ranker is foldable and keeps no rows."""
    blend, _ = fresh(factors=True)

    assert [True, True, True, False] == [isinstance(model, ItemModel) for model in blend.models]
    assert all(isinstance(model, Foldable) for model in blend.models)
