"""Baseline: ``reco.BiasedMF`` of River, taught each choice as 1 and one item drawn at random as 0.

River scores one item at a time; all are wanted, so its tables are mirrored as arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from river import optim, reco

from stream.evaluate.baselines.catalogue import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RiverBiasedMF"]

N_FACTORS = 16
RATE = 0.05


class RiverBiasedMF:
    """River's biased matrix factorisation for positive-only feedback."""

    name = "river_biased_mf"

    def __init__(self, seed: int) -> None:
        self.model: Any = reco.BiasedMF(
            n_factors=N_FACTORS,
            bias_optimizer=optim.SGD(RATE),
            latent_optimizer=optim.SGD(RATE),
            latent_initializer=optim.initializers.Normal(mu=0.0, sigma=0.1, seed=seed),
        )
        self._generator = np.random.Generator(np.random.Philox(seed))
        self._vectors = np.zeros((256, N_FACTORS))
        self._biases = np.zeros(256)
        self._n = 0

    def scores(self, user: int, at: float) -> NDArray[np.float64] | None:
        """What ``predict_one`` says of every known item."""
        del at
        if user not in self.model.u_latents:
            return None
        base = self.model.global_mean.get() + self.model.u_biases[user]
        scores: NDArray[np.float64] = self._vectors[: self._n] @ self.model.u_latents[user]
        scores += base + self._biases[: self._n]
        return scores

    def learn(self, user: int, item: int, at: float, *, repeat: bool) -> None:
        """Teach the choice, and that another known item was not chosen."""
        del at
        self._vectors, self._biases = grown(self._vectors, item + 1), grown(self._biases, item + 1)
        self._n = max(self._n, item + 1)
        if repeat:
            return
        self._teach(user, item, 1.0)
        other = int(self._generator.integers(self._n))
        if other != item:
            self._teach(user, other, 0.0)

    def _teach(self, user: int, item: int, y: float) -> None:
        self.model.learn_one(user=user, item=item, y=y)
        self._vectors[item] = self.model.i_latents[item]
        self._biases[item] = self.model.i_biases[item]
