"""A copy of one partition's user state on the local disk, so that a restart is quick.

The changelog is the truth. The cache holds what was committed, with the changelog offset from which the log
has to be read on top of it. On any doubt the file is deleted and the changelog read from its beginning; when
it cannot be written the worker goes on without.

A file is magic and length of the preface, the preface (identity of the partition, codec version), one entry
for each row (length of the key, length of the row, key, row), the trailer (time, header record, offsets,
number of rows), length of the trailer and CRC32 of everything before. It is written in slices beside the
batches, so its rows are of different moments; all that changed meanwhile is in the log after ``offset`` and
is read again.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final
from zlib import crc32

import msgspec
import structlog
from msgspec import Struct

from stream.runtime.statecodec import VERSION, decode_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from aiokafka import TopicPartition

    from stream.core.state import PartitionState
    from stream.runtime.transport import Transport
    from stream.settings import Settings

__all__ = ["Cached", "Mark", "StateCache", "open_cache"]

# A user who was forgotten leaves a tombstone, which the changelog keeps for seven days. A cache that is older
# than that could bring the user back.
MAX_AGE_S: Final = 3 * 86_400.0
SLICE_ROWS: Final = 2000
CHUNK_BYTES: Final = 1 << 20

_MAGIC = b"NUCACHE\x01"
_LENGTH = struct.Struct("<I")
_ENTRY = struct.Struct("<HI")  # length of the key, length of the row
_END = struct.Struct("<II")  # length of the trailer, checksum

logger = structlog.get_logger(__name__)


class Mark(Struct, frozen=True, array_like=True):
    """What is committed: the header record, and where it lies in the changelog."""

    header: bytes
    offset: int  # reading the log from here on brings the rows of older marks up to date
    end: int  # the log reaches at least to here
    since: int = 0  # next input offset as of which the rows are at least


class _Trailer(Struct, frozen=True, array_like=True):
    written_at: float  # seconds since the epoch, this machine's clock
    mark: Mark
    n_rows: int


class _Preface(Struct, frozen=True, array_like=True):
    identity: str  # of cluster, group, topic and partition
    codec: int


class _DoubtError(Exception):
    """The file is not what we would have written."""


@dataclass(slots=True)
class Cached:
    """Rows as of some moments after ``mark.offset`` was the end of the log."""

    rows: dict[str, bytes]
    mark: Mark
    written_at: float


class StateCache:
    """The file of one partition.

    Parameters
    ----------
    folder : Path
        Created where it is missing; one worker's own.
    identity : str
        A file of another identity is refused.
    partition : int
        Names the file.
    """

    def __init__(self, folder: Path, identity: str, partition: int) -> None:
        self._folder = folder
        self._preface = msgspec.msgpack.encode(_Preface(identity, VERSION))
        self._path = folder / f"state-{partition}.cache"
        self._partition = partition

    def read(self) -> Cached | None:
        """Return what the file holds; ``None`` if there is none, or there was one in doubt. Blocks."""
        try:
            with self._path.open("rb") as file:
                return self._parse(file)
        except FileNotFoundError:
            return None
        except (_DoubtError, OSError, ValueError, struct.error) as error:
            self.refuse(str(error))
            return None

    def refuse(self, reason: str) -> None:
        """Delete the file and say why."""
        logger.warning("state_cache_refused", partition=self._partition, reason=reason)
        with suppress(OSError):
            self._path.unlink()

    async def save(
        self, state: PartitionState, mark: Callable[[], Mark | None], gate: AbstractAsyncContextManager[None]
    ) -> bool:
        """Write the state as committed, in slices; return whether it was done. Never raises on a bad disk.

        Parameters
        ----------
        mark : callable
            Says what is committed now.
        gate : async context manager
            Entered while nobody has a batch in hand.
        """
        first = mark()
        if first is None:
            return False
        since = decode_header(first.header)[1]
        temporary = self._path.with_suffix(".tmp")
        try:
            with await asyncio.to_thread(self._create, temporary) as file:
                checksum, n_rows = await self._write_rows(file, state)
                async with gate:
                    last = mark()
                    if last is None or state.dirty or state.forgotten:
                        return False  # a batch failed: what it took out of the state is in the log still
                trailer = msgspec.msgpack.encode(
                    _Trailer(time.time(), Mark(last.header, first.offset, last.end, since), n_rows)
                )
                await asyncio.to_thread(self._finish, file, trailer, checksum)
                await asyncio.to_thread(temporary.replace, self._path)
        except OSError as error:
            logger.warning("state_cache_not_written", partition=self._partition, error=str(error))
            return False
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return True

    def _create(self, path: Path) -> BinaryIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # users' data
        return os.fdopen(descriptor, "wb", buffering=0)

    async def _write_rows(self, file: BinaryIO, state: PartitionState) -> tuple[int, int]:
        chunk = _MAGIC + _LENGTH.pack(len(self._preface)) + self._preface
        checksum, n_rows, users = 0, 0, state.users()
        for start in range(0, len(users) + 1, SLICE_ROWS):
            pieces = [chunk]
            for user in users[start : start + SLICE_ROWS]:
                value = state.committed_row(user)
                if value:
                    key = user.encode()
                    pieces += (_ENTRY.pack(len(key), len(value)), key, value)
                    n_rows += 1
            checksum = await asyncio.to_thread(_write, file, b"".join(pieces), checksum)
            chunk = b""
        return checksum, n_rows

    def _finish(self, file: BinaryIO, trailer: bytes, checksum: int) -> None:
        checksum = _write(file, trailer + _LENGTH.pack(len(trailer)), checksum)
        _write(file, _LENGTH.pack(checksum), 0)
        os.fsync(file.fileno())

    def _parse(self, file: BinaryIO) -> Cached:
        size = os.fstat(file.fileno()).st_size
        length, start, end = self._check(file, size)
        file.seek(end - length)
        try:
            trailer = msgspec.msgpack.decode(file.read(length), type=_Trailer)
        except msgspec.DecodeError as error:
            raise _DoubtError(f"unreadable trailer: {error}") from error
        age = time.time() - trailer.written_at
        if not 0 <= age <= MAX_AGE_S:
            raise _DoubtError(f"{age:.0f} s old; limit {MAX_AGE_S:.0f}")
        file.seek(start)
        rows: dict[str, bytes] = {}
        for _ in range(trailer.n_rows):
            key_length, length_of_row = _ENTRY.unpack(file.read(_ENTRY.size))
            user = file.read(key_length).decode()
            rows[user] = file.read(length_of_row)
        if len(rows) != trailer.n_rows or file.tell() != end - length:
            raise _DoubtError(f"{len(rows)} rows where the trailer says {trailer.n_rows}")
        return Cached(rows, trailer.mark, trailer.written_at)

    def _check(self, file: BinaryIO, size: int) -> tuple[int, int, int]:
        """Check all but the meaning; return the trailer's length, the rows' start, the trailer's end."""
        start = len(_MAGIC) + _LENGTH.size + len(self._preface)
        if size < start + _END.size:
            raise _DoubtError(f"{size} bytes; the frame alone has {start + _END.size}")
        if file.read(start) != _MAGIC + _LENGTH.pack(len(self._preface)) + self._preface:
            raise _DoubtError("of another partition, cluster, group or version")
        file.seek(size - _END.size)
        length, expected = _END.unpack(file.read(_END.size))
        file.seek(0)
        checksum, rest = 0, size - _LENGTH.size
        while rest:
            chunk = file.read(min(CHUNK_BYTES, rest))
            if not chunk:
                raise _DoubtError("it became shorter while it was read")
            checksum, rest = crc32(chunk, checksum), rest - len(chunk)
        if checksum != expected or length > size - start - _END.size:
            raise _DoubtError("its checksum does not match: it is damaged")
        return length, start, size - _END.size


async def open_cache(
    settings: Settings, transport: Transport, changelog: TopicPartition
) -> StateCache | None:
    """Return the cache of a partition, or ``None`` where the settings name no directory."""
    if settings.cache_dir is None:
        return None
    identity = (
        f"{await transport.cluster_id()}/{settings.kafka.group}/{changelog.topic}/{changelog.partition}"
    )
    return StateCache(settings.cache_dir, identity, changelog.partition)


def _write(file: BinaryIO, data: bytes, checksum: int) -> int:
    """Write all of it and return the checksum that goes on with it. Blocks."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    return crc32(data, checksum)
