"""Draw a view on a terminal: one screen of fixed height, a line of progress, a report at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stream.console.feed_view import NO_OFFER, FeedView, ShownOffer

__all__ = ["MIN_HEIGHT", "MIN_WIDTH", "Frame", "draw", "line", "report"]

MIN_WIDTH: Final = 80
MIN_HEIGHT: Final = 24
WIDE: Final = 96
MAX_WIDTH: Final = 120
N_STREAM: Final = 6  # rows of the two panels at the top
LEAST_ROWS: Final = 3  # of each of the others
MOST_ROWS: Final = 7
BORDER: Final = 2
TRACK: Final = 16
SPARKS: Final = "▁▂▃▄▅▆▇█"
EIGHTHS: Final = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the view.

    Attributes
    ----------
    title : str
        What is running.
    phase : str
        What it is doing now, in a few words.
    done : float
        Share of the run that is behind us, 0 to 1.
    elapsed_s : float
        Seconds since the feed began.
    clock : str
        Time of day in the shop.
    best_offer : str or None
        Where a simulation knows the truth: the offer that its shoppers like best.
    """

    title: str
    phase: str = ""
    done: float = 0.0
    elapsed_s: float = 0.0
    clock: str = ""
    best_offer: str | None = None


def draw(view: FeedView, frame: Frame, *, width: int = 100, height: int = 32) -> RenderableType:
    """One screen of a fixed number of rows, at most ``height``, however much or little there is to show.

    A terminal of less than 80 x 24 is drawn as if it had these.
    """
    width = max(MIN_WIDTH, min(MAX_WIDTH, width))
    n_lists, n_messages, n_reasons = _rows(height)
    return Group(
        _header(frame, width),
        _columns(
            width,
            _panel("Stream", _stream(view, width), N_STREAM),
            _panel("Offers", _offers(view, frame.best_offer, width), N_STREAM),
        ),
        _panel(
            f"Recommendations [dim]{view.n_recommendations:,}[/]",
            _lists(view, n_lists, width),
            n_lists,
            width,
        ),
        _panel(
            f"Messages to send [dim]{view.sent.total():,}[/]",
            _messages(view, n_messages, width),
            n_messages,
            width,
        ),
        _columns(
            width,
            _panel("Campaigns", _campaigns(view, n_reasons, width), n_reasons),
            _panel(
                f"Not sent, and why [dim]{view.suppressed.total():,}[/]",
                _suppressed(view, n_reasons, width),
                n_reasons,
            ),
        ),
    )


def line(view: FeedView, frame: Frame) -> str:
    """The same in one line, for logs and pipes; before the first event the phase alone."""
    if not view.worker.consumed:
        return f"{frame.title}: {frame.phase}, {frame.elapsed_s:.0f} s"
    fresh = view.freshness_ms(live=True)
    p50, p99 = (f"{fresh[q]:.0f}" if q in fresh else "-" for q in ("p50", "p99"))
    worker = view.worker
    return (
        f"{frame.elapsed_s:5.1f} s  {frame.phase}: {worker.consumed:,} events ({view.rate:,.0f}/s), "
        f"{view.n_recommendations:,} lists, {view.sent.total():,} messages, "
        f"{view.suppressed.total():,} suppressed, {sum(worker.rejected.values()):,} rejected, "
        f"lag {worker.lag:,}, freshness p50 {p50} ms, p99 {p99} ms"
    )


