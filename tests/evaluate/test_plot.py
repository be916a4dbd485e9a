from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from stream.evaluate.plot import HEIGHT, LEFT, RIGHT, WIDTH, Line, _ticks, chart, plot_offers

SVG = "{http://www.w3.org/2000/svg}"


def points(path: str) -> list[list[float]]:
    """Coordinates of a polyline."""
    return [[float(number) for number in pair.split(",")] for pair in path.split()]


def draw(*lines: Line, from_zero: bool = True) -> ET.Element:
    """A chart, parsed: it is well-formed XML."""
    return ET.fromstring(chart("a < b", "x & y", "y", lines, from_zero=from_zero))  # noqa: S314  our own


def test_lines_keep_their_proportions() -> None:
    """Halfway in x and y is halfway in the picture; larger is higher."""
    (drawn,) = draw(Line("one", [(0, 0.0), (3, 0.25), (6, 0.5)])).iter(f"{SVG}polyline")
    (x0, y0), (x1, y1), (x2, y2) = points(drawn.attrib["points"])

    assert (x0 + x2) / 2 == pytest.approx(x1, abs=0.1)
    assert (y0 + y2) / 2 == pytest.approx(y1, abs=0.1)
    assert y0 > y2
    assert (LEFT, WIDTH - RIGHT) == (x0, x2)


def test_names_do_not_overlap() -> None:
    """Eight lines that end at one point have eight labels, one under the other and inside the picture."""
    lines = [Line(f"line {n}", [(0, 0.0), (1, 0.0)]) for n in range(8)]
    texts = {
        text.text: float(text.attrib["y"]) for text in draw(*lines).iter(f"{SVG}text") if "y" in text.attrib
    }
    heights = sorted(texts[line.name] for line in lines)

    assert all(later - earlier >= 16.9 for earlier, later in pairwise(heights))
    assert heights[-1] < HEIGHT


def test_text_is_escaped() -> None:
    """A title or a name is text and no markup."""
    (title,) = draw(Line("<b>", [(0, 1.0)])).iter(f"{SVG}title")

    assert "a < b" == title.text


def test_an_endless_band_is_left_out() -> None:
    """A confidence sequence begins without bounds."""
    band = [(0, float("-inf"), float("inf")), (1, 0.5, 1.5), (2, 0.8, 1.2)]
    (shape,) = draw(Line("one", [(0, 1.0), (1, 1.0), (2, 1.0)], band)).iter(f"{SVG}polygon")

    assert 4 == len(points(shape.attrib["points"]))


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0, 50_000, 6), (0.41, 0.47, 7), (0.0, 0.0, 6), (-1.0, 1.0, 5), (0.0, 1.0, 6)],
)
def test_ticks_are_few_and_hold_everything(low: float, high: float, wanted: int) -> None:
    """From at most the least to at least the greatest."""
    ticks = _ticks(low, high)

    assert wanted == len(ticks)
    assert ticks[0] <= low <= high <= ticks[-1]


def test_refused_estimates_are_not_drawn() -> None:
    """What is left is the log's own mean."""
    refused = {"value": None}
    report = {
        "n": 10,
        "logged_mean": 0.5,
        "estimates": {"dr": refused, "ips": refused},
        "best_fixed_action": refused,
    }

    assert 1 == plot_offers(report).count("<polyline")
