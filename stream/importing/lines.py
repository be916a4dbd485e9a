"""Reading a public data set: numbered lines of a plain or gzip file, or of standard input.

Nothing here knows a source. Every read is bounded, and a line that cannot be read is a value, not an error.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

__all__ = ["MAX_LINE_BYTES", "STDIN", "DataSetError", "Line", "Source", "open_lines"]

STDIN: Literal["-"] = "-"
Source = Path | Literal["-"]

MAX_LINE_BYTES = 1 << 20  # sixteen times the record limit: no event could come of a longer line
PROGRESS_EVERY = 8192  # lines; some hundredths of a second of work
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class DataSetError(ValueError):
    """The file as a whole is not what the importer reads: no such source, wrong header, broken gzip."""


class Line(NamedTuple):
    """One line of the data set.

    Attributes
    ----------
    number : int
        1-based, headers and blank lines included.
    text : str | None
        Without its line end; ``None`` when it is longer than :data:`MAX_LINE_BYTES`.
    """

    number: int
    text: str | None


@contextmanager
def open_lines(path: Source, progress: Callable[[int], None] | None = None) -> Iterator[Iterator[Line]]:
    """Open a data set and hand out its lines, blank ones left out.

    Text is UTF-8; a line that is not is read as Latin-1, which older copies of these data sets use.

    Parameters
    ----------
    path : Path | "-"
        A plain or gzip file, told apart by its first bytes, or standard input.
    progress : Callable[[int], None] | None
        Called now and then, and at the end, with the bytes of the *file* read so far (of a gzip file the
        compressed ones, so that the file's size is the total); of standard input the bytes of the lines.

    Raises
    ------
    DataSetError
        A gzip stream is cut off or damaged.
    OSError
        The file cannot be opened or read.
    """
    if path == STDIN:
        yield _lines(_gunzip(sys.stdin.buffer), STDIN, None, progress)
        return
    with Path(path).open("rb") as raw:
        yield _lines(_gunzip(raw), str(path), raw.tell, progress)


def _gunzip(raw: BinaryIO) -> BinaryIO:
    """Unpack when the first bytes are gzip's; both kinds of input are buffered, so they can be looked at."""
    peek: Callable[[int], bytes] = getattr(raw, "peek")  # noqa: B009 - BinaryIO does not declare it
    if peek(len(_GZIP_MAGIC))[: len(_GZIP_MAGIC)] != _GZIP_MAGIC:
        return raw
    return cast("BinaryIO", gzip.GzipFile(fileobj=raw, mode="rb"))


def _lines(
    data: BinaryIO, name: str, position: Callable[[], int] | None, progress: Callable[[int], None] | None
) -> Iterator[Line]:
    number = 0
    n_bytes = 0
    try:
        while raw := data.readline(MAX_LINE_BYTES + 1):
            number += 1
            n_bytes += len(raw)
            if progress is not None and number % PROGRESS_EVERY == 0:
                progress(n_bytes if position is None else position())
            if len(raw) > MAX_LINE_BYTES:
                n_bytes += _skip_rest(data, raw)
                yield Line(number, None)
                continue
            if number == 1:
                raw = raw.removeprefix(_BYTE_ORDER_MARK)
            text = _text(raw).rstrip("\r\n")
            if text.strip():
                yield Line(number, text)
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise DataSetError(f"{name}: damaged gzip after line {number} ({exc}); fetch the file again") from exc
    if progress is not None:
        progress(n_bytes if position is None else position())


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _skip_rest(data: BinaryIO, piece: bytes) -> int:
    """Read on to the end of an over-long line, keeping nothing; return the bytes passed over."""
    n_bytes = 0
    while piece and not piece.endswith(b"\n"):
        piece = data.readline(MAX_LINE_BYTES)
        n_bytes += len(piece)
    return n_bytes
