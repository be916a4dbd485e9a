"""The screen: it fits, it does not jump, and it shows names as they are."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from stream.console import FeedView, Frame, OfferBelief, WorkerCounts, draw, line, report
from stream.console.feed_view import ShownMessage, ShownRecommendation

FRAME = Frame("shop, seed 7", "streaming", 0.4, 12.0, "Mon 14:05", "free-gift")


def rendered(what: RenderableType, width: int, height: int = 60) -> list[str]:
    """Draw on a terminal without colours; return its rows."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(what)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO given above
    return str(text).splitlines()


def busy_view() -> FeedView:
    """Build a view with more of everything than a screen holds, and texts that are too long."""
    view = FeedView()
    campaigns = {f"campaign-{n}-" + "x" * 40: {"armed": 123_456, "sent": 7} for n in range(12)}
    rejected = {f"code_{n}": 10**n for n in range(6)}
    worker = WorkerCounts(10**7, 9 * 10**6, 10**5, 10**4, 10**5, rejected, campaigns)
    worker.quality["recommend"] = {"recall_at_10": 0.2134, "n": 123_456.0}
    for second in range(60):
        worker.consumed += 1000 * second
        view.sample(worker, float(second))
    view.suppressed.update({f"reason_{n}": n + 1 for n in range(10)})
    view.believe([OfferBelief(f"offer-{n}-" + "x" * 40, n / 10, 0.01, 9.0, 1.0) for n in range(9)])
    for n in range(20):
        names = ("[red]tent[/red]", "boot " * 20, "rope")
        view.recommendations.append(ShownRecommendation(f"user-{n}" * 9, "home", names, "sequence", "[b]why"))
        view.messages.append(ShownMessage("14:05", f"u{n}", "cart", "[red]tent[/red]", "left in cart", None))
    return view


@pytest.mark.parametrize(("width", "height"), [(80, 24), (96, 30), (100, 32), (120, 40), (200, 80)])
def test_the_screen_fits_and_keeps_its_height(width: int, height: int) -> None:
    """Empty and full views take the same rows, at most the terminal's, and no row is too wide."""
    empty = rendered(draw(FeedView(), FRAME, width=width, height=height), width)
    full = rendered(draw(busy_view(), FRAME, width=width, height=height), width)
    assert len(empty) == len(full)
    assert len(full) <= height
    assert max(map(len, full)) <= min(width, 120)
    assert len({len(row) for row in full[1:]}) == 1  # all frames end in the same column


def test_names_are_shown_as_they_are() -> None:
    """Names come from a catalogue: brackets in them are text, not markup."""
    rows = rendered(draw(busy_view(), FRAME), 100)
    assert any("[red]tent[/red]" in row for row in rows)
    assert any("[b]why" in row for row in rows)


def test_the_true_best_offer_is_marked() -> None:
    """Where the truth is known a star shows it."""
    view = FeedView()
    view.believe([OfferBelief("free-gift", 0.2, 0.02, 9.0, 1.0), OfferBelief("other", 0.3, 0.02, 9.0, 1.0)])
    starred = [row for row in rendered(draw(view, FRAME), 100) if "★" in row]
    assert 1 == len(starred)
    assert "free-gift ★" in starred[0]


def test_the_line_for_logs_says_the_phase_until_events_come() -> None:
    """One line, with the phase; numbers from the first event on."""
    assert "shop, seed 7: streaming, 12 s" == line(FeedView(), FRAME)
    text = line(busy_view(), FRAME)
    assert "\n" not in text
    assert "55 suppressed" in text


def test_the_report_holds_every_reason_and_offer() -> None:
    """People read the same numbers as programs do."""
    view = busy_view()
    text = "\n".join(rendered(report(view.summary()), 2000))
    for n in range(10):
        assert f"reason_{n} {n + 1}" in text
    for n in range(9):
        assert f"offer offer-{n}-" in text
