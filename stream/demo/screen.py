"""Show a run while it runs: a live screen on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Final, Self

from rich.console import Console
from rich.live import Live

from stream.console import MIN_HEIGHT, MIN_WIDTH, FeedView, Frame, draw, line

__all__ = ["DRAW_S", "Screen"]

DRAW_S: Final = 0.25
LINE_S: Final = 5.0


class Screen:
    """Where a run is shown; a context manager that gives the terminal back as it was."""

    def __init__(self, console: Console) -> None:
        self._console = console
        large_enough = console.width >= MIN_WIDTH and console.height >= MIN_HEIGHT
        self._live = (
            Live(console=console, screen=True, auto_refresh=False)
            if console.is_terminal and large_enough
            else None
        )
        self._stack = ExitStack()
        self._line_due = 0.0
        self._phase = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._stack.enter_context(self._live)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def show(self, view: FeedView, frame: Frame) -> None:
        """Draw what there is now; without a terminal, at most a line every 5 s and one for each phase."""
        if self._live is not None:
            size = self._console.size
            self._live.update(draw(view, frame, width=size.width, height=size.height), refresh=True)
            return
        now = time.monotonic()
        if frame.phase == self._phase and now < self._line_due:
            return
        self._phase, self._line_due = frame.phase, now + LINE_S
        self._console.print(line(view, frame), markup=False, soft_wrap=True)
