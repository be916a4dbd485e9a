"""Thompson sampling models and choices, for tests."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_models.bandits import Choice, ThompsonSampling


def pick(model: ThompsonSampling, offers: list[str], decision_id: str = "d", **changes: Any) -> Choice:
    """Choose with value 10, cost 0, a context of ones and seed 1, but for the changes."""
    n = len(offers)
    settings: dict[str, Any] = {
        "x": np.ones(model.n_features),
        "values": [10.0] * n,
        "costs": [0.0] * n,
        "seed": 1,
    }
    settings |= changes
    return model.choose(
        offers,
        settings["x"],
        settings["values"],
        settings["costs"],
        seed=settings["seed"],
        decision_id=decision_id,
        categories=settings.get("categories"),
        at=settings.get("at", 0.0),
    )


def trained(seed: int = 0, n: int = 400, **settings: Any) -> ThompsonSampling:
    """Train a model of three offers, the first of which converts often when feature 1 is high."""
    rng = np.random.default_rng(seed)
    model = ThompsonSampling(3, **settings)
    model.begin()
    for _ in range(n):
        x = np.r_[1.0, rng.normal(size=2)]
        offer = int(rng.integers(3))
        p = 1.0 / (1.0 + math.exp(2.0 - 1.5 * x[1] * (offer == 0)))
        model.learn_one(f"offer{offer}", x, float(rng.random() < p))
    model.keep()
    return model


def alone(n_features: int, **settings: Any) -> ThompsonSampling:
    """Make a model whose offers have nothing to do with each other: the textbook case."""
    return ThompsonSampling(n_features, pool_variance=0.0, **settings)


def posterior(model: ThompsonSampling, offer: str = "a") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and covariance of an offer's weights."""
    solved = model._solve([offer], [""], 0.0)
    return solved.mean[-1], solved.covariance[-1]