def report(summary: Mapping[str, Any]) -> RenderableType:
    """The summary of a run as text for people; nothing in it is missing from the JSON."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right", no_wrap=True)
    table.add_column()
    for name, text in _report_rows(summary):
        table.add_row(Text(name), Text(text))
    return table


def _report_rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    events, shop, fresh = summary["events"], summary["shop"], summary["freshness_ms"]
    rejected = f"{sum(events['rejected'].values()):,} rejected{_pairs(events['rejected'])}"
    fates = f"{events['accepted']:,} accepted, {events['duplicate']:,} duplicates, {rejected}"
    yield "events", f"{events['consumed']:,} consumed: {fates}"
    money = "".join(f", {amount:,.0f} {currency}" for currency, amount in shop["revenue"].items())
    yield "shop", f"{shop['orders']:,} orders{money}"
    lists = shop["lists"]["nudge"]
    clicked = f"; {lists['shown']:,} were shown, {lists['clicked']:,} clicked" if lists["shown"] else ""
    yield "recommended", f"{summary['recommendations']['published']:,} lists{clicked}"
    for offer, shown in summary["offers"].items():
        yield f"offer {offer}", _offer_line(shown)
    yield "messages", f"{sum(summary['triggers'].values()):,} to send{_pairs(summary['triggers'])}"
    yield "suppressed", f"{sum(summary['suppressed'].values()):,}{_pairs(summary['suppressed'])}"
    for model, measures in summary["models"].items():
        yield f"model {model}", _quality(measures)
    if fresh["n"]:
        text = f"p50 {fresh['p50']:.0f} ms, p99 {fresh['p99']:.0f} ms, over {fresh['n']:,} answers"
        yield "freshness", f"{text} (event in the log to answer in a reader's hands)"


# --- the parts of the screen ---------------------------------------------------------------------------


def _header(frame: Frame, width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.width = width
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    left = Text.assemble((" nudge ", "bold"), frame.title, (f"  {frame.clock}", "cyan"))
    full = round(max(0.0, min(1.0, frame.done)) * TRACK)
    track = (("━" * full, "green"), ("━" * (TRACK - full), "bright_black"), " ")
    right = Text.assemble((frame.phase, "dim"), f" {frame.elapsed_s:3.0f} s ", *track)
    grid.add_row(left, right)
    return grid


def _stream(view: FeedView, width: int) -> RenderableType:
    worker, fresh = view.worker, view.freshness_ms(live=True)
    grid = _table(("", "dim", 9), ("", "", width // 2 - 4 - 9 - 2))
    sparks = _sparkline(view.rates, width // 2 - 24)
    grid.add_row("events/s", Text.assemble((f"{view.rate:<7,.0f}", "bold green"), (sparks, "green")))
    grid.add_row("consumed", _counts((worker.consumed, ""), (worker.lag, "waiting")))
    duplicates = (worker.duplicate, "duplicates")
    grid.add_row("accepted", _counts((worker.accepted, ""), duplicates, (worker.unknown, "unknown")))
    codes = sorted(worker.rejected.items(), key=lambda pair: -pair[1])
    rejected = [(sum(worker.rejected.values()), ""), *((n, code) for code, n in codes)]
    grid.add_row("rejected", _counts(*rejected))
    answer = "-"
    if fresh["n"]:
        answer = f"p50 {fresh['p50']:.0f} ms  p99 {fresh['p99']:.0f} ms"
    grid.add_row("freshness", Text(answer, "bold"))
    grid.add_row("learning", Text(_quality(worker.quality.get("recommend", {}), short=True)))
    return grid


def _offers(view: FeedView, best: str | None, width: int) -> RenderableType:
    bar_width = (width - 76) // 2  # what names, numbers and borders leave of half the screen
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("offer", width=17, min_width=17, no_wrap=True, overflow="ellipsis")
    table.add_column("response", width=10, min_width=10, no_wrap=True)
    table.add_column("share", no_wrap=True)
    for offer in view.offers[: N_STREAM - 1]:
        name = Text.assemble(offer.offer, (" ★" if offer.offer == best else "", "yellow"))
        share = Text.assemble(f"{offer.recent_share:4.0%} ", (_bar(offer.recent_share, bar_width), "magenta"))
        table.add_row(name, _belief(offer), share)
    return table


def _lists(view: FeedView, rows: int, width: int) -> RenderableType:
    rest = width - 4 - 7 - 8 - 6  # borders, user, slot, gaps
    table = _table(
        ("", "cyan", 7), ("", "dim", 8), ("", "", rest * 3 // 5), ("", "dim", rest - rest * 3 // 5)
    )
    for shown in [*view.recommendations][: -rows - 1 : -1]:
        cells = (shown.user, shown.slot, " · ".join(shown.items), shown.reason)
        table.add_row(*map(Text, cells))
    return table


def _messages(view: FeedView, rows: int, width: int) -> RenderableType:
    campaign = 15 if width >= WIDE else 10
    rest = width - 4 - 5 - 7 - campaign - 15 - 10  # borders, clock, user, campaign, offer, gaps
    why = min(25, rest * 3 // 5)
    table = _table(
        ("", "dim", 5),
        ("", "cyan", 7),
        ("", "", campaign),
        ("", "bold", rest - why),
        ("", "dim", why),
        ("", "magenta", 15),
    )
    for shown in [*view.messages][: -rows - 1 : -1]:
        cells = (shown.clock, shown.user, shown.campaign, shown.product, shown.why, shown.offer or "")
        table.add_row(*map(Text, cells))
    return table


def _campaigns(view: FeedView, rows: int, width: int) -> RenderableType:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False, expand=True)
    table.add_column("campaign", no_wrap=True, overflow="ellipsis", ratio=1)
    names = ("armed", "cancelled", "eligible", "sent") if width >= WIDE else ("armed", "cancelled", "sent")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    for campaign, funnel in sorted(view.worker.funnel.items())[: rows - 1]:
        table.add_row(Text(campaign), *(f"{funnel.get(name, 0):,}" for name in names))
    return table


def _suppressed(view: FeedView, rows: int, width: int) -> RenderableType:
    bar_width = width // 2 - 4 - 17 - 5 - 4
    table = _table(("", "", 17), ("", "", 5), ("", "yellow", bar_width))
    table.columns[1].justify = "right"
    reasons = view.suppressed.most_common()
    if len(reasons) > rows:
        rest = sum(n for _, n in reasons[rows - 1 :])
        reasons = [*reasons[: rows - 1], (f"{len(reasons) - rows + 1} more reasons", rest)]
    most = max((n for _, n in reasons), default=1)
    for reason, n in reasons:
        table.add_row(Text(reason.replace("_", " ")), f"{n:,}", _bar(n / most, bar_width))
    return table


# --- pieces --------------------------------------------------------------------------------------------


def _rows(height: int) -> tuple[int, int, int]:
    """Rows of the lists, messages and reasons panels: what the terminal has, shared out in turn."""
    rows = [LEAST_ROWS] * 3
    for n in range(max(0, height - MIN_HEIGHT)):
        rows[n % 3] += 1
    lists, messages, reasons = (min(MOST_ROWS, n) for n in rows)
    return lists, messages, reasons


def _panel(title: str, body: RenderableType, rows: int, width: int | None = None) -> Panel:
    """Draw a frame of fixed height: what stands below must not jump."""
    return Panel(
        body,
        title=f"[bold]{title}[/]",
        title_align="left",
        box=box.ROUNDED,
        border_style="dim",
        height=rows + BORDER,
        width=width,
    )


def _columns(width: int, left: RenderableType, right: RenderableType) -> Table:
    grid = Table.grid()
    grid.width = width
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(left, right)
    return grid


def _table(*columns: tuple[str, str, int]) -> Table:
    """Build a grid whose columns have a heading, a style and a width; texts that are too long are cut."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for heading, style, width in columns:
        table.add_column(
            heading, style=style, width=width, min_width=width, no_wrap=True, overflow="ellipsis"
        )
    return table


