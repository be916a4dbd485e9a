"""In which order a worker's models took in deltas: with the delta log, all that computes an output again.

Positions alone (the model version) name which deltas were read. Sums of floats depend on their order too, and
the ranker on which of them were the worker's own. So each batch notes the way from the batch before it:

>>> path = FoldPath()
>>> path.took("r", 0, 7), path.took("r", 0, 9), path.took("f", 1, 4)
(None, None, None)
>>> first = path.read()
>>> first.text
b'start r0:9 f1:4'
>>> path.took("o", 0, 11)
>>> path.read().text
b'start r0:9 f1:4 o0:11'
>>> path.committed(first, 0, 120)
>>> path.read().text
b'0:120 o0:11'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FOLD_PATH", "FoldPath", "How", "Reading"]

FOLD_PATH: Final = "nudge.fold_path"
"""Header of a batch's header record: the batch before it, then the steps that its worker took since.

The batch before is ``partition:offset`` of its header record, counted from where that batch *began*; it is
``start`` or ``start:snapshot`` where a worker has none. A step is how, partition, and the offset after the
last delta: ``r`` restored at the worker's start, ``f`` folded from another's log, ``o`` the worker's own.
"""
START: Final = "start"
LOST: Final = b"?"
MAX_STEPS: Final = 4096  # 40 KB of header; only a worker that long commits nothing itself gets there

How = Literal["r", "f", "o"]


@dataclass(frozen=True, slots=True)
class Reading:
    """The models as a batch found them."""

    number: int  # steps taken until then
    text: bytes


class FoldPath:
    """The steps since the newest committed batch began.

    A worker that takes more than ``MAX_STEPS`` of them without a commit of its own (one without partitions)
    forgets them: its outputs name positions only, until its next start.
    """

    def __init__(self) -> None:
        self._anchor = START
        self._steps: list[tuple[How, int, int]] = []
        self._before = 0  # steps that were dropped
        self._read = 0  # steps that some batch has read: these are not drawn out any more
        self._lost = False

    def restored(self, snapshot: str) -> None:
        """Begin behind a snapshot."""
        self._anchor = f"{START}:{snapshot}"

    def took(self, how: How, partition: int, end: int) -> None:
        """Note that all deltas of a partition up to ``end`` are in the models."""
        if self._lost:
            return
        extends = self._before + len(self._steps) > self._read and self._steps[-1][:2] == (how, partition)
        if extends and how != "o":
            self._steps[-1] = (how, partition, end)
            return
        self._steps.append((how, partition, end))
        if len(self._steps) > MAX_STEPS:
            self._lost = True
            self._steps.clear()

    def read(self) -> Reading:
        """The way to the models as they are now."""
        self._read = self._before + len(self._steps)
        if self._lost:
            return Reading(self._read, LOST)
        steps = (f"{how}{partition}:{end}" for how, partition, end in self._steps)
        return Reading(self._read, " ".join((self._anchor, *steps)).encode())

    def committed(self, reading: Reading, partition: int, offset: int) -> None:
        """From here on count from the batch that began with ``reading`` and whose header record is there."""
        if self._lost or reading.number < self._before:
            return
        self._anchor = f"{partition}:{offset}"
        del self._steps[: reading.number - self._before]
        self._before = reading.number
