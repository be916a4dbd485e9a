"""Which keys changed lately, for whoever keeps something that follows from them."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final

__all__ = ["Changes"]

MAX_CHANGES: Final = 16_384  # remembered; who has not looked for longer looks at everything


class Changes:
    """A numbered list of changed keys, of which the last are remembered.

    >>> changes = Changes()
    >>> seen = changes.revision
    >>> changes.note("a"), changes.note("b"), changes.note("a")
    (None, None, None)
    >>> changes.since(seen), changes.since(changes.revision)
    (['a', 'b'], [])
    >>> changes.note_all()
    >>> changes.since(seen) is None
    True
    """

    __slots__ = ("_keys", "revision")

    def __init__(self) -> None:
        self.revision = 0
        self._keys: deque[str] = deque(maxlen=MAX_CHANGES)

    def note(self, key: str) -> None:
        """Remember that a key changed."""
        self.revision += 1
        self._keys.append(key)

    def note_all(self) -> None:
        """Remember that everything may have changed."""
        self.revision += 1
        self._keys.clear()

    def since(self, revision: int) -> list[str] | None:
        """Keys changed after a revision, in order, each once; ``None`` if that is too long ago to say."""
        n = self.revision - revision
        if n > len(self._keys) or revision < 0:
            return None
        if n <= 1:  # as good as always
            return [self._keys[-1]] if n else []
        latest = [*islice(reversed(self._keys), n)]
        return [*dict.fromkeys(reversed(latest))]
