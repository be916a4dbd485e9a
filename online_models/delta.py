"""What one batch taught, as bytes: named columns for each model, and one table of strings.

Layout, little-endian::

    magic "NUDL" | format u8 | zero u8[3] | spec blake2b-16 | crc32 u32 of all that follows
    n_strings u32 | length u16[n_strings] | all strings one after the other, UTF-8
    n_sections u16 | for each: name (u8 length, ASCII), n_columns u8
        for each column: name (u8 length, ASCII), dtype u8, n_axes u8, shape u32[n_axes], bytes

Operations name items by their index in the table of strings, never by row: rows are local to a worker.
"""

from __future__ import annotations

import struct
import zlib
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["STEP", "DeltaError", "DeltaReader", "DeltaWriter", "read_delta"]

MAGIC = b"NUDL"
FORMAT = 1
HEADER = struct.Struct("<4sB3x16sI")
BYTE, WORD, COUNT, KIND = (struct.Struct(code) for code in ("<B", "<H", "<I", "<BB"))
MAX_AXES = 3
SHAPES = tuple(struct.Struct(f"<{axes}I") for axes in range(MAX_AXES + 1))
MAX_STRING = 65_535

STEP = "step"
"""Column of a model that shares the vocabulary: vocabulary operations of the batch before each of its own."""

DTYPES: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(code) for code in ("<f8", "<f4", "<i8", "<i4", "<i2", "|u1", "<u4", "<u8")
)
CODES = {dtype: code for code, dtype in enumerate(DTYPES)}


class DeltaError(ValueError):
    """The bytes are no delta of these models: damaged, of another format, or of other hyper-parameters."""


def spec_hash(spec: str) -> bytes:
    """Sixteen bytes that stand for the joined hyper-parameters of all models."""
    return blake2b(spec.encode(), digest_size=16).digest()


