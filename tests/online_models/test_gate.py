"""The gate opens for a better challenger, closes for a worse one, seldom errs, and adds up to the bit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from online_models.delta import DeltaError, DeltaReader, DeltaWriter, read_delta
from online_models.evidence import BETS, BLOCK, WIDTH
from online_models.gate import ROUNDS, ChallengerGate, Verdict

ALPHA = 0.05


def fresh(alpha: float = ALPHA, warm_up: int = 0) -> ChallengerGate:
    """A gate in an open batch."""
    gate = ChallengerGate("new", alpha, warm_up)
    gate.begin()
    return gate


def verdicts(gate: ChallengerGate, differences: Iterable[float], bound: float) -> list[tuple[int, Verdict]]:
    """What a gate finds, and at which example."""
    told = ((n, gate.update(d, bound, bound)) for n, d in enumerate(differences))
    return [(n, verdict) for n, verdict in told if verdict is not None]


def delta_of(gate: ChallengerGate) -> DeltaReader:
    """What a gate's open batch added."""
    writer = DeltaWriter("spec")
    gate.write_delta(writer)
    return read_delta(writer.to_bytes(), "spec")


def told(gate: ChallengerGate) -> list[list[float]]:
    """All sums."""
    rounds: list[list[float]] = gate.snapshot()["rounds"].tolist()
    return rounds


# The test


def test_the_wealth_is_that_of_the_bets() -> None:
    """The mean over the bets of the product of 1 + λ d, with λ at most a half of the worst.

    Half of it plays on from the beginning; of the other half 1/2 in the first block, 1/6 in the second.
    """
    rng = np.random.default_rng(3)
    worst = rng.uniform(0.0, 2.0, BLOCK + 500)
    differences = rng.uniform(-worst, 1.0) * 0.01
    gate = fresh(1e-9)

    def wealth(first: int, last: int) -> float:
        some = slice(first, last)
        return float(
            np.mean([np.prod(1.0 + np.minimum(bet, 0.5 / worst[some]) * differences[some]) for bet in BETS])
        )

    for n, (d, w) in enumerate(zip(differences.tolist(), worst.tolist(), strict=True), 1):
        gate.update(d, w, 1.0)
        if n == 500:
            expected = 0.5 * wealth(0, n) + 0.5 * wealth(0, n) / 2
            assert math.log(expected) == pytest.approx(gate.log_wealth(), abs=1e-4)
    expected = 0.5 * wealth(0, n) + 0.5 * wealth(BLOCK, n) / 6

    assert math.log(expected) == pytest.approx(gate.log_wealth(), abs=1e-3)
    assert differences.mean() == pytest.approx(gate.mean_difference, abs=1e-6)
    assert BLOCK + 500 == gate.n


def test_a_round_ends_at_its_level() -> None:
    """3/4 of the mean of 1.5^n (4 bets of a half) and less must reach k (k + 1) / α: 40, 120, 240, ..."""
    gate, needed = fresh(), []
    for k in range(1, ROUNDS + 1):
        sign = 1.0 if k % 2 else -1.0
        n = next(n for n in itertools.count(1) if gate.update(sign * 0.5, 0.5, 0.5) is not None)
        bets = [min(bet, 1.0) * 0.5 for bet in BETS]
        before, after = (0.75 * sum((1.0 + bet) ** m for bet in bets) / len(BETS) for m in (n - 1, n))
        assert before < k * (k + 1) / ALPHA <= after
        needed.append(n)

    assert [12, 15] == needed[:2]


def test_the_levels_of_all_rounds_sum_to_less_than_alpha() -> None:
    """1/2 + 1/6 + 1/12 + ... = 8/9 of it after eight rounds."""
    gate, levels = fresh(), []
    while gate.round <= ROUNDS:
        levels.append(gate.level)
        sign = 1.0 if gate.round % 2 else -1.0
        while gate.update(sign * 0.5, 0.5, 0.5) is None:
            pass

    assert ALPHA * 8 / 9 == pytest.approx(sum(levels))