def _counts(*counts: tuple[int, str]) -> Text:
    """Write numbers, each before its name."""
    return Text("  ").join(
        Text.assemble(f"{n:,}", (f" {name}", "dim")) if name else Text(f"{n:,}") for n, name in counts
    )


def _belief(offer: ShownOffer) -> Text:
    if offer.offer == NO_OFFER:
        return Text("-", "dim")
    if offer.belief is None:
        return Text("unknown", "dim")
    return Text.assemble(f"{offer.belief.mean:.2f} ", (f"±{offer.belief.deviation:.2f}", "dim"))


def _offer_line(shown: Mapping[str, Any]) -> str:
    text = f"chosen {shown['chosen']:,} times ({shown['share']:.0%})"
    text += f", least propensity {shown['least_propensity']:.3f}"
    if "posterior_mean" not in shown:
        return text
    return (
        f"{text}; response {shown['posterior_mean']:.3f} ± {shown['posterior_deviation']:.3f} "
        f"after {shown['responses']:.0f} of {shown['outcomes']:.0f}"
    )


def _quality(measures: Mapping[str, float], *, short: bool = False) -> str:
    wanted = (
        ("recall_at_10", "n") if short else ("recall_at_10", "auc", "normalised_entropy", "log_loss", "n")
    )
    texts = [
        f"{name.replace('_', ' ').replace(' at ', '@')} {measures[name]:,.{0 if name == 'n' else 3}f}"
        for name in wanted
        if name in measures
    ]
    return ", ".join(texts) if measures.get("n") else "-"


def _pairs(counts: Mapping[str, int]) -> str:
    texts = (f"{name} {n:,}" for name, n in sorted(counts.items(), key=lambda pair: -pair[1]))
    return f" ({', '.join(texts)})" if counts else ""


def _bar(share: float, width: int) -> str:
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[part] if part else "")).ljust(width)


def _sparkline(values: Iterable[float], width: int) -> str:
    last = [*values][-width:]
    top = max(last, default=0.0)
    if top <= 0:
        return ""
    return "".join(SPARKS[min(7, int(8 * value / top))] for value in last)
