"""Where a run is shown: a screen on a terminal that is large enough, lines elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from stream.console import FeedView, Frame
from stream.demo.screen import Screen

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"  # xterm's alternate screen


def shown(*, width: int, height: int, terminal: bool) -> str:
    """Show two frames of two phases; return what was written."""
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=terminal, color_system=None)
    with Screen(console) as screen:
        for phase in ("starting", "starting", "streaming"):
            screen.show(FeedView(), Frame("shop", phase))
    return file.getvalue()


def test_a_terminal_is_given_back_as_it_was() -> None:
    """The screen is drawn on the alternate one, which is left at the end."""
    text = shown(width=100, height=32, terminal=True)
    assert text.startswith(ENTER)
    assert LEAVE in text
    assert "Not sent, and why" in text


def test_lines_come_once_for_each_phase() -> None:
    """Without a terminal, or with one that is too small, there is a line per phase and per 5 s."""
    for text in (
        shown(width=100, height=32, terminal=False),
        shown(width=60, height=10, terminal=True),
    ):
        assert ["shop: starting, 0 s", "shop: streaming, 0 s"] == text.splitlines()
