"""Baseline: Vowpal Wabbit's default learner, where the package ``vowpalwabbit`` is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from online_models.hashing import SparseFeatures

__all__ = ["VowpalWabbit", "is_installed"]


def is_installed() -> bool:
    """Whether the package can be imported."""
    return find_spec("vowpalwabbit") is not None


class VowpalWabbit:
    """Adaptive, normalised, invariant SGD on the same slots and values as our model."""

    name = "vowpal_wabbit"

    def __init__(self) -> None:
        import vowpalwabbit  # noqa: PLC0415  an optional peer

        self._workspace: Any = vowpalwabbit.Workspace("--quiet --loss_function logistic --link logistic")

    def predict(self, x: SparseFeatures) -> float:
        """Probability of a 1."""
        return float(self._workspace.predict(_text(x)))

    def learn(self, x: SparseFeatures, y: int) -> None:
        """Pass the example on."""
        self._workspace.learn(f"{1 if y else -1} {_text(x)}")


def _text(x: SparseFeatures) -> str:
    pairs = zip(x.slots.tolist(), x.values.tolist(), strict=True)
    return "| " + " ".join(f"{slot}:{value:.9g}" for slot, value in pairs if slot)  # it has its own constant
