"""Streaming ALS asked: scores, the best items, and what explains them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.online_models.factor_shop import Shop, shown, stream


def test_retrieve_equals_sorting_all_scores() -> None:
    """The best n by full sort, without the excluded and what one event is of; asking changes nothing."""
    shop = Shop(n_factors=6)
    shop.models.begin()
    for user, item in stream(80, seed=3, n_items=30):
        shop.learn(user, item)
    shop.learn("u2", "seen once")
    history = shop.rows("u1")
    p = shop.model.user_vector(history, b"")
    assert p is not None
    rows = np.array([row for row in shown(shop.model) if row not in history], np.int32)
    assert 10 < len(rows) < len(shop.vocabulary) - len(history)
    scores = shop.model.score(p, rows)
    expected = rows[np.argsort(-scores, kind="stable")]
    before = shop.model._table.tobytes()
    for n in (1, 5, 100):
        assert expected[:n].tolist() == shop.model.retrieve(p, history, n).tolist()
    assert before == shop.model._table.tobytes()


def test_retrieve_is_exact_among_many_items_and_ends_at_the_scan_limit() -> None:
    """With thousands of items few are sorted, and they are the best; beyond the limit there are none."""
    shop = Shop(n_factors=6, max_rows=5000, scan_limit=4096)
    shop.models.begin()
    for n in range(2 * 4096):
        shop.learn(f"u{n % 55}", f"i{n % 4096}")
    history = shop.rows("u1")
    p = shop.model.user_vector(history, b"")
    assert p is not None
    rows = np.array([row for row in range(len(shop.vocabulary)) if row not in history], np.int32)
    scores = shop.model.score(p, rows)
    best = shop.model.retrieve(p, history, 50)

    assert rows[np.argsort(-scores, kind="stable")[:50]].tolist() == best.tolist()
    shop.learn("u1", "one too many")
    assert 5 == len(shop.model.retrieve(p, history, 5))
    shop.learn("u2", "one too many")
    assert 0 == len(shop.model.retrieve(p, history, 5))


def test_explanation_adds_up_to_the_score() -> None:
    """The terms of the history sum to the score; unknown items have none."""
    shop = Shop()
    shop.models.begin()
    for user, item in stream(60, seed=4):
        shop.learn(user, item)
    history = np.r_[shop.rows("u0"), np.int32(-1)].astype(np.int32)
    p = shop.model.user_vector(history, b"")
    assert p is not None
    for row in range(len(shop.vocabulary)):
        terms = shop.model.explain(history, row)
        expected = float(shop.model.score(p, np.array([row], np.int32))[0])
        assert expected == pytest.approx(float(terms.sum()), abs=1e-6)
        assert 0.0 == terms[-1]


def test_unknown_users_and_items() -> None:
    """Without a known item there is no vector; an unknown row scores 0."""
    shop = Shop()
    assert shop.model.user_vector(np.zeros(0, np.int32), b"") is None
    assert shop.model.user_vector(np.array([-1, -1], np.int32), b"") is None
    p = np.ones(4, np.float32)
    assert [0.0] == shop.model.score(p, np.array([-1], np.int32)).tolist()
    assert 0 == len(shop.model.retrieve(p, np.zeros(0, np.int32), 5))
