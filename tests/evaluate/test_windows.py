from __future__ import annotations

import math

import pytest

from benchmarks import recommend_published
from benchmarks.recommend_windows import START, WINDOW_S, ndcg, run


def test_ndcg_by_hand() -> None:
    """Hits at places 1 and 3 of three choices, over the gain of three hits in a row."""
    ideal = 1 + 1 / math.log2(3) + 1 / 2

    assert ndcg(["a", "x", "b"], ["a", "b", "c"]) == pytest.approx((1 + 1 / 2) / ideal)


def test_windows_begin_where_the_protocol_says_and_learn_at_their_end() -> None:
    """An item that is chosen in the first window only is in nobody's list before the second."""
    before = [(f"u{n}", item, START - 100 + n) for n, item in enumerate("aab")]
    first = [("u8", "new", START), ("u9", "new", START + 1)]
    second = [("u10", "new", START + WINDOW_S), ("u8", "a", START + WINDOW_S + 1)]
    report = run([*before, *first, *second])

    assert (2, 4) == (report["windows"], report["user_windows"])
    assert 0.5 == report["figures"]["recent_popularity"]["first_10"]["hit_micro"]
    assert 0.5 == report["figures"]["nudge"]["first_10"]["hit_macro"]


def test_the_published_ndcg_reads_scores_as_ranks() -> None:
    """An item half as popular as the first scores 1 / log2(1.5) as published, 1 / log2(3) at its place 2."""
    before = [(f"u{n}", item, START - 100 + n) for n, item in enumerate("aab")]
    found = recommend_published.run([*before, ("u9", "b", START)])["RecentPopularity"]

    assert round(1 / math.log2(1.5), 4) == found["as_published"]["ndcg_micro"]
    assert round(1 / math.log2(3), 4) == found["best_ten"]["ndcg_micro"]
    assert 2.0 == found["items_with_a_score"]
