r"""Record batches whose header names may be any bytes.

Brokers do not look at header names. aiokafka decodes them strictly in the middle of a fetch: one name that is
no UTF-8 would end every worker that comes to its record. Here such a batch is read once more, and what cannot
be decoded is written as ``\xff``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LenientRecords", "install"]

_LENGTH: Final = struct.Struct(">8xi")  # of what follows, behind the base offset (KIP-98)


class _Decoding(bytearray):
    """Bytes whose slices decode whatever they hold."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Decoding(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", _errors: str = "") -> str:
        return super().decode(encoding, "backslashreplace")


class _LenientBatch:
    """A batch that is read once more, in Python, when a header name cannot be decoded."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        n = 0
        try:
            for record in self._batch:
                yield record
                n += 1
        except UnicodeDecodeError:
            again = iter(_DefaultRecordBatchPy(self._raw))  # which unpacks its buffer
            again._buffer = _Decoding(again._buffer)  # noqa: SLF001  there is no other way in
            yield from (record for place, record in enumerate(again) if place >= n)


class LenientRecords:
    """The batches of one fetch, as aiokafka's ``MemoryRecords`` gives them, read as above."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._raw = memoryview(data)
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> Any:
        """Return the next batch; ``None`` behind the last whole one."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._raw)[0]
        raw, self._raw = self._raw[:end], self._raw[end:]
        return _LenientBatch(batch, raw)


def install() -> None:
    """Let all consumers of this process read leniently; aiokafka has no setting for it."""
    fetcher.MemoryRecords = LenientRecords  # type: ignore[attr-defined]
