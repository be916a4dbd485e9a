from __future__ import annotations

import math

import numpy as np
import pytest

from stream.evaluate.bootstrap import N_DRAWS, interval, mcnemar, mean_intervals
from stream.evaluate.ranks import MISS, WINDOW, Occasions, Shown, report_ranks

COUNTS = np.array([4.0, 2.0])


def occasions(n: int, users: int = 2) -> Occasions:
    """Events of users in turn, one second apart; the first is a cold user's session start."""
    found = Occasions()
    for at in range(n):
        found.users.append(at % users)
        found.times.append(float(at))
        found.slices.append((at == 0, at == 0, False))
    return found


def shown(ranks: list[int | None]) -> Shown:
    """Lists of the items 0 and 1, with the targets at these ranks."""
    found = Shown()
    for rank in ranks:
        found.add(rank, [0, 1], COUNTS)
    return found


def test_metrics_of_known_ranks() -> None:
    """Ranks 0, 12, none and 3: recall@10 2/4, recall@20 3/4, MRR (1 + 1/13 + 0 + 1/4)/4."""
    report = report_ranks({"ours": shown([0, 12, None, 3])}, occasions(4), (10, 20), n_items=4)

    assert (4, 0.5, 0.75) == (report["n"], report["recall_at_10"], report["recall_at_20"])
    assert report["mrr"] == pytest.approx((1 + 1 / 13 + 1 / 4) / 4)
    assert report["ndcg_at_10"] == pytest.approx((1 + 1 / math.log2(5)) / 4)
    assert report["ndcg_at_20"] == pytest.approx((1 + 1 / math.log2(14) + 1 / math.log2(5)) / 4)


def test_slices_divide_the_events() -> None:
    """Each pair of slices holds every event once, and each has its own means."""
    slices = report_ranks({"ours": shown([0, 12, None, 3])}, occasions(4), (10, 20), n_items=4)["slices"]

    assert (1, 1.0) == (slices["session_start"]["n"], slices["session_start"]["recall_at_10"])
    assert (3, 1 / 3) == (slices["warm_user"]["n"], slices["warm_user"]["recall_at_10"])
    assert (0, None) == (slices["new_item"]["n"], slices["new_item"]["recall_at_10"])


def test_exposure_by_hand() -> None:
    """Two of four items are shown equally often: coverage 1/2, Gini 1/2, mean count 3."""
    exposure = shown([0, 1]).exposure(4)

    assert exposure == pytest.approx({"coverage_at_10": 0.5, "gini_at_10": 0.5, "popularity_at_10": 3.0})


def test_a_lead_is_paired_with_its_baseline() -> None:
    """Hits 1, 1, 0, 0 against 0, 1, 0, 0, five times: a lead of 1/4 although their own intervals overlap.

    Half of the ten users have one of 1/2: of as many draws two to eight do in 95 %.
    """
    both = {"ours": shown([0, 1, None, None] * 5), "theirs": shown([50, 0, None, None] * 5)}
    lead = report_ranks(both, occasions(20, users=10), (10, 20), n_items=4)["baselines"]["theirs"]["lead"]
    few = report_ranks(both, occasions(20, users=9), (10, 20), n_items=4)["baselines"]["theirs"]["lead"]

    assert 0.25 == lead["recall_at_10"]["value"] == few["recall_at_10"]["value"]
    assert (0.1, 0.4) == pytest.approx((lead["recall_at_10"]["low"], lead["recall_at_10"]["high"]))
    assert (None, None) == (few["recall_at_10"]["low"], few["recall_at_10"]["high"])


def test_windows_follow_each_other() -> None:
    """A short last window joins the one before it; McNemar's p says whether a window differs."""
    n = 2 * WINDOW + 10
    ours = shown([0] * WINDOW + [None] * (n - WINDOW))
    windows = report_ranks({"ours": ours, "theirs": shown([0] * n)}, occasions(n), (10, 20), 4)["windows"]

    assert [WINDOW, WINDOW + 10] == [window["n"] for window in windows]
    assert [1.0, 0.0] == [window["recall_at_10"] for window in windows]
    assert [1.0, 0.0] == [round(window["baselines"]["theirs"]["mcnemar_p"], 6) for window in windows]


def test_intervals_keep_groups_together() -> None:
    """Rows of twelve users are twelve observations; of nine users nothing is said."""
    users = np.repeat(np.arange(12), 500)
    values = np.stack([users % 2.0, np.full(len(users), 3.0)], axis=1)

    halves, threes = mean_intervals(values, users)
    assert halves is not None
    assert 2 / 12 < halves[0] <= 3 / 12
    assert 9 / 12 <= halves[1] < 10 / 12
    assert (3.0, 3.0) == threes
    assert [None, None] == mean_intervals(values, users % 9)


def test_mcnemar_of_equal_vectors_says_nothing() -> None:
    """Without a disagreement p is 1; seven wins of seven have p = 2/128."""
    hits = np.ones(7, dtype=bool)

    assert 1.0 == mcnemar(hits, hits)
    assert mcnemar(hits, ~hits) == pytest.approx(2 / 128)


def test_a_miss_is_no_rank() -> None:
    """A target outside of the list counts as a miss at every depth, and 0 in the MRR."""
    report = report_ranks({"ours": shown([None])}, occasions(1), (10, 20), n_items=4)

    assert (0.0, 0.0) == (report["recall_at_20"], report["mrr"])
    assert [MISS] == shown([None]).ranks


def test_an_interval_takes_half_of_the_draws() -> None:
    """Where more than half of the bootstrapped values are not defined there is none."""
    half = N_DRAWS // 2
    values = np.concatenate([np.full(N_DRAWS - half, np.nan), np.linspace(0.0, 1.0, half)])

    assert interval(values, 10) == pytest.approx((0.025, 0.975))
    assert interval(values[:-1], 10) is None
    assert interval(values, 9) is None
