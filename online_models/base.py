"""What every model promises: it is a fold of additive deltas.

A model's state is the fold of the operations that all workers published, in the order of the log.
Learning is two steps: *compute* an additive operation from the event and the state, then *apply* it
through the same code that folds somebody else's.
So a restart, a rebalance and a merge between workers are one mechanism, and folding the operations of one
partition in their order gives the same bits however they were batched.

Between :meth:`Foldable.begin` and one of :meth:`Foldable.keep` or :meth:`Foldable.rollback` a batch is open.
There is at most one open batch at a time, and learning outside of one raises ``RuntimeError``.
Reading (``predict_...``, ``propose``, ``score``) changes nothing and is allowed at any time.

A model that keeps a row for each item of the shared vocabulary is an :class:`ItemModel`:

- it subscribes ``clear_row`` with the vocabulary and undoes a clearing like any other change;
- its section has a column ``step`` (``online_models.delta.STEP``): the ``vocabulary.step`` at which each
  operation was recorded, after the vocabulary's own ``touch`` of the event;
- its operations name items by ``vocabulary.refer(row)``; :meth:`online_models.delta.DeltaReader.item_rows`
  turns such indices into the rows of the folding worker, −1 where it has none;
- its ``fold`` is called once for each piece of a delta between two evictions; the reader shows that piece
only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from online_models.delta import DeltaReader, DeltaWriter

__all__ = ["FactorSource", "Foldable", "ItemModel", "Snapshot"]

Snapshot = dict[str, NDArray[np.generic]]


@runtime_checkable
class Foldable(Protocol):
    """State that is learned by additive operations, folded from a log, and undone exactly.

    Attributes
    ----------
    name : str
        Name of the model's section in a delta, unique within a :class:`online_models.fold.ModelSet`.
    spec : str
        Every hyper-parameter that gives the state its meaning, as text.
        A delta or snapshot written under another spec is refused, never mixed.
    """

    name: str
    spec: str

    def begin(self) -> None:
        """Open a batch: from here on operations are recorded, and old values are kept."""

    def write_delta(self, delta: DeltaWriter) -> None:
        """Write the operations recorded since :meth:`begin`, in order, into this model's section."""

    def keep(self) -> None:
        """Close the batch: its operations are committed, the old values are forgotten."""

    def rollback(self) -> None:
        """Close the batch and undo it: the state has the bits it had at :meth:`begin`."""

    def fold(self, delta: DeltaReader) -> None:
        """Apply committed operations of a section that :meth:`write_delta` wrote, here or elsewhere.

        The model set opens a batch around it, so that a delta that turns out to be unusable is undone;
        nothing that is folded is recorded again. ``delta.columns(name)`` is empty when there is no section.

        Raises
        ------
        DeltaError
            When the operations cannot be those of this model.
        """

    def snapshot(self) -> Snapshot:
        """Arrays that restore the state; no batch may be open."""

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over the state of a snapshot written under the same spec."""


@runtime_checkable
class ItemModel(Foldable, Protocol):
    """A model with one row for each item of the shared vocabulary."""

    def clear_row(self, row: int) -> None:
        """Forget the item of a row, undoably: the row is about to pass to another item."""

    def digest_arrays(self, rows: NDArray[np.int64]) -> Iterable[NDArray[np.generic]]:
        """The state that matters, in the order of the given rows and free of row numbers.

        Two models that would answer alike give equal arrays, whatever rows their items have.
        """


@runtime_checkable
class FactorSource(ItemModel, Protocol):
    """The factor model as the blend sees it. Rows are those of the shared vocabulary.

    ``memory`` is what the model remembers of one user. It lives with the user's other state and is opaque to
    everybody else; ``b""`` stands for a new user, and so does memory that cannot be read.

    Attributes
    ----------
    read_arrays : tuple of ndarray
        What :func:`online_models.kernels.proposing.propose` reads: weights by age, settings (w0 and λ first),
        table, Gram matrices, vectors by factor, and work space for the scores of all rows: with more rows
        than it has room for, the model proposes nothing and only scores what others propose.
    """

    read_arrays: tuple[NDArray[Any], ...]

    def learn_one(
        self, row: int, history: NDArray[np.int32], at: float, weight: float, memory: bytes
    ) -> bytes:
        """Learn what a user with this history chose (rows, newest first, −1 = unknown); the new memory."""