def test_a_challenger_that_is_no_better_seldom_wins() -> None:
    """Watched after each of 2,000 differences of mean 0, at most 5 % of gates open, by skewed ones too."""
    rng = np.random.default_rng(1)
    fair = [rng.choice([-0.2, 0.2], 2000) for _ in range(200)]
    skewed = [np.where(rng.random(2000) < 0.1, 0.9, -0.1) for _ in range(200)]
    for kind in (fair, skewed):
        errors = sum(bool(verdicts(fresh(), one.tolist(), 0.9)) for one in kind)
        assert errors / 200 <= ALPHA


def test_nothing_more_is_found_where_both_become_equal() -> None:
    """Promoted for good reason, then without a difference: in at most 5 % a later round ends at all."""
    rng = np.random.default_rng(6)
    better, later = [0.2] * 100, 0
    for _ in range(200):
        found = verdicts(fresh(), [*better, *rng.choice([-0.2, 0.2], 2000).tolist()], 0.2)
        assert found[0][0] < 100
        later += len(found) > 1

    assert later / 200 <= ALPHA


def test_a_better_challenger_wins_about_as_soon_as_the_best_bet_would() -> None:
    """Mean .002, deviation .05: the best fixed bet needs some 2 log(2/α) (σ/μ)² = 4,600 examples."""
    rng = np.random.default_rng(2)
    needed = []
    for _ in range(9):
        ((n, verdict),) = verdicts(fresh(), rng.normal(0.002, 0.05, 20_000).tolist(), 1.0)
        assert verdict.for_challenger
        needed.append(n)

    assert 1500 < float(np.median(needed)) < 14_000


def test_a_challenger_that_gets_worse_is_demoted_however_long_it_was_better() -> None:
    """Thirty thousand good examples put it off by two blocks, and not by thirty thousand bad ones."""
    rng = np.random.default_rng(7)
    for n_good in (3_000, 30_000):
        good, bad = rng.normal(0.02, 0.1, n_good), rng.normal(-0.02, 0.1, 3 * BLOCK)
        gate = fresh()
        (n_up, up), (n_down, down), *_ = verdicts(gate, [*good.tolist(), *bad.tolist()], 1.0)

        assert (up.round, up.for_challenger, down.round, down.for_challenger) == (1, True, 2, False)
        assert n_up < 3_000
        assert n_good < n_down < n_good + 2 * BLOCK
        assert not gate.is_open


def test_after_the_last_round_the_incumbent_serves_for_good() -> None:
    """However much better the challenger is from then on."""
    gate = fresh()
    for k in range(1, ROUNDS + 1):
        while gate.update(0.5 if k % 2 else -0.5, 0.5, 0.5) is None:
            pass
    before = told(gate)

    assert [] == verdicts(gate, [0.5] * 1000, 0.5)
    assert not gate.is_open
    assert before == told(gate)


def test_examples_of_the_warm_up_are_not_compared() -> None:
    """The first three say nothing; after a verdict there is no warm-up."""
    gate = fresh(warm_up=3)
    found = verdicts(gate, [-0.5] * 3 + [0.5] * 13, 0.5)

    assert [14] == [n for n, _ in found]
    assert 1 == gate.n


@pytest.mark.parametrize(
    ("difference", "worst", "best"),
    [(-0.6, 0.5, 1.0), (0.6, 1.0, 0.5), (math.nan, 1.0, 1.0), (0.0, math.inf, 0.0), (1e9, 1.0, 1e9)],
)
def test_numbers_that_do_not_fit_are_refused(difference: float, worst: float, best: float) -> None:
    """A loss worse than the worst would make the wealth negative."""
    with pytest.raises(ValueError, match="worst"):
        fresh().update(difference, worst, best)


# The fold


