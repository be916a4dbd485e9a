"""User state on the changelog: versioned, checksummed bytes. What cannot be read is an error, never a reset.

Layout of a record, little endian: ``NU``, codec version, kind, CRC32 of all the rest (4 bytes; in version 1
of what follows it only), length of the model-free block (4 bytes), then

row, from 2 on   a glance of 33 bytes (flags, sequence number of the last event, time of the last event, due
                 times), the profile in MessagePack, the model memory in MessagePack
row, version 1   the same without the glance, which is got by decoding
header           the header in MessagePack, the next input offset in MessagePack

Version 3 holds more fields than 2, each of which has a default. The model-free blocks of two runs can be
compared byte for byte. Versions 1 to 3 are read, 3 is written: a row becomes one of version 3 when its user's
row changes.

The key is the user id in UTF-8; a partition's header lies under a key that no user can have.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

import msgspec

from stream.core.rows import Glance, Header, ModelMemory, Profile, glance_at
from stream.runtime.errors import WorkerError

__all__ = [
    "HEADER_KEY",
    "ROWS",
    "StateCodecError",
    "check_row",
    "decode_header",
    "decode_row",
    "encode_header",
    "encode_row",
    "glance_row",
    "key_of",
    "model_free",
    "user_of",
]

HEADER_KEY: Final = b"\x00header"  # a user id is printable, so it never begins with a zero byte
VERSION: Final = 3
READABLE: Final = (1, 2, 3)

_MAGIC = b"NU"
_ROW, _HEADER = 1, 2
_PREFIX = struct.Struct("<2sBBI")  # magic, version, kind, checksum
_HEAD = _PREFIX.size - 4  # of it, what stands before the checksum
_LENGTH = struct.Struct("<I")
_GLANCE = struct.Struct("<BQddd")  # flags, and the other fields of a Glance
_GLANCE_AT = _PREFIX.size + _LENGTH.size
_REFUSES, _SHRUNK, _WATCHES = 1, 2, 4

_encoder = msgspec.msgpack.Encoder()
_profiles = msgspec.msgpack.Decoder(Profile)
_memories = msgspec.msgpack.Decoder(ModelMemory)
_headers = msgspec.msgpack.Decoder(Header)
_offsets = msgspec.msgpack.Decoder(int)


class StateCodecError(WorkerError):
    """A state record is damaged or of an unknown version."""

    exit_code = 65


def encode_row(profile: Profile, memory: ModelMemory) -> bytes:
    """Return the value of a user's row.

    >>> decode_row(encode_row(Profile(n_events=3), ModelMemory()))[0].n_events
    3
    """
    glance = glance_at(profile, memory)
    packed = _GLANCE.pack(
        _REFUSES * glance.refuses | _SHRUNK * glance.shrunk | _WATCHES * glance.watches,
        glance.touched,
        glance.last_seen,
        glance.timers_due,
        glance.looks_due,
    )
    return _pack(_ROW, packed, _encoder.encode(profile), _encoder.encode(memory))


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


def glance_row(value: bytes) -> Glance:
    """Return what is known of a checked row without decoding it; one of version 1 is decoded all the same."""
    if value[2] == 1:
        return glance_at(*decode_row(value))
    flags, touched, last_seen, timers_due, looks_due = _GLANCE.unpack_from(value, _GLANCE_AT)
    refuses, shrunk, watches = (bool(flags & flag) for flag in (_REFUSES, _SHRUNK, _WATCHES))
    return Glance(touched, last_seen, timers_due, looks_due, refuses, shrunk, watches)


def check_row(value: bytes) -> None:
    """Make sure that a row is whole and of a version that can be read.

    Raises
    ------
    StateCodecError
        It is not.
    """
    _check(_ROW, value)


class _Rows:
    """The codec as :class:`stream.core.state.PartitionState` takes it."""

    encode = staticmethod(encode_row)
    decode = staticmethod(decode_row)
    glance = staticmethod(glance_row)


ROWS: Final = _Rows()


def encode_header(header: Header, next_offset: int) -> tuple[bytes, bytes]:
    """Return key and value of a partition's header; ``next_offset`` is the first input not in it."""
    return HEADER_KEY, _pack(_HEADER, b"", _encoder.encode(header), _encoder.encode(next_offset))


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
    return bytes(_unpack(value[3] if len(value) > 3 else _ROW, value)[0])


def key_of(user: str) -> bytes:
    """Return the key of a user's row."""
    return user.encode()


def user_of(key: bytes) -> str:
    """Return the user of a row's key."""
    return key.decode()


def _pack(kind: int, glance: bytes, first: bytes, second: bytes) -> bytes:
    rest = b"".join((_LENGTH.pack(len(first)), glance, first, second))
    head = _PREFIX.pack(_MAGIC, VERSION, kind, 0)[:_HEAD]
    return _PREFIX.pack(_MAGIC, VERSION, kind, crc32(rest, crc32(head))) + rest


def _unpack(kind: int, value: bytes) -> tuple[memoryview, memoryview]:
    """Return the model-free block and the other."""
    _check(kind, value)
    start, length = _start(kind, value[2]), _LENGTH.unpack_from(value, _PREFIX.size)[0]
    body = memoryview(value)
    return body[start : start + length], body[start + length :]


def _start(kind: int, version: int) -> int:
    """Return where the first block begins."""
    return _PREFIX.size + _LENGTH.size + (_GLANCE.size if kind == _ROW and version > 1 else 0)


def _check(kind: int, value: bytes) -> None:
    if len(value) < _PREFIX.size + _LENGTH.size:
        raise StateCodecError(
            f"a state record of {len(value)} bytes is shorter than its prefix: it is damaged"
        )
    magic, version, found, checksum = _PREFIX.unpack_from(value)
    if magic != _MAGIC:
        raise StateCodecError(
            f"a state record begins with {magic!r}, not {_MAGIC!r}: another program wrote it"
        )
    if version not in READABLE:
        raise StateCodecError(
            f"a state record has codec version {version}; this worker reads {READABLE[0]} to {READABLE[-1]}: "
            "upgrade it"
        )
    if found != kind:
        raise StateCodecError(f"a state record is of kind {found}, expected {kind}")
    length = _LENGTH.unpack_from(value, _PREFIX.size)[0]
    covered = crc32(memoryview(value)[_PREFIX.size :], crc32(value[:_HEAD]) if version > 1 else 0)
    if covered != checksum or _start(kind, version) + length > len(value):
        raise StateCodecError("a state record's checksum does not match: it is damaged")
