from __future__ import annotations

import numpy as np
import pytest

from stream.evaluate.baselines.biased_mf import RiverBiasedMF
from stream.evaluate.baselines.catalogue import Catalogue, place, top
from stream.evaluate.baselines.isgd import ETA, LAMBDA, N_STEPS, IncrementalSGD
from stream.evaluate.baselines.item_knn import DensePairs, ItemCosine, SparsePairs
from stream.evaluate.baselines.popularity import DecayedCounts

COUNTS = np.ones(4)
NOTHING = np.zeros(0, np.int64)


def test_a_tie_never_favours_the_target() -> None:
    """Equal scores: the more popular item is first, then the one known longer."""
    scores, counts = np.array([1.0, 1.0, 1.0, 2.0]), np.array([5.0, 5.0, 9.0, 1.0])

    assert [2, 3, 1, 0] == [place(item, scores, counts, NOTHING) for item in range(4)]
    assert 1 == place(1, scores, counts, np.array([2, 3]))


def test_top_leaves_out_what_is_excluded() -> None:
    """Also where fewer are left than asked for."""
    scores = np.array([1.0, 4.0, 3.0, 2.0])

    assert {1, 2} == set(top(2, scores, COUNTS, NOTHING))
    assert {0, 3} == set(top(10, scores, COUNTS, np.array([1, 2])))
    assert {2} == set(top(3, scores, COUNTS, np.array([0, 1, 3])))


def test_top_and_place_agree() -> None:
    """A list holds exactly those whom the rank puts into it, with ties of scores and of counts, too."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        n_items = int(rng.integers(1, 40))
        scores, counts = (rng.integers(0, most, n_items).astype(np.float64) for most in (3, 4))
        excluded = np.flatnonzero(rng.random(n_items) < 0.2)
        kept = np.setdiff1d(np.arange(n_items), excluded)
        listed = {item for item in kept.tolist() if place(item, scores, counts, excluded) < 10}

        told = top(10, scores, counts, excluded)
        assert listed == set(told)
        assert len(listed) == len(told)


def test_a_catalogue_grows() -> None:
    """Numbers follow the first sight of each item, counts its sights."""
    catalogue = Catalogue()
    for item in [*map(str, range(1000)), "7"]:
        catalogue.count(item)

    assert (1000, 7, 2.0) == (len(catalogue), catalogue.numbers["7"], catalogue.counts[7])


def test_decayed_counts_halve() -> None:
    """One choice now equals two of one half-life ago; 600 half-lives do not overflow."""
    counts = DecayedCounts(10.0, "ten")
    counts.learn(0, 0, 0.0, repeat=False)
    counts.learn(0, 0, 0.0, repeat=True)
    counts.learn(0, 1, 10.0, repeat=False)
    assert counts.scores(0, 10.0)[0] == counts.scores(0, 10.0)[1]

    counts.learn(0, 2, 6010.0, repeat=False)
    assert counts.scores(0, 6010.0)[2] == pytest.approx(1.0)
    assert 0.0 < counts.scores(0, 6010.0)[1] < 1e-100


@pytest.mark.parametrize("pairs", [DensePairs, SparsePairs])
def test_item_cosine_by_hand(pairs: type[DensePairs | SparsePairs]) -> None:
    """Users {a, b}, {a, b}, {a, c}: for {a} b scores 2/sqrt(3·2), c scores 1/sqrt(3·1)."""
    knn = ItemCosine(pairs())
    for user, item in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 2)]:
        knn.learn(user, item, 0.0, repeat=False)
    assert knn.scores(9, 0.0) is None

    knn.learn(9, 0, 0.0, repeat=False)
    scores = knn.scores(9, 0.0)
    assert scores is not None
    # The fourth user of item 0 counts in its norm.
    assert scores[1:] == pytest.approx([2 / np.sqrt(4 * 2), 1 / np.sqrt(4 * 1)])


def test_dense_and_sparse_tables_are_one_model() -> None:
    """The same scores after 3,000 choices, the table having grown."""
    dense, sparse = ItemCosine(DensePairs()), ItemCosine(SparsePairs())
    generator = np.random.default_rng(4)
    met: set[tuple[int, int]] = set()
    for user, item in generator.integers(0, (40, 700), (3000, 2)).tolist():
        for knn in (dense, sparse):
            knn.learn(user, item, 0.0, repeat=(user, item) in met)
        met.add((user, item))

    assert dense.scores(7, 0.0) == pytest.approx(sparse.scores(7, 0.0), rel=1e-5)


def test_isgd_takes_the_published_step() -> None:
    """p, then q with the new p, eight times; a repeat moves nothing."""
    model, twin = IncrementalSGD(3), np.random.Generator(np.random.Philox(3))
    model.learn(0, 0, 0.0, repeat=False)
    q, p = twin.normal(0.0, 0.1, 160), twin.normal(0.0, 0.1, 160)
    for _ in range(N_STEPS):
        error = 1.0 - p @ q
        p = p + ETA * (error * q - LAMBDA * p)
        q = q + ETA * (error * p - LAMBDA * q)
    scores = model.scores(0, 0.0)
    model.learn(0, 0, 0.0, repeat=True)

    assert scores == pytest.approx([-abs(1.0 - p @ q)])
    assert scores == pytest.approx(model.scores(0, 0.0))
    assert model.scores(1, 0.0) is None


def test_the_mirror_of_biased_mf_says_what_river_says() -> None:
    """Scores of all items equal ``predict_one`` of each, after any number of steps."""
    model, generator = RiverBiasedMF(5), np.random.default_rng(1)
    assert model.scores(0, 0.0) is None
    for _ in range(300):
        model.learn(int(generator.integers(5)), int(generator.integers(20)), 0.0, repeat=False)
    scores = model.scores(2, 0.0)
    wanted = [model.model.predict_one(user=2, item=item) for item in range(20)]

    assert scores == pytest.approx(wanted)
