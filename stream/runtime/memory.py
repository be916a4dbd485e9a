"""Free memory goes back to the system when a burst is over."""

from __future__ import annotations

import ctypes
from contextlib import suppress

__all__ = ["give_back"]


def give_back() -> None:
    """Hand free pages of the heap back, where the C library knows how (glibc); takes some milliseconds.

    Restoring partitions takes several times the memory that their state keeps. The allocator holds on to it,
    so that a worker would look as large as the worst moment of its life.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
