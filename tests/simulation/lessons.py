"""Models that remember what they were taught, so that it can be compared with the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import stream.runtime.shared
import stream.runtime.snapshots
from online_models.base import Snapshot
from online_models.delta import DeltaReader, DeltaWriter
from online_models.fold import ModelSet
from stream.assembly import build_models
from stream.core.learning import Models
from stream.settings import Settings


class RecordedModels(ModelSet):
    """A set of models and all it has kept.

    Attributes
    ----------
    taught : list of bytes
        Deltas that came in, in their order.
    base : Snapshot or None
        What it began with.
    """

    taught: list[bytes]
    base: Snapshot | None
    base_lessons: Counter[bytes]
    saved: dict[str, Counter[bytes]]
    _open: bytes
    _folding: bool

    @property
    def lessons(self) -> Counter[bytes]:
        """All deltas that are in the models, with those of the snapshot they began with."""
        return self.base_lessons + Counter(self.taught)

    def begin(self) -> None:
        """Open a batch."""
        self._open = b""
        super().begin()

    def write(self) -> DeltaWriter:
        """What the open batch taught."""
        writer = super().write()
        self._open = b"" if writer.empty else writer.to_bytes()
        return writer

    def keep(self) -> None:
        """Close the batch: what it taught stays."""
        super().keep()
        if not self._folding and self._open:
            self.taught.append(self._open)

    def fold(self, delta: bytes, reader: DeltaReader | None = None) -> None:
        """Learn a delta."""
        self._folding = True
        try:
            super().fold(delta, reader)
        finally:
            self._folding = False
        if delta:
            self.taught.append(delta)

    def snapshot(self) -> Snapshot:
        """Arrays of all models."""
        arrays = super().snapshot()
        self.saved[self.digest()] = self.lessons
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over a snapshot."""
        super().restore(arrays)
        self.base = {name: array.copy() for name, array in arrays.items()}
        self.base_lessons = self.saved.get(self.digest(), Counter())

    def learned_anew(self, settings: Settings) -> ModelSet:
        """Fold all that was kept on fresh models, in the same order."""
        models = build_models(settings).fold
        if self.base is not None:
            models.restore(self.base)
        for lesson in self.taught:
            models.fold(lesson)
        return models


@contextmanager
def recorded() -> Iterator[None]:
    """Let the workers' models remember."""
    saved: dict[str, Counter[bytes]] = {}  # lessons in each snapshot of the run, by its digest

    def build(settings: Settings) -> Models:
        models = build_models(settings)
        fold = models.fold
        fold.__class__ = RecordedModels
        assert isinstance(fold, RecordedModels)
        fold.taught, fold.base, fold.base_lessons, fold.saved = [], None, Counter(), saved
        fold._open, fold._folding = b"", False
        return models

    with mock.patch.object(stream.runtime.shared, "build_models", build):
        yield
