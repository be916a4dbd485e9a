"""Several workers that start cold: shares by hand, the bits of undo and fold, and what a fleet loses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from online_models.click_rate import ClickRate
from online_models.fold import ModelSet
from online_models.hashing import FeatureValue
from online_models.tempering import move_shares
from online_models.vocabulary import Vocabulary

DAY = 86_400.0
Example = tuple[dict[str, FeatureValue], float]


def worker(**settings: float) -> tuple[ModelSet, ClickRate]:
    """A click model of a fleet."""
    model = ClickRate(n_slots=2**10, **settings)  # type: ignore[arg-type]  # all of them are floats
    return ModelSet([model], Vocabulary(1)), model


def dense_examples(n: int, seed: int) -> list[Example]:
    """Twelve features that say the same thing in three classes, and are noisy together."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 3, n)
    labels = rng.random(n) < np.array([0.02, 0.1, 0.6])[levels]
    flips = rng.random((n, 12)) < 0.1
    return [
        ({f"f{k}": str(2 - level if flip else level) for k, flip in enumerate(row)}, float(y))
        for level, y, row in zip(levels.tolist(), labels, flips.tolist(), strict=True)
    ]


def loss_of(workers: int, examples: list[Example], every: int) -> float:
    """Log loss of workers that take turns and exchange every so many examples."""
    fleet = [worker() for _ in range(workers)]
    for models, _ in fleet:
        models.begin()
    total = 0.0
    for n, (x, y) in enumerate(examples, 1):
        p = fleet[n % workers][1].learn_one(x, y)
        total -= math.log(p if y else 1.0 - p)
        if n % every == 0:
            deltas = [models.delta() for models, _ in fleet]
            for models, _ in fleet:
                models.rollback()
                for delta in deltas:
                    models.fold(delta)
                models.begin()
    return total / len(examples)


def test_dense_features_are_learned_by_eight_workers_nearly_as_by_one() -> None:
    """After the start, each corrects its share: all of them together do not correct eight times too much."""
    examples = dense_examples(6000, seed=1)
    alone, fleet = (loss_of(workers, examples, 1000) for workers in (1, 8))
    assert fleet < 1.15 * alone


def test_shares_by_hand() -> None:
    """The bias, and a weight that is in a third of the batch and a quarter of all, beside one worker.

    Γ = 2 (ln(5/2) + ln(5/4)/4); evidence of both workers is 2 and 1 + 3/4 times the batch's own.
    """
    before = np.array([[1.0, 0.0], [2.0, 4.0]])
    after = np.array([[4.0, 1.0], [5.0, 5.0]])
    shares = move_shares(before, after, (1.0, 4.0), 1.0, 1.0)
    correction = 2.0 * (math.log(2.5) + 0.25 * math.log(1.25))
    for share, own, common, precision, gained in zip(
        shares, (1.0, 1 / 3), (1.0, 0.25), (2.0, 4.0), (3.0, 1.0), strict=True
    ):
        times = 1.0 + common / own
        expected = (1 - math.exp(-correction * own * times)) / (1 - math.exp(-correction * own)) / times
        expected *= (precision + gained * times) / (precision + gained)
        assert share == pytest.approx(expected)


def test_nothing_is_shortened_where_nobody_else_learns() -> None:
    """One worker keeps its moves, and so does a weight that gained nothing; a rare one nearly does."""
    before, after = (
        np.array([[900.0, 5.0, 0.0], [900.1, 9.0, 4.0]]),
        np.array([[990.0, 5.0, 0.2], [990.1, 9.0, 4.2]]),
    )
    assert [1.0, 1.0, 1.0] == move_shares(before, after, (900.0, 990.0), 0.6, 0.0).tolist()
    shares = move_shares(before, after, (900.0, 990.0), 0.6, 3.0)
    assert shares[0] < 0.9
    assert 1.0 == shares[1]
    assert 0.9 < shares[2] <= 1.0


@pytest.mark.parametrize("half_life_s", [math.inf, DAY])
def test_kept_and_folded_batches_have_equal_bits(half_life_s: float) -> None:
    """Where others learn, a batch that is kept is the one that was published; undone, it leaves no trace."""
    examples = dense_examples(900, seed=2)
    (kept, learner), (folded, _) = worker(half_life_s=half_life_s), worker(half_life_s=half_life_s)

    def learn(start: int) -> None:
        kept.begin()
        for n, (x, y) in enumerate(examples[start : start + 100], start):
            learner.learn_one(x, y, at=n * DAY / 20.0)

    shortened = []
    for start in range(0, 900, 100):
        before = kept.digest()
        learn(start)
        learned, delta = learner._state.copy(), kept.delta()
        kept.rollback()
        assert before == kept.digest()
        learn(start)
        kept.keep()
        shortened.append(not np.array_equal(learned, learner._state))
        folded.fold(delta)
        assert folded.digest() == kept.digest()
        for models in (kept, folded):
            models.fold(delta)  # another worker learned the same
    assert [False] + [True] * 8 == shortened


def test_shortened_batches_commute_exactly() -> None:
    """What each batch publishes is a sum as before: the weights have the same bits in any order."""
    examples = dense_examples(1600, seed=3)
    fleet = [worker() for _ in range(3)]

    def deltas_of(start: int) -> list[bytes]:
        deltas = []
        for k, (models, model) in enumerate(fleet):
            models.begin()
            for x, y in examples[start + 200 * k : start + 200 * (k + 1)]:
                model.learn_one(x, y)
            deltas.append(models.delta())
            models.rollback()
        return deltas

    first = deltas_of(0)
    for models, _ in fleet:
        for delta in first:
            models.fold(delta)
    assert 2.0 == fleet[0][1].overlap.others
    states = set()
    for order in itertools.permutations(deltas_of(800)):
        models, model = worker()
        models.restore(fleet[0][0].snapshot())
        for delta in order:
            models.fold(delta)
        states.add(model._state.tobytes())
    assert 1 == len(states)
