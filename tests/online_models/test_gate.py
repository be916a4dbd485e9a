"""The gate opens for a better challenger, seldom for one that is no better, and adds up to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from online_models.delta import DeltaError, DeltaReader, DeltaWriter
from online_models.gate import BETS, ChallengerGate

ALPHA = 0.05


def opened(differences: list[float], worst: float) -> int | None:
    """After how many examples a fresh gate opens."""
    gate = ChallengerGate("gate", ALPHA, 0)
    gate.begin()
    return next((n for n, d in enumerate(differences) if gate.update(d, worst)), None)


def test_a_challenger_that_is_no_better_seldom_wins() -> None:
    """Watched after each of 2,000 differences of mean 0, at most 5 % of gates open, by skewed ones too."""
    rng = np.random.default_rng(1)
    fair = [rng.choice([-0.2, 0.2], 2000) for _ in range(200)]
    skewed = [np.where(rng.random(2000) < 0.1, 0.9, -0.1) for _ in range(200)]
    for kind in (fair, skewed):
        wins = sum(opened(one.tolist(), 0.2) is not None for one in kind)
        assert wins / 200 <= ALPHA


def test_a_better_challenger_wins_about_as_soon_as_the_best_bet_would() -> None:
    """Mean .002, deviation .05: the best fixed bet needs some 2 log(1/α) (σ/μ)² = 3,700 examples."""
    rng = np.random.default_rng(2)
    needed = [opened(rng.normal(0.002, 0.05, 60_000).tolist(), 1.0) for _ in range(9)]

    assert None not in needed
    assert 1500 < float(np.median([n for n in needed if n is not None])) < 11_000


def test_the_wealth_is_that_of_the_bets() -> None:
    """The mean over the bets of the product of 1 + λ d, with λ at most a half of the worst."""
    rng = np.random.default_rng(3)
    worst = rng.uniform(0.0, 2.0, 500)
    differences = rng.uniform(-worst, 1.0)
    gate = ChallengerGate("gate", 1e-9, 0)
    gate.begin()
    for d, w in zip(differences.tolist(), worst.tolist(), strict=True):
        gate.update(d, w)
    wealth = [np.prod(1.0 + np.minimum(bet, 0.5 / worst) * differences) for bet in BETS]

    assert math.log(np.mean(wealth)) == pytest.approx(gate.log_wealth(), abs=1e-4)
    assert differences.mean() == pytest.approx(gate.mean_difference, abs=1e-6)
    assert 500 == gate.n


def test_examples_of_the_warm_up_are_not_compared() -> None:
    """The first three say nothing."""
    gate = ChallengerGate("gate", ALPHA, 3)
    gate.begin()
    for _ in range(4):
        gate.update(-0.5, 0.5)

    assert 1 == gate.n


def test_batches_add_up_in_any_order_and_leave_no_trace_when_undone() -> None:
    """Three workers' batches, folded in any order, give the bits of one gate; a rollback the old ones."""
    rng = np.random.default_rng(4)
    parts = [rng.uniform(-0.5, 0.6, 50).tolist() for _ in range(3)]
    deltas = []
    whole = ChallengerGate("gate", 1e-6, 0)
    whole.begin()
    for part in parts:
        one = ChallengerGate("gate", 1e-6, 0)
        one.begin()
        for d in part:
            one.update(d, 0.5)
            whole.update(d, 0.5)
        writer = DeltaWriter("spec")
        one.write_delta(writer)
        deltas.append(writer.to_bytes())
        one.rollback()
        assert 0 == one.n
    whole.keep()
    for order in ((0, 1, 2), (2, 0, 1)):
        folded = ChallengerGate("gate", 1e-6, 0)
        for at in order:
            folded.begin()
            folded.fold(DeltaReader(deltas[at], "spec"))
            folded.keep()
        assert whole.snapshot()["state"].tolist() == folded.snapshot()["state"].tolist()


def test_it_stays_open_over_deltas_and_snapshots() -> None:
    """Who folds the delta that opened it has it open, whatever comes after."""
    gate, other, third = (ChallengerGate("gate", ALPHA, 0) for _ in range(3))
    gate.begin()
    assert 1 == sum(gate.update(0.5, 0.5) for _ in range(40))
    writer = DeltaWriter("spec")
    gate.write_delta(writer)
    gate.keep()
    other.begin()
    other.fold(DeltaReader(writer.to_bytes(), "spec"))
    for _ in range(200):
        other.update(-0.5, 0.5)
    other.keep()
    third.restore(other.snapshot())

    assert gate.is_open
    assert third.is_open
    assert third.log_wealth() < 0.0


@pytest.mark.parametrize(("difference", "worst"), [(-0.6, 0.5), (math.nan, 1.0), (0.0, math.inf), (1e9, 1.0)])
def test_numbers_that_do_not_fit_are_refused(difference: float, worst: float) -> None:
    """A loss worse than the worst would make the wealth negative."""
    gate = ChallengerGate("gate", ALPHA, 0)
    gate.begin()
    with pytest.raises(ValueError, match="worst"):
        gate.update(difference, worst)


def test_a_strange_delta_is_refused() -> None:
    """Sums of another number, or none at all."""
    gate = ChallengerGate("gate", ALPHA, 0)
    for gained in (np.zeros((1, 3)), np.full((1, 4 + len(BETS)), np.nan)):
        writer = DeltaWriter("spec")
        writer.add("gate", {"gained": gained})
        gate.begin()
        with pytest.raises(DeltaError, match="gate"):
            gate.fold(DeltaReader(writer.to_bytes(), "spec"))
        gate.rollback()
