"""Line charts of windowed metrics as SVG, which every browser shows; no library draws here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Line", "chart", "plot_click", "plot_offers", "plot_recommend"]

# Okabe and Ito: told apart by those who see few colours. Ours comes first and is black.
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 72, 220, 48, 56
LABEL_HEIGHT = 17.0
N_TICKS = 6


@dataclass(frozen=True, slots=True)
class Line:
    """One line: points by x, and optionally a band around them."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()  # x, low, high


def plot_recommend(report: dict[str, Any]) -> str:
    """Recall@10 of the models and each baseline in windows of the stream."""
    return chart(
        "recall@10, each event ranked before it was learned",
        "scored events",
        "recall@10",
        _windowed(report, "recall_at_10"),
        from_zero=True,
    )


def plot_click(report: dict[str, Any]) -> str:
    """Log loss of the click model and each baseline in windows of the stream."""
    return chart(
        "log loss, each example predicted before it was learned; lower is better",
        "examples",
        "log loss, nats",
        _windowed(report, "log_loss"),
        from_zero=False,
    )


def plot_offers(report: dict[str, Any]) -> str:
    """Running estimates along the log with their confidence sequences, beside the log's own mean."""
    lines = []
    for name in ("dr", "ips"):
        series = report["estimates"][name].get("series", [])
        points = [(point["n"], point["value"]) for point in series]
        band = [(point["n"], point["low"], point["high"]) for point in series] if name == "dr" else ()
        lines.append(Line(name, points, band))
    n = report["n"]
    lines.append(Line("logged mean", [(0, report["logged_mean"]), (n, report["logged_mean"])]))
    if (best := report["best_fixed_action"])["value"] is not None:
        lines.append(Line("best fixed action", [(0, best["value"]), (n, best["value"])]))
    return chart(
        "what the policy would have earned; band: 95 % at all times together (dr)",
        "logged decisions",
        "mean reward",
        [line for line in lines if line.points],
        from_zero=True,
    )


def _windowed(report: dict[str, Any], metric: str) -> list[Line]:
    ends, at = [], 0
    for window in report["windows"]:
        at += window["n"]
        ends.append(at)
    windows = report["windows"]
    found = {"nudge": [one[metric] for one in windows]}
    found |= {name: [one["baselines"][name][metric] for one in windows] for name in report["baselines"]}
    return [Line(name, list(zip(ends, values, strict=True))) for name, values in found.items()]


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where numbers stand in the picture; both axes begin and end at a tick."""

    x_ticks: list[float]
    y_ticks: list[float]

    def across(self, x: float) -> float:
        first, last = self.x_ticks[0], self.x_ticks[-1]
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - first) / (last - first)

    def down(self, y: float) -> float:
        first, last = self.y_ticks[0], self.y_ticks[-1]
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - first) / (last - first)

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{self.across(x):.1f},{self.down(y):.1f}" for x, y in points)


def chart(title: str, x_label: str, y_label: str, lines: Sequence[Line], *, from_zero: bool) -> str:
    """Draw lines with axes from round numbers to round numbers; each is named where it ends.

    >>> "nudge" in chart("t", "x", "y", [Line("nudge", [(0, 1.0), (5, 2.0)])], from_zero=True)
    True
    """
    heights = [y for line in lines for _, y in line.points]
    heights += [bound for line in lines for _, low, high in _finite(line.band) for bound in (low, high)]
    low = min(0.0, *heights) if from_zero and heights else min(heights, default=0.0)
    widths = [x for line in lines for x, _ in line.points]
    axes = _Axes(_ticks(0.0, max(widths, default=1.0)), _ticks(low, max(heights, default=1.0)))
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="26" font-size="15" font-weight="bold">{escape(title)}</text>',
        *_frame(axes, x_label, y_label),
    ]
    for at in reversed(range(len(lines))):  # the first on top
        parts += _line(lines[at], _colour(at), 3.0 if at == 0 else 1.8, axes)
    parts += _labels(lines, axes)
    return "\n".join([*parts, "</svg>", ""])


def _frame(axes: _Axes, x_label: str, y_label: str) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for tick in axes.y_ticks:
        y = axes.down(tick)
        yield f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(tick, axes.y_ticks)}</text>'
    for tick in axes.x_ticks:
        text = _number(tick, axes.x_ticks)
        yield f'<text x="{axes.across(tick):.1f}" y="{bottom + 20}" text-anchor="middle">{text}</text>'
    middle = (LEFT + right) / 2
    yield f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>'
    turned = f"translate(18 {(TOP + bottom) / 2:.0f}) rotate(-90)"
    yield f'<text transform="{turned}" text-anchor="middle">{escape(y_label)}</text>'


def _line(line: Line, colour: str, width: float, axes: _Axes) -> Iterator[str]:
    band = _finite(line.band)
    if band:
        outline = [(x, high) for x, _, high in band] + [(x, low) for x, low, _ in reversed(band)]
        yield f'<polygon points="{axes.path(outline)}" fill="{colour}" fill-opacity="0.12"/>'
    path = axes.path(line.points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
    for x, y in line.points if len(line.points) == 1 else []:
        yield f'<circle cx="{axes.across(x):.1f}" cy="{axes.down(y):.1f}" r="4" fill="{colour}"/>'


def _labels(lines: Sequence[Line], axes: _Axes) -> list[str]:
    """Names beside the ends of their lines, moved apart where they would overlap."""
    named = sorted(
        (axes.down(line.points[-1][1]), line.name, _colour(at))
        for at, line in enumerate(lines)
        if line.points
    )
    heights: list[float] = []
    for wanted, _, _ in named:
        heights.append(max(wanted, heights[-1] + LABEL_HEIGHT) if heights else wanted)
    limit = float(HEIGHT - BOTTOM)  # what is too low pushes the others up again
    for at in reversed(range(len(heights))):
        heights[at] = min(heights[at], limit)
        limit = heights[at] - LABEL_HEIGHT
    return [
        f'<text x="{WIDTH - RIGHT + 10}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>'
        for y, (_, name, colour) in zip(heights, named, strict=True)
    ]


def _finite(band: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    return [(x, low, high) for x, low, high in band if math.isfinite(low) and math.isfinite(high)]


def _colour(at: int) -> str:
    return COLOURS[at % len(COLOURS)]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``, some six of them.

    >>> _ticks(0.0, 0.23)
    [0.0, 0.05, 0.1, 0.15, 0.2, 0.25]
    """
    if not high > low:
        high = low + 1.0
    rough = (high - low) / N_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(at * step, 12) for at in range(first, last + 1)]


def _number(tick: float, ticks: Sequence[float]) -> str:
    """A tick with as many decimals as the step between ticks has; thousands are set apart."""
    step = ticks[1] - ticks[0]
    decimals = next(n for n in range(20) if round(step, n) == round(step, 12))
    return f"{tick:,.{decimals}f}"
