"""How soon the offers' policy finds the best of the simulated shop's four offers; JSON on stdout.

    python benchmarks/offers_shop.py [--decisions N] [--seeds N]

The shop of `nudge demo`: rates .04, .08, .12 and .25 in a seeded order, a click worth 4, a cost of half the
rate. Who does not click counts as unanswered ten decisions later. Regret is relative: 0 is the best offer
always, 1 is nothing always.
"""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any

import numpy as np

from online_models.bandits import NOTHING, ThompsonSampling
from stream.core.features import OFFER_FEATURES
from stream.simulating.goods import draw_offers

LATE = 10  # decisions
POLICIES: dict[str, dict[str, Any]] = {
    "independent": {"pool_variance": 0.0},
    "pooled": {},
    "independent_alpha_.75": {"pool_variance": 0.0, "alpha": 0.75},
    "pooled_alpha_.75": {"alpha": 0.75},
    "pooled_alpha_1": {"alpha": 1.0},
}


def run(settings: dict[str, Any], seed: int, n_decisions: int) -> tuple[float, float]:
    """Share of decisions for the best offer, and the relative regret."""
    rng = np.random.default_rng(seed)
    offers = draw_offers(seed)
    gains = [offer.click_rate * offer.value - offer.cost for offer in offers]
    ids = [NOTHING, *(offer.offer_id for offer in offers)]
    values, costs = ([0.0, *(getattr(offer, name) for offer in offers)] for name in ("value", "cost"))
    model = ThompsonSampling(len(OFFER_FEATURES), floor=0.01, **settings)
    model.begin()
    waiting: list[tuple[str, Any]] = []
    right, gained = 0, 0.0
    for at in range(n_decisions):
        x = np.r_[1.0, rng.random(4) * 0.7, rng.random(3) < 0.5]
        chosen = ids.index(model.choose(ids, x, values, costs, seed=seed, decision_id=f"d{at}").offer)
        if len(waiting) > LATE:
            model.learn_one(*waiting.pop(0), 0)
        if not chosen:
            continue
        right += gains[chosen - 1] == max(gains)
        gained += gains[chosen - 1]
        if rng.random() < offers[chosen - 1].click_rate:
            model.learn_one(ids[chosen], x, 1)
        else:
            waiting.append((ids[chosen], x))
    return right / n_decisions, 1.0 - gained / (max(gains) * n_decisions)


def main() -> None:
    """Run all policies on the same shops."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decisions", type=int, default=450)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="100 decisions of two seeds")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.decisions, arguments.seeds = 100, 2
    found = {}
    for name, settings in POLICIES.items():
        runs = np.array([run(settings, seed, arguments.decisions) for seed in range(arguments.seeds)])
        shares, regrets = runs.T
        found[name] = {
            "best_offer_share": round(float(shares.mean()), 3),
            "least_share_of_a_seed": round(float(shares.min()), 3),
            "tenth_percentile_share": round(float(np.percentile(shares, 10)), 3),
            "relative_regret": round(float(regrets.mean()), 3),
            "standard_error": round(float(regrets.std() / np.sqrt(len(regrets))), 3),
        }
    print(
        json.dumps(
            {
                "decisions": arguments.decisions,
                "seeds": arguments.seeds,
                "policies": found,
                "machine": platform.platform(),
                "python": platform.python_version(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
