"""The one typed door to numba, so that mypy stays strict and no import compiles anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["kernel", "n_compiled", "part", "wide"]

P = ParamSpec("P")
R = TypeVar("R")
_OPTIONS: Any = {"cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_INNER: Any = {**_OPTIONS, "no_cpython_wrapper": True}


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of arrays and numbers, lazily, at its first call; the source runs as it stands
    with ``NUMBA_DISABLE_JIT=1``.

    No ``fastmath`` and no ``parallel``: they reorder sums, and then bits depend on the machine.
    Division by zero gives an infinity or NaN as in numpy: a check would keep loops from using vectors.
    The compiled form is cached beside the source, or in ``NUMBA_CACHE_DIR``.
    The cache looks at the file of the kernel alone: after a change to a kernel that others call,
    remove their cache files too.
    """  # noqa: D205
    return cast("Callable[P, R]", numba.njit(**_OPTIONS)(function))


def part(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that only kernels call: as :func:`kernel`, without a door for Python."""
    return cast("Callable[P, R]", numba.njit(**_INNER)(function))


@part
def wide(row: int) -> int:
    """A row number out of an array of int32, as wide as one from elsewhere.

    Whatever it is given to would be compiled for both widths, and ``int`` leaves it as it is in numba.
    """
    return int(np.int64(row))


def n_compiled(function: Callable[..., object]) -> int:
    """How often this process has compiled a kernel because no cache had it; 0 without a compiler."""
    stats = getattr(function, "stats", None)
    return 0 if stats is None else sum(stats.cache_misses.values())
