"""All models of a worker as one: a batch is learned, published, kept or undone as a whole."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from online_models.base import Foldable, ItemModel
from online_models.delta import DeltaError, DeltaReader, DeltaWriter, read_delta

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from online_models.base import Snapshot
    from online_models.vocabulary import Vocabulary

__all__ = ["ModelSet"]


class ModelSet:
    """The models that learn and fold together, and the vocabulary their items share.

    Parameters
    ----------
    models : sequence of Foldable
        Each name once. Models that keep rows of items share the vocabulary.
    vocabulary : Vocabulary
        Written and folded before the models.
    optional : sequence of Foldable
        Models that come and go, whose names tell their spec: it is no part of the set's. A delta or snapshot
        without them teaches them nothing, and one with others is read all the same.

    Examples
    --------
    >>> from online_models.popularity import DecayedPopularity
    >>> from online_models.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary(10)
    >>> popularity = DecayedPopularity(vocabulary)
    >>> models = ModelSet([popularity], vocabulary)
    >>> before = models.digest()
    >>> models.begin()
    >>> popularity.learn_one("a", at=5.0)
    >>> delta = models.delta()
    >>> models.rollback()
    >>> models.digest() == before, popularity.count("a", 5.0, 0)
    (True, 0.0)
    >>> models.fold(delta)
    >>> popularity.count("a", 5.0, 0)
    1.0
    """

    def __init__(
        self, models: Sequence[Foldable], vocabulary: Vocabulary, optional: Sequence[Foldable] = ()
    ) -> None:
        everything = (*models, *optional)
        names = [vocabulary.name, *(model.name for model in everything)]
        if len(set(names)) != len(names):
            message = f"model names {names}; each must be there once"
            raise ValueError(message)
        self.models = everything
        self._optional = frozenset(model.name for model in optional)
        self.vocabulary = vocabulary
        self.spec = "\n".join([vocabulary.spec, *(model.spec for model in models)])
        self._parts: tuple[Vocabulary | Foldable, ...] = (vocabulary, *everything)
        self._item_models = tuple(model for model in everything if isinstance(model, ItemModel))
        self._other_models = tuple(model for model in everything if not isinstance(model, ItemModel))

    def __repr__(self) -> str:
        return f"ModelSet({', '.join(model.name for model in self.models)})"

    def begin(self) -> None:
        """Open a batch.

        Raises
        ------
        RuntimeError
            When one is open already.
        """
        self.vocabulary.begin()
        for model in self.models:
            model.begin()

    def delta(self) -> bytes:
        """What the open batch taught; ``b""`` when it taught nothing."""
        writer = self.write()
        return b"" if writer.empty else writer.to_bytes()

    def write(self) -> DeltaWriter:
        """The same, not yet as bytes."""
        writer = DeltaWriter(self.spec)
        self.vocabulary.write_delta(writer)
        for model in self.models:
            model.write_delta(writer)
        return writer

    def keep(self) -> None:
        """Close the batch: what it taught stays."""
        for model in self.models:
            model.keep()
        self.vocabulary.keep()

    def rollback(self) -> None:
        """Close the batch: all models have the bits they had at :meth:`begin`."""
        for model in reversed(self.models):
            model.rollback()
        self.vocabulary.rollback()

    def fold(self, delta: bytes, reader: DeltaReader | None = None) -> None:
        """Learn what a committed batch taught, here or elsewhere. No batch may be open.

        Parameters
        ----------
        delta : bytes
            As :meth:`delta` gave it; ``b""`` does nothing.
        reader : DeltaReader, optional
            What reading it gives, where somebody has that already.

        Raises
        ------
        DeltaError
            When the delta is damaged or from other models; nothing has changed then.
        """
        if not delta:
            return
        reader = reader or read_delta(delta, self.spec)
        self.begin()
        try:
            self._apply(reader)
        except DeltaError:
            self.rollback()
            raise
        except (KeyError, IndexError, ValueError, TypeError) as error:
            self.rollback()
            message = f"a section does not have the columns its model writes: {error!r}"
            raise DeltaError(message) from error
        self.keep()

    def _apply(self, reader: DeltaReader) -> None:
        for first, last in self.vocabulary.replay(reader):
            reader.window(first, last)
            for model in self._item_models:
                model.fold(reader)
        for other in self._other_models:
            other.fold(reader)

    def snapshot(self) -> Snapshot:
        """Arrays of all models, named ``model/array``, and the spec they were written under."""
        if self.vocabulary.is_open:
            message = "a snapshot holds committed state only: keep() or rollback() the batch first"
            raise RuntimeError(message)
        arrays: Snapshot = {"spec": np.frombuffer(self.spec.encode(), np.uint8)}
        for model in self._parts:
            arrays.update({f"{model.name}/{key}": array for key, array in model.snapshot().items()})
        for array in arrays.values():
            array.flags.writeable = False  # as when it is read back: kernels are compiled for one of both
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot.

        Raises
        ------
        ValueError
            When it was written under another spec.
        """
        spec = arrays["spec"].tobytes().decode()
        if spec != self.spec:
            message = f"snapshot of\n{spec}\nthese models are\n{self.spec}"
            raise ValueError(message)
        for model in self._parts:
            prefix = f"{model.name}/"
            own = {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}
            if own or model.name not in self._optional:
                model.restore(own)

    def digest(self) -> str:
        """A hash of all state that matters, free of row numbers: equal digests answer alike."""
        digest = blake2b(self.spec.encode(), digest_size=16)
        rows = self.vocabulary.sorted_rows()
        for array in self.vocabulary.digest_arrays(rows):
            digest.update(array.tobytes())
        for model in self.models:
            arrays = (
                model.digest_arrays(rows)
                if isinstance(model, ItemModel)
                else (array for _, array in sorted(model.snapshot().items()))
            )
            digest.update(model.name.encode())
            for array in arrays:
                digest.update(array.tobytes())
        return digest.hexdigest()
