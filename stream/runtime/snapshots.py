"""Snapshots of the models on their compacted topic, and what lets the delta log be trimmed behind them.

A snapshot is cut into blocks under keys of its own, ``id/number``, and becomes one by its manifest, which is
written last and names the delta positions it holds, the number of blocks and a digest of them. Nothing is
ever overwritten, so a former owner that still writes can spoil nobody's snapshot. Two are kept, and the log
is trimmed to the positions of the older one: a damaged newest snapshot, or a worker that is behind by less
than a whole snapshot, loses nothing. Blocks that a writer left who died before its manifest go with the next
snapshot that makes them older than both.
"""

from __future__ import annotations

import asyncio
import math
import struct
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import structlog
from aiokafka import TopicPartition

from stream.runtime.chunks import CHUNK_BYTES, PART, cut
from stream.runtime.consuming import read_to_end
from stream.runtime.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from stream.runtime.transport import Transport

__all__ = ["Manifest", "Snapshot", "SnapshotLog"]

KEPT: Final = 2
BLOCKS_IN_FLIGHT: Final = 16
_MANIFEST: Final = b"manifest"
_SUFFIX: Final = b"/" + _MANIFEST
_LENGTH: Final = struct.Struct("<I")

logger = structlog.get_logger(__name__)


class Manifest(msgspec.Struct, frozen=True):
    """What makes a snapshot complete.

    Attributes
    ----------
    positions, covered
        Per partition: the offset after the last delta in the models, and the input offset up to which records
        have been learned.
    """

    id: str
    positions: list[int]
    covered: list[int]
    blocks: int
    digest: str
    format: int = 1


class Snapshot(msgspec.Struct, frozen=True):
    """A complete snapshot, read back."""

    manifest: Manifest
    arrays: dict[str, NDArray[np.generic]]
    n_bytes: int