def test_batches_add_up_in_any_order_and_leave_no_trace_when_undone() -> None:
    """Three workers' batches, folded in any order, give the bits of one gate; a rollback the old ones."""
    rng = np.random.default_rng(4)
    parts = [rng.uniform(-0.5, 0.6, 50).tolist() for _ in range(3)]
    deltas = []
    whole = fresh(1e-6)
    for part in parts:
        one = fresh(1e-6)
        for d in part:
            one.update(d, 0.5, 0.6)
            whole.update(d, 0.5, 0.6)
        deltas.append(delta_of(one))
        one.rollback()
        assert 0 == one.n
    whole.keep()
    for order in itertools.permutations(deltas):
        folded = fresh(1e-6)
        for delta in order:
            folded.fold(delta)
        assert told(whole) == told(folded)


def test_workers_that_know_of_different_rounds_agree_in_the_end() -> None:
    """Batches of a worker on its own, of one that hears of its rounds late, and over blocks, in any order."""
    rng = np.random.default_rng(9)
    first, second = fresh(), fresh()
    deltas, of_first = [], []
    for mean, n in ((0.3, 40), (0.0, BLOCK), (-0.3, 200), (0.3, 30)):
        for gate, some in ((first, rng.uniform(-0.5, 0.5, n) + mean), (second, rng.normal(0.0, 0.2, n // 2))):
            for d in np.clip(some, -1.0, 1.0).tolist():
                gate.update(d, 1.0, 1.0)
            deltas.append(delta_of(gate))
            gate.keep()
            gate.begin()
        of_first.append(deltas[-2])
        if len(of_first) == 3:
            assert (3, 1) == (first.round, second.round)
            second.keep()
            second.fold(of_first[0])
            second.begin()
            assert (3, 2) == (first.round, second.round)
    for delta in of_first[1:]:
        second.fold(delta)
    for delta in deltas[1::2]:
        first.fold(delta)
    assert told(first) == told(second)
    assert first.round == second.round >= 3
    for order in itertools.islice(itertools.permutations(deltas), 0, None, 997):
        folded = fresh()
        for delta in order:
            folded.fold(delta)
        assert told(first) == told(folded)
        assert first.round == folded.round


def test_who_hears_of_a_later_round_first_knows_that_the_earlier_is_over() -> None:
    """The partitions of the log of deltas are read in any order."""
    gate, other = fresh(), fresh()
    deltas = []
    for d in (0.5, -0.5):
        while gate.update(d, 0.5, 0.5) is None:
            pass
        deltas.append(delta_of(gate))
        gate.keep()
        gate.begin()
    other.fold(deltas[1])

    assert 3 == other.round
    assert not other.is_open
    other.fold(deltas[0])
    assert told(gate) == told(other)


def test_a_verdict_is_kept_over_deltas_and_snapshots_and_undone_with_its_batch() -> None:
    """Who folds the delta of it knows it, whatever evidence comes late for the round that is over."""
    gate, late, third = fresh(), fresh(), fresh()
    assert 1 == len(verdicts(gate, [0.5] * 13, 0.5))
    verdicts(late, [-0.5] * 200, 0.5)
    gate.fold(delta_of(late))
    third.restore(gate.snapshot())

    assert gate.is_open
    assert third.is_open
    assert told(gate) == told(third)
    assert 1 == third.n
    gate.rollback()
    assert 1 == gate.round
    assert told(fresh()) == told(gate)


@pytest.mark.parametrize(
    ("rounds", "gained"),
    [
        ([0], np.zeros((1, 3))),
        ([0], np.full((1, WIDTH), np.nan)),
        ([ROUNDS], np.zeros((1, WIDTH))),
        ([-1], np.zeros((1, WIDTH))),
    ],
)
def test_a_strange_delta_is_refused(rounds: list[int], gained: NDArray[np.float64]) -> None:
    """Sums of another number, none at all, or of a round that there is not."""
    gate, writer = fresh(), DeltaWriter("spec")
    writer.add(gate.name, {"round": np.array(rounds, np.int32), "gained": gained})
    with pytest.raises(DeltaError, match="gate"):
        gate.fold(read_delta(writer.to_bytes(), "spec"))
