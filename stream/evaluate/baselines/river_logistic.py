"""Baseline: River's ``LogisticRegression`` under AdaGrad, on the same features as our model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from river import linear_model, optim

if TYPE_CHECKING:
    from online_models.hashing import SparseFeatures

__all__ = ["RiverLogistic"]

RATE = 0.1  # the best of those tried on MovieLens


class RiverLogistic:
    """One weight for each hashed slot; the intercept is River's own."""

    name = "river_logistic_regression"

    def __init__(self) -> None:
        self._model: Any = linear_model.LogisticRegression(optimizer=optim.AdaGrad(RATE))

    def predict(self, x: SparseFeatures) -> float:
        """Return what ``predict_proba_one`` says of a 1."""
        return float(self._model.predict_proba_one(_named(x))[True])

    def learn(self, x: SparseFeatures, y: int) -> None:
        """Pass the example on."""
        self._model.learn_one(_named(x), bool(y))


def _named(x: SparseFeatures) -> dict[int, float]:
    found = dict(zip(x.slots.tolist(), x.values.tolist(), strict=True))
    del found[0]  # our bias
    return found