class SnapshotLog:
    """Reads and writes the snapshots of one cluster."""

    def __init__(self, transport: Transport, topic: str) -> None:
        self._transport = transport
        self._partition = TopicPartition(topic, 0)

    async def newest(self, starts: Sequence[int]) -> Snapshot | None:
        """Return the newest complete snapshot from which the delta log goes on without a gap.

        Parameters
        ----------
        starts : sequence of int
            First offset that each partition of the delta log still holds.
        """
        values = await self._read()
        for manifest in _manifests(values):
            if len(manifest.positions) != len(starts):
                logger.warning("snapshot_passed_by", id=manifest.id, why="another number of partitions")
                continue
            if any(position < start for position, start in zip(manifest.positions, starts, strict=True)):
                continue
            blocks = [values.get(_key(manifest.id, k), b"") for k in range(manifest.blocks)]
            snapshot = await asyncio.to_thread(_opened, manifest, blocks)
            if snapshot is not None:
                return snapshot
            logger.error("snapshot_damaged", id=manifest.id, blocks=manifest.blocks)
        return None

    async def write(
        self,
        arrays: dict[str, NDArray[np.generic]],
        positions: Sequence[int],
        covered: Sequence[int],
    ) -> tuple[int, Manifest | None]:
        """Write a snapshot, drop all but two; return its size and what the log may be trimmed to."""
        data, digest = await asyncio.to_thread(_sealed, arrays)
        blocks = -(-len(data) // CHUNK_BYTES)
        new = Manifest(f"{sum(positions):020d}-{digest[:8]}", list(positions), list(covered), blocks, digest)
        there = await self._read(blocks=False)
        older = _manifests(there)
        producer = self._transport.producer("nudge-snapshots")
        topic = self._partition.topic
        async with asyncio.timeout(60.0):
            await producer.start()
        try:
            outbox = Outbox(producer, 0)
            for k, (block, part) in enumerate(cut(data)):
                outbox.add(topic, _key(new.id, k), block, [(PART, part)])
                if k % BLOCKS_IN_FLIGHT == BLOCKS_IN_FLIGHT - 1:
                    await outbox.send()
            await outbox.send()
            outbox.add(topic, _key(new.id, _MANIFEST), msgspec.json.encode(new))
            await outbox.send()
            # Only what is older in every partition may go: a snapshot of a newer owner is not ours to judge.
            behind = [old for old in older if old.id != new.id and _covers(new, old)]
            for key in _left_behind(there, behind):
                outbox.add(topic, key, None)
            await outbox.send()
        finally:
            await producer.stop()
        return len(data), behind[0] if behind else None

    async def _read(self, *, blocks: bool = True) -> dict[bytes, bytes]:
        """All values; without blocks theirs are empty, for a snapshot may be as large as the models."""
        values: dict[bytes, bytes] = {}
        async with self._transport.reader([self._partition]) as reader:
            async for records in read_to_end(reader):
                for record in records:
                    key = record.key or b""
                    if record.value is None:
                        values.pop(key, None)
                    else:
                        values[key] = record.value if blocks or key.endswith(_SUFFIX) else b""
        return values


def _manifests(values: dict[bytes, bytes]) -> list[Manifest]:
    """All manifests, the newest first."""
    found = [
        msgspec.json.decode(value, type=Manifest) for key, value in values.items() if key.endswith(_SUFFIX)
    ]
    return sorted(found, key=lambda manifest: manifest.id, reverse=True)


def _left_behind(there: Iterable[bytes], behind: Sequence[Manifest]) -> list[bytes]:
    """Keys of the snapshots that go, and of blocks without a manifest that are older than all that stay.

    ``behind`` are the snapshots that the new one covers, the newest first. A manifest goes before its blocks.
    """
    if len(behind) < KEPT - 1:
        return []
    kept, gone = behind[KEPT - 2].id.encode(), {old.id.encode() for old in behind[KEPT - 1 :]}
    whole = {key.rpartition(b"/")[0] for key in there if key.endswith(_SUFFIX)}
    names = {key: key.rpartition(b"/")[0] for key in there}
    found = [key for key, name in names.items() if name in gone or (name < kept and name not in whole)]
    return sorted(found, key=lambda key: (not key.endswith(_SUFFIX), key))


def _covers(new: Manifest, old: Manifest) -> bool:
    return len(new.positions) == len(old.positions) and all(
        ours >= theirs for ours, theirs in zip(new.positions, old.positions, strict=True)
    )


def _key(snapshot: str, suffix: bytes | int) -> bytes:
    return snapshot.encode() + b"/" + (suffix if isinstance(suffix, bytes) else b"%06d" % suffix)


def _sealed(arrays: dict[str, NDArray[np.generic]]) -> tuple[bytes, str]:
    """A snapshot's bytes and their digest."""
    data = _pack(arrays)
    return data, _digest(data)


def _opened(manifest: Manifest, blocks: Sequence[bytes]) -> Snapshot | None:
    """Put a snapshot together; nothing if it is damaged."""
    data = b"".join(blocks)
    return Snapshot(manifest, _unpack(data), len(data)) if _digest(data) == manifest.digest else None


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _pack(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """Length of the directory (4 bytes, little endian), the directory as JSON, the arrays one by one."""
    entries = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    directory = msgspec.json.encode(entries)
    return b"".join(
        [_LENGTH.pack(len(directory)), directory, *(array.tobytes() for array in arrays.values())]
    )


def _unpack(data: bytes) -> dict[str, NDArray[np.generic]]:
    """Read what :func:`_pack` wrote; its digest was checked."""
    (length,) = _LENGTH.unpack_from(data)
    at = _LENGTH.size + length
    entries = msgspec.json.decode(data[_LENGTH.size : at], type=list[tuple[str, str, tuple[int, ...]]])
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, dtype, shape in entries:
        array = np.frombuffer(data, np.dtype(dtype), math.prod(shape), at).reshape(shape)
        arrays[name], at = array, at + array.nbytes
    return arrays
