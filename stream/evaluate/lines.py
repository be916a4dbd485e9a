"""Lines of a file that is evaluated: plain, gzipped or standard input, and an account of those refused."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, cast

from stream.reading import BadFileError, open_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Rejects", "numbered_lines"]

STDIN = Path("-")
_GZIP_MAGIC = b"\x1f\x8b"
MAX_EXAMPLES = 5


class Rejects:
    """Counts refused lines by code and keeps the first few as sentences that name file and line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []

    def add(self, line: int, code: str, message: str) -> None:
        """Note a refused line, counted from 1."""
        self.counts[code] += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(f"{self.path}:{line}: {code}: {message}")

    def require(self, accepted: int, what: str) -> None:
        """Refuse a file of which nothing is left.

        Raises
        ------
        BadFileError
            No line was accepted.
        """
        if accepted:
            return
        first = f"; first: {self.examples[0]}" if self.examples else "; the file is empty"
        message = f"{self.path}: no {what} in it, {self.counts.total()} lines rejected{first}"
        raise BadFileError(message)


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line) of every line that is not blank; ``-`` is standard input.

    Raises
    ------
    BadFileError
        The file cannot be read.
    """
    lines = _standard_input() if path == STDIN else open_lines(path)
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _standard_input() -> Iterator[bytes]:
    raw = io.BufferedReader(cast("io.RawIOBase", sys.stdin.buffer))
    gzipped = raw.peek(2)[:2] == _GZIP_MAGIC
    try:
        with raw, gzip.open(raw) if gzipped else raw as stream:
            for line in stream:
                yield line.rstrip(b"\r\n")
    except (OSError, EOFError, zlib.error) as error:
        message = f"standard input: {error}"
        raise BadFileError(message) from error
