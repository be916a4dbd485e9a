"""Why a worker stops. Each carries the exit code that its supervisor sees (``sysexits.h``)."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from stream.core.state import Due

__all__ = [
    "BrokerUnreachableError",
    "EmptyRangeError",
    "EngineFailedError",
    "InsecureError",
    "OffsetGapError",
    "TooManyRebuildsError",
    "TopicMismatchError",
    "WorkerError",
    "located",
]


class WorkerError(Exception):
    """A worker cannot go on; the message names the thing, the value and the remedy."""

    exit_code: ClassVar[int] = 70


class BrokerUnreachableError(WorkerError):
    """Nobody answers at the bootstrap address."""

    exit_code = 69


class TopicMismatchError(WorkerError):
    """Topics are missing, or do not have the partitions that belong together."""

    exit_code = 78


class InsecureError(WorkerError):
    """Certificates or keys that are named cannot be used."""

    exit_code = 78


class EmptyRangeError(WorkerError):
    """A range of a log was asked for in which no record can be."""

    exit_code = 2


class OffsetGapError(WorkerError):
    """The log no longer holds what we have to read next; going on would lose records silently."""

    exit_code = 65


class EngineFailedError(Exception):
    """The engine raised on a record, or made of it what no record holds; this must not cost a partition.

    Attributes
    ----------
    due : Due or None
        What came due when it raised, for then no record is to blame.
    """

    def __init__(self, message: str, due: Due | None = None) -> None:
        super().__init__(message)
        self.due = due


class TooManyRebuildsError(WorkerError):
    """Rebuilding partitions does not help; a new process may."""


def located(error: BaseException | None) -> str | None:
    """Name an error by its type and where it was raised; its text may hold what was in a record.

    >>> located(ValueError("a customer's name"))
    'ValueError'
    """
    if error is None:
        return None
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
