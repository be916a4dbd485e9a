"""User state on the changelog: versioned, checksummed bytes. What cannot be read is an error, never a reset.

Layout of a row: ``NU``, codec version, kind, CRC32 of the rest (4 bytes, little endian), length of the
model-free block (4 bytes), the profile in MessagePack, the model memory in MessagePack. The model-free blocks
of two runs can be compared byte for byte.

The key is the user id in UTF-8; a partition's header lies under a key that no user can have.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

import msgspec

from stream.core.state import Header, ModelMemory, Profile
from stream.runtime.errors import WorkerError

__all__ = [
    "HEADER_KEY",
    "StateCodecError",
    "decode_header",
    "decode_row",
    "encode_header",
    "encode_row",
    "model_free",
    "user_of",
]

HEADER_KEY: Final = b"\x00header"  # a user id is printable, so it never begins with a zero byte
VERSION: Final = 1

_MAGIC = b"NU"
_ROW, _HEADER = 1, 2
_PREFIX = struct.Struct("<2sBBII")  # magic, version, kind, checksum, length of the first block
_LENGTH = struct.Struct("<I")

_encoder = msgspec.msgpack.Encoder()
_profiles = msgspec.msgpack.Decoder(Profile)
_memories = msgspec.msgpack.Decoder(ModelMemory)
_headers = msgspec.msgpack.Decoder(Header)
_offsets = msgspec.msgpack.Decoder(int)


class StateCodecError(WorkerError):
    """A state record is damaged or of an unknown version."""

    exit_code = 65


def encode_row(user: str, profile: Profile, memory: ModelMemory) -> tuple[bytes, bytes]:
    """Return key and value of a user's row.

    >>> key, value = encode_row("u1", Profile(n_events=3), ModelMemory())
    >>> decode_row(value)[0].n_events
    3
    """
    return user.encode(), _pack(_ROW, _encoder.encode(profile), _encoder.encode(memory))


def decode_row(value: bytes) -> tuple[Profile, ModelMemory]:
    """Read a user's row.

    Raises
    ------
    StateCodecError
        Damaged, of an unknown version, or no row.
    """
    first, second = _unpack(_ROW, value)
    try:
        return _profiles.decode(first), _memories.decode(second)
    except msgspec.DecodeError as error:
        raise StateCodecError(f"a state row does not hold a profile and a memory: {error}") from error


def encode_header(header: Header, next_offset: int) -> tuple[bytes, bytes]:
    """Return key and value of a partition's header; ``next_offset`` is the first input not in it."""
    return HEADER_KEY, _pack(_HEADER, _encoder.encode(header), _encoder.encode(next_offset))


def decode_header(value: bytes) -> tuple[Header, int]:
    """Read a partition's header and the offset of the next input record.

    Raises
    ------
    StateCodecError
        Damaged, of an unknown version, or no header.
    """
    first, second = _unpack(_HEADER, value)
    try:
        return _headers.decode(first), _offsets.decode(second)
    except msgspec.DecodeError as error:
        raise StateCodecError(f"a header record does not hold a header and an offset: {error}") from error


def model_free(value: bytes) -> bytes:
    """Return the block of a row or header that no model has a part in."""
    return _unpack(value[3] if len(value) > 3 else _ROW, value)[0]


def user_of(key: bytes) -> str:
    """Return the user of a row's key."""
    return key.decode()


def _pack(kind: int, first: bytes, second: bytes) -> bytes:
    checksum = crc32(second, crc32(first, crc32(_LENGTH.pack(len(first)))))
    return _PREFIX.pack(_MAGIC, VERSION, kind, checksum, len(first)) + first + second


def _unpack(kind: int, value: bytes) -> tuple[bytes, bytes]:
    if len(value) < _PREFIX.size:
        raise StateCodecError(f"a state record of {len(value)} bytes; the prefix alone has {_PREFIX.size}")
    magic, version, found, checksum, length = _PREFIX.unpack_from(value)
    if magic != _MAGIC:
        raise StateCodecError(
            f"a state record begins with {magic!r}, not {_MAGIC!r}: another program wrote it"
        )
    if version != VERSION:
        raise StateCodecError(
            f"a state record has codec version {version}; this worker reads {VERSION}: upgrade it"
        )
    if found != kind:
        raise StateCodecError(f"a state record is of kind {found}, expected {kind}")
    body = memoryview(value)[_PREFIX.size :]
    if crc32(body, crc32(_LENGTH.pack(length))) != checksum or length > len(body):
        raise StateCodecError("a state record's checksum does not match: it is damaged")
    return bytes(body[:length]), bytes(body[length:])
