"""What a marketer looks at: outputs folded into a view, and the view drawn on a terminal.

Nothing here reads Kafka or a clock: whoever wires it hands over outputs, counts and times.
"""

from __future__ import annotations

from stream.console.exposition import WorkerCounts
from stream.console.feed_view import FeedView, OfferBelief
from stream.console.live import MIN_HEIGHT, MIN_WIDTH, Frame, draw, line, report

__all__ = [
    "MIN_HEIGHT",
    "MIN_WIDTH",
    "FeedView",
    "Frame",
    "OfferBelief",
    "WorkerCounts",
    "draw",
    "line",
    "report",
]
