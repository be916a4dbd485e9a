"""Regret of the offers' policy in a simulation, with simpler ones and River's beside it; JSON on stdout.

    python benchmarks/offers_regret.py [--events N] [--seeds N] [--batch N] [--drift]

Ten offers and eleven features: x_0 = 1, the others N(0, 1); true weights N(0, .6), true bias N(-3.2, .4)
(standard deviations). Regret is the sum over decisions of the best offer's conversion probability minus
that of the chosen one. With --batch N the feedback of N decisions is learned together, as it arrives late.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import bandit, proba

from online_models.bandits import ThompsonSampling

N_OFFERS = 10
N_FEATURES = 11
DAY_S = 86_400.0
STEP_S = 60.0  # of event time between two decisions
OFFERS = [f"offer{n}" for n in range(N_OFFERS)]
ONES, ZEROS = [1.0] * N_OFFERS, [0.0] * N_OFFERS

Context = NDArray[np.float64]


class Uniform:
    """Choose at random."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def choose(self, x: Context, at: int) -> int:
        """Choose an offer."""
        del x, at
        return int(self._rng.integers(N_OFFERS))

    def learn(self, offer: int, x: Context, y: float) -> None:
        """Learn nothing."""


class BetaSampling(Uniform):
    """Thompson sampling without context: a Beta(1, 25) prior for each offer."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._counts = np.tile([1.0, 25.0], (N_OFFERS, 1))

    def choose(self, x: Context, at: int) -> int:
        """Draw a rate for each offer and take the best."""
        del x, at
        return int(self._rng.beta(self._counts[:, 0], self._counts[:, 1]).argmax())

    def learn(self, offer: int, x: Context, y: float) -> None:
        """Count."""
        del x
        self._counts[offer, int(y < 0.5)] += 1.0


class Ours(Uniform):
    """The production policy."""

    def __init__(self, seed: int, **settings: float) -> None:
        super().__init__(seed)
        self._seed = seed
        self.model = ThompsonSampling(N_FEATURES, **settings)  # type: ignore[arg-type]
        self.model.begin()
        self._epsilon = 0.0
        self._now = 0.0

    def choose(self, x: Context, at: int) -> int:
        """Choose as in production, every message worth the same."""
        self._now = at * STEP_S
        choice = self.model.choose(
            OFFERS, x, ONES, ZEROS, seed=self._seed, decision_id=f"d{at}", at=self._now
        )
        return OFFERS.index(choice.offer)

    def learn(self, offer: int, x: Context, y: float) -> None:
        """Learn one outcome."""
        self.model.learn_one(OFFERS[offer], x, y, at=self._now)


class Greedy(Ours):
    """The best mean, and with probability epsilon any offer."""

    def __init__(self, seed: int, epsilon: float) -> None:
        super().__init__(seed, draws=1, floor=0.0, alpha=0.0)
        self._epsilon = epsilon

    def choose(self, x: Context, at: int) -> int:
        """Choose the best mean, or explore."""
        if self._rng.random() < self._epsilon:
            return int(self._rng.integers(N_OFFERS))
        return super().choose(x, at)


class River(Uniform):
    """A policy of River without context; it learns rewards of 0 and 1."""

    def __init__(self, seed: int, policy: Any) -> None:
        super().__init__(seed)
        self._policy = policy

    def choose(self, x: Context, at: int) -> int:
        """Let the policy pull."""
        del x, at
        return int(self._policy.pull(list(range(N_OFFERS))))

    def learn(self, offer: int, x: Context, y: float) -> None:
        """Let the policy learn."""
        del x
        self._policy.update(offer, y)


class RiverContextual(River):
    """A contextual policy of River."""

    def choose(self, x: Context, at: int) -> int:
        """Let the policy pull in a context."""
        del at
        return int(self._policy.pull(list(range(N_OFFERS)), context=dict(enumerate(x.tolist()))))

    def learn(self, offer: int, x: Context, y: float) -> None:
        """Let the policy learn in a context."""
        self._policy.update(offer, dict(enumerate(x.tolist())), y)


POLICIES: dict[str, Callable[[int], Uniform]] = {
    "uniform": Uniform,
    "beta_sampling_without_context": BetaSampling,
    "greedy": lambda seed: Greedy(seed, 0.0),
    "greedy_epsilon_.02": lambda seed: Greedy(seed, 0.02),
    "thompson_no_floor": lambda seed: Ours(seed, floor=0.0),
    "thompson_floor_.002": lambda seed: Ours(seed, floor=0.002),
    "thompson_floor_.005": lambda seed: Ours(seed, floor=0.005),
    "thompson_floor_.02": Ours,
    "thompson_no_floor_half_life_1_day": lambda seed: Ours(seed, floor=0.0, half_life_s=DAY_S),
    "thompson_no_floor_half_life_3_days": lambda seed: Ours(seed, floor=0.0, half_life_s=3 * DAY_S),
    "thompson_independent_no_floor": lambda seed: Ours(seed, floor=0.0, pool_variance=0.0),
    "river_epsilon_greedy": lambda seed: River(seed, bandit.EpsilonGreedy(0.05, seed=seed)),
    "river_ucb": lambda seed: River(seed, bandit.UCB(1.0, seed=seed)),
    "river_bayes_ucb": lambda seed: River(seed, bandit.BayesUCB(seed=seed)),
    "river_exp3": lambda seed: River(seed, bandit.Exp3(0.05, seed=seed)),
    "river_thompson_beta": lambda seed: River(
        seed, bandit.ThompsonSampling(proba.Beta(1, 25, seed=seed), seed=seed)
    ),
    "river_lin_ucb": lambda seed: RiverContextual(seed, bandit.LinUCBDisjoint(seed=seed)),
}


def simulate(
    make: Callable[[int], Uniform], seed: int, n_events: int, batch: int, *, drift: bool = False
) -> tuple[float, float]:
    """Regret, and microseconds for each decision with its learning.

    With drift the offers change their weights with one another after half of the decisions.
    """
    rng = np.random.default_rng(seed)
    true = np.c_[rng.normal(-3.2, 0.4, N_OFFERS), rng.normal(0.0, 0.6, (N_OFFERS, N_FEATURES - 1))]
    contexts = np.c_[np.ones(n_events), rng.normal(size=(n_events, N_FEATURES - 1))]
    probabilities = 1.0 / (1.0 + np.exp(-contexts @ true.T))
    if drift:
        probabilities[n_events // 2 :] = np.roll(probabilities[n_events // 2 :], 1, axis=1)
    converts = rng.random((n_events, N_OFFERS)) < probabilities
    policy = make(seed)
    regret = 0.0
    waiting: list[tuple[int, Context, float]] = []
    started = time.perf_counter()
    for at in range(n_events):
        x = contexts[at]
        offer = policy.choose(x, at)
        regret += float(probabilities[at].max() - probabilities[at, offer])
        waiting.append((offer, x, float(converts[at, offer])))
        if len(waiting) == batch:
            for feedback in waiting:
                policy.learn(*feedback)
            waiting.clear()
    return regret, (time.perf_counter() - started) / n_events * 1e6


def main() -> None:
    """Run all policies on the same streams."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--policy", choices=list(POLICIES), action="append", help="these only; may be repeated"
    )
    parser.add_argument("--drift", action="store_true", help="offers change their weights half-way")
    parser.add_argument("--quick", action="store_true", help="5,000 events of one seed")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.events, arguments.seeds = 5000, 1
    found = {}
    for name in arguments.policy or POLICIES:
        runs = [
            simulate(POLICIES[name], seed, arguments.events, arguments.batch, drift=arguments.drift)
            for seed in range(arguments.seeds)
        ]
        regrets = [regret for regret, _ in runs]
        found[name] = {
            "regret": round(float(np.mean(regrets)), 1),
            "standard_error": round(float(np.std(regrets) / np.sqrt(len(regrets))), 1),
            "us_per_decision": round(float(np.mean([us for _, us in runs])), 1),
        }
    print(
        json.dumps(
            {
                "events": arguments.events,
                "seeds": arguments.seeds,
                "batch": arguments.batch,
                "drift": arguments.drift,
                "policies": found,
                "machine": platform.platform(),
                "python": platform.python_version(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
