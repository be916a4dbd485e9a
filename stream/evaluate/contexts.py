"""Contexts of logged decisions as vectors of order 1, which is what the offers' posteriors take."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["ContextEncoder", "ContextValue"]

ContextValue = str | float | bool | None
MAX_FEATURES = 64  # what a choice may cost: its square
MAX_PLAIN = 8.0  # the posteriors clip beyond it


class ContextEncoder:
    """A bias, one entry for each number or boolean, one for each value of a text.

    A number that somewhere exceeds ±8 enters as asinh(x). Of more than 63 entries the most frequent stay.
    The encoding looks at all contexts of the log, at no reward.

    >>> encoder = ContextEncoder([{"age": 30.0, "new": True}, {"age": 2.0, "shop": "a"}])
    >>> encoder.names, encoder.encode({"age": 0.0, "shop": "a"}).tolist()
    (['bias', 'age', 'new', 'shop=a'], [1.0, 0.0, 0.0, 1.0])
    """

    def __init__(self, contexts: Iterable[Mapping[str, ContextValue]]) -> None:
        present: Counter[str] = Counter()
        self._curved: set[str] = set()
        for context in contexts:
            for name, value in context.items():
                entry = _entry(name, value)
                if entry is None:
                    continue
                present[entry] += 1
                if not isinstance(value, str) and abs(float(value or 0.0)) > MAX_PLAIN:
                    self._curved.add(entry)
        kept = sorted(present, key=lambda entry: (-present[entry], entry))[: MAX_FEATURES - 1]
        self.names = ["bias", *sorted(kept)]
        self.n_left_out = len(present) - len(kept)
        self._column = {entry: at for at, entry in enumerate(self.names) if at}

    def encode(self, context: Mapping[str, ContextValue]) -> NDArray[np.float64]:
        """The vector of a context; what is missing or was left out is 0."""
        x = np.zeros(len(self.names))
        x[0] = 1.0
        for name, value in context.items():
            entry = _entry(name, value)
            column = self._column.get(entry) if entry is not None else None
            if column is None:
                continue
            number = 1.0 if isinstance(value, str) else float(value or 0.0)
            x[column] = math.asinh(number) if entry in self._curved else number
        return x

    def matrix(self, contexts: Sequence[Mapping[str, ContextValue]]) -> NDArray[np.float64]:
        """All vectors, one a row."""
        return np.stack([self.encode(context) for context in contexts])


def _entry(name: str, value: ContextValue) -> str | None:
    if value is None or name == "bias":
        return None
    return f"{name}={value}" if isinstance(value, str) else name