class DeltaWriter:
    """Collects the columns of the models of one batch.

    Examples
    --------
    >>> writer = DeltaWriter("counts(v1)")
    >>> writer.add("counts", {"item": np.array([writer.intern("i7")], np.int32), "weight": np.array([2.0])})
    >>> reader = read_delta(writer.to_bytes(), "counts(v1)")
    >>> reader.strings, reader.columns("counts")["weight"].tolist()
    (['i7'], [2.0])
    """

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._table: list[str] = []
        self._strings: dict[str, int] = {}
        self._sections: dict[str, dict[str, NDArray[Any]]] = {}

    @property
    def empty(self) -> bool:
        """Whether no model wrote an operation."""
        return not self._sections

    def begin_strings(self, strings: Iterable[str]) -> None:
        """Take over the vocabulary's table: its indices are already in recorded operations.

        A string may stand there twice, when its item was evicted and admitted again within the batch.
        """
        if self._table:
            message = "the vocabulary writes first: other models interned strings before it"
            raise ValueError(message)
        self._table = list(strings)
        for index, text in enumerate(self._table):
            self._strings.setdefault(text, index)

    def intern(self, text: str) -> int:
        """Index of a string in the table that all models share."""
        index = self._strings.get(text)
        if index is not None:
            return index
        if len(text.encode()) > MAX_STRING:
            message = f"a string of {len(text)} characters; at most {MAX_STRING} bytes travel in a delta"
            raise ValueError(message)
        self._strings[text] = index = len(self._table)
        self._table.append(text)
        return index

    def add(self, name: str, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write the section of a model; nothing is written when its columns have no rows.

        Parameters
        ----------
        name : str
            The model's name; one section each.
        columns : mapping of str to ndarray
            Arrays of up to three axes whose first axes are equally long.
            A column named ``step`` lets the section be folded piece by piece, see :meth:`DeltaReader.window`.
        """
        if name in self._sections:
            message = f"section {name!r} is written twice"
            raise ValueError(message)
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            message = f"columns of section {name!r} have lengths {sorted(lengths)}; they must be equal"
            raise ValueError(message)
        if lengths == {0}:
            return
        self._sections[name] = {
            key: np.array(column, column.dtype.newbyteorder("<"), order="C")
            for key, column in columns.items()
        }
        for column in self._sections[name].values():
            column.flags.writeable = False  # as one that is read: a kernel would be compiled again

    def reader(self) -> DeltaReader:
        """The same as reading :meth:`to_bytes`, for who wrote it."""
        return DeltaReader(self._table, self._sections)

    def to_bytes(self) -> bytes:
        """The delta."""
        raw = [text.encode() for text in self._table]
        lengths = np.array([len(part) for part in raw], "<u2")
        parts = [COUNT.pack(len(raw)), lengths.tobytes(), *raw, WORD.pack(len(self._sections))]
        for name, columns in self._sections.items():
            parts.append(_name(name) + BYTE.pack(len(columns)))
            for key, column in columns.items():
                head = KIND.pack(CODES[column.dtype], column.ndim)
                parts += [_name(key), head, SHAPES[column.ndim].pack(*column.shape), column.tobytes()]
        body = b"".join(parts)
        return HEADER.pack(MAGIC, FORMAT, spec_hash(self._spec), zlib.crc32(body)) + body


class DeltaReader:
    """What a batch taught, for the models to fold; used once.

    Attributes
    ----------
    strings : list of str
        The shared table that operations point into.
    rows : int32[n_strings + 1]
        Row of each string in the vocabulary of the folding worker, −1 where it has none; the last is −1, for
        the index −1. The model set fills it in.
    """

    def __init__(self, strings: list[str], sections: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        self.strings = strings
        self._sections = sections
        self.rows: NDArray[np.int32] = np.full(len(strings) + 1, -1, np.int32)
        self._window: tuple[int, int] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sections, in the order they were written."""
        return tuple(self._sections)

    def window(self, first: int, last: int) -> None:
        """Show only operations with ``step`` in ``(first, last]``; sections without steps stay whole."""
        self._window = (first, last)

    def columns(self, name: str) -> Mapping[str, NDArray[Any]]:
        """Columns of a section, read-only; an empty mapping when the batch wrote none."""
        columns = self._sections.get(name)
        if columns is None:
            return {}
        steps = columns.get(STEP)
        if steps is None or self._window is None:
            return columns
        low, high = np.searchsorted(steps, self._window, side="right").tolist()
        return {key: column[low:high] for key, column in columns.items()}

    def item_rows(self, indices: NDArray[np.int32]) -> NDArray[np.int32]:
        """Vocabulary rows of string indices of any shape; −1 for index −1 and for items without a row.

        Raises
        ------
        DeltaError
            When an index points outside the table.
        """
        if indices.size and not (indices.min() >= -1 and indices.max() < len(self.strings)):
            message = f"string indices {indices.min()}..{indices.max()} of a table of {len(self.strings)}"
            raise DeltaError(message)
        return self.rows[indices]

    def text_of(self, index: int) -> str:
        """The string at an index of the table."""
        if not 0 <= index < len(self.strings):
            message = f"string index {index} of a table of {len(self.strings)}"
            raise DeltaError(message)
        return self.strings[index]


def read_delta(data: bytes, spec: str) -> DeltaReader:
    """Read a delta strictly: every length is checked before it is used.

    Raises
    ------
    DeltaError
        When the bytes are damaged or were written under another spec.
    """
    if len(data) < HEADER.size:
        message = f"a delta of {len(data)} bytes; the header alone has {HEADER.size}"
        raise DeltaError(message)
    magic, version, written_under, checksum = HEADER.unpack_from(data)
    if magic != MAGIC or version != FORMAT:
        message = f"magic {magic!r}, format {version}; expected {MAGIC!r}, format {FORMAT}"
        raise DeltaError(message)
    if zlib.crc32(memoryview(data)[HEADER.size :]) != checksum:
        message = "checksum differs: the delta was damaged on its way"
        raise DeltaError(message)
    if written_under != spec_hash(spec):
        message = "written under other hyper-parameters; deltas of different models cannot be mixed"
        raise DeltaError(message)
    try:
        return _Bytes(data).delta()
    except UnicodeDecodeError as error:
        message = f"a string is not UTF-8: {error}"
        raise DeltaError(message) from error


class _Bytes:
    """A place in the bytes of a delta, behind its header."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = HEADER.size

    def delta(self) -> DeltaReader:
        strings = self._strings()
        sections = dict(self._section() for _ in range(self._numbers(WORD)[0]))
        if self._at != len(self._data):
            message = f"{len(self._data) - self._at} bytes after the last section"
            raise DeltaError(message)
        return DeltaReader(strings, sections)

    def _take(self, size: int) -> memoryview:
        end = self._at + size
        if end > len(self._data):
            message = f"{size} bytes wanted at {self._at}, {len(self._data) - self._at} left"
            raise DeltaError(message)
        part = self._data[self._at : end]
        self._at = end
        return part

    def _numbers(self, layout: struct.Struct) -> tuple[int, ...]:
        at = self._at
        self._at = end = at + layout.size
        if end > len(self._data):
            message = f"{layout.size} bytes wanted at {at}, {len(self._data) - at} left"
            raise DeltaError(message)
        return layout.unpack_from(self._data, at)

    def _text(self) -> str:
        return str(self._take(self._numbers(BYTE)[0]), "utf-8")

    def _strings(self) -> list[str]:
        (n,) = self._numbers(COUNT)
        lengths = np.frombuffer(self._take(2 * n), "<u2")
        ends = np.cumsum(lengths, dtype=np.int64)
        raw = bytes(self._take(int(ends[-1]) if n else 0))
        return [
            raw[start:end].decode()
            for start, end in zip((ends - lengths).tolist(), ends.tolist(), strict=True)
        ]

    def _section(self) -> tuple[str, dict[str, NDArray[Any]]]:
        name = self._text()
        columns = dict(self._column() for _ in range(self._numbers(BYTE)[0]))
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            message = f"columns of section {name!r} have lengths {sorted(lengths)}"
            raise DeltaError(message)
        return name, columns

    def _column(self) -> tuple[str, NDArray[Any]]:
        name = self._text()
        code, axes = self._numbers(KIND)
        if code >= len(DTYPES) or not 1 <= axes <= MAX_AXES:
            message = f"column {name!r} has dtype code {code} and {axes} axes"
            raise DeltaError(message)
        shape = self._numbers(SHAPES[axes])
        dtype = DTYPES[code]
        n_values = 1
        for size in shape:  # plain integers: numpy's would wrap
            n_values *= size
        raw = self._take(n_values * dtype.itemsize)
        return name, np.frombuffer(raw, dtype).reshape(shape)


def _name(text: str) -> bytes:
    raw = text.encode("ascii")
    return BYTE.pack(len(raw)) + raw
