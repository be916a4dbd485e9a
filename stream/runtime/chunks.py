"""Cut long values into records under the broker's message limit, and join them again.

>>> parts = list(cut(b"abcdefg", 3))
>>> parts
[(b'abc', b'0/3'), (b'def', b'1/3'), (b'g', b'2/3')]
>>> joiner = Joiner()
>>> [joiner.add(value, part) for value, part in parts]
[None, None, b'abcdefg']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHUNK_BYTES", "PART", "Joiner", "cut"]

CHUNK_BYTES: Final = 768 << 10  # with keys and headers under the broker's default limit of 1 MiB
PART: Final = "nudge.part"  # header: this part / parts


def cut(value: bytes, size: int = CHUNK_BYTES) -> Iterator[tuple[bytes, bytes]]:
    """Yield parts of at most ``size`` bytes, each with what its header says."""
    n = max(-(-len(value) // size), 1)
    for k in range(n):
        yield value[k * size : (k + 1) * size], b"%d/%d" % (k, n)


class Joiner:
    """Joins the parts of one log in order; parts whose rest never came are dropped."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(self, value: bytes, part: bytes) -> bytes | None:
        """Return the whole value with its last part, ``None`` before.

        A writer that died in between left its first parts only, and the next begins at 0 again.
        """
        k, n = (int(number) for number in part.split(b"/"))
        if k == 0:
            self._parts = []
        elif k != len(self._parts):
            self._parts = []
            return None
        self._parts.append(value)
        if k + 1 < n:
            return None
        whole, self._parts = b"".join(self._parts), []
        return whole
