"""Ids and sticky buckets. No salt of the process enters them: a repeated output has the same id."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

__all__ = ["MAX_ID_LENGTH", "bucket", "campaign_bucket", "id_of", "is_good_id", "token"]

MAX_ID_LENGTH = 128

_UNIT = 1 << 64
MAX_KEY = 64  # bytes of a key that BLAKE2b takes (RFC 7693)


def is_good_id(value: str) -> bool:
    """Whether producers may call something so: 1 to 128 printable characters."""
    return 0 < len(value) <= MAX_ID_LENGTH and value.isprintable()


def id_of(*parts: str) -> str:
    """Hash parts into a 32-digit id; parts cannot run into one another.

    >>> id_of("cart", "u1", "p1", "m1") == id_of("cart", "u1", "p1", "m1")
    True
    >>> id_of("ab", "c") == id_of("a", "bc")
    False
    """
    return blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=1024)  # an event's id is looked for, and then remembered
def token(text: str) -> int:
    """Hash text into a 64-bit number, for windows of remembered ids."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def bucket(salt: str, user: str) -> float:
    """Where a user falls in [0, 1): a function of the id and the salt alone, so a holdout is sticky."""
    key = salt.encode()
    if len(key) > MAX_KEY:
        key = blake2b(key).digest()
    digest = blake2b(user.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little") / _UNIT


def campaign_bucket(salt: str, campaign_id: str, user: str) -> float:
    """Where a user falls for one campaign's own share, which takes other users than the share of all does."""
    return bucket(f"{salt}:{campaign_id}", user)
