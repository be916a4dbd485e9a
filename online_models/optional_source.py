"""Sources that a configuration can add to the blend: each lists items for whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from online_models.cooccurrence import SequentialCooccurrence
    from online_models.slate import ReasonCode

__all__ = ["NOBODY", "Asker", "OptionalSource"]


class Asker(NamedTuple):
    """Who asks, beside a history.

    Attributes
    ----------
    user : str
        Whose events they are.
    segments : tuple of str
        What the user is a member of.
    """

    user: str = ""
    segments: tuple[str, ...] = ()


NOBODY = Asker()


class OptionalSource(Protocol):
    """A source that the ranker gets a rank and a score of.

    Attributes
    ----------
    name : str
        Of its features.
    code : ReasonCode
        What lifts an item by it.
    model : SequentialCooccurrence
        All its state.
    """

    name: str
    code: ReasonCode
    model: SequentialCooccurrence

    def learn(self, row: int, history: NDArray[np.int32], at: float, weight: float, asker: Asker) -> None:
        """Learn an event with an item that the vocabulary has just touched."""

    def best(
        self, history: NDArray[np.int32], at: float, asker: Asker
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Rows and scores of order 1, best first. Changes nothing."""
