"""Clusters as segments: a user belongs to the nearest of the declared centres, as the profile is now.

The centres are data with a version. So a membership depends on the user's own events alone: not on who else
was seen, in which order or partition, nor on restarts. What the centres should be, ``nudge clusters`` learns
from recorded events.
"""

from __future__ import annotations

from math import log1p
from typing import TYPE_CHECKING

from stream.core.conditions import NUMBERS, reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schemas.segments import Segment
    from stream.core.conditions import Facts, Test

__all__ = ["nearest_tests", "scaled"]


def nearest_tests(segments: Iterable[Segment]) -> dict[str, Test]:
    """Return a test of membership for each segment that is a centre."""
    clusterings: dict[str, dict[str, dict[str, float]]] = {}
    for segment in segments:
        if (centre := segment.nearest) is not None:
            clusterings.setdefault(centre.clustering, {})[segment.segment_id] = centre.at
    return {
        segment_id: clustering.test(segment_id)
        for clustering in map(_Clustering, clusterings.values())
        for segment_id in clustering.centres
    }


def scaled(value: object) -> float:
    """A number as distances are measured in; what is not known is 0, as is a revenue below it."""
    return log1p(value) if type(value) in NUMBERS and value > 0 else 0.0  # type: ignore[operator, arg-type]  # a number


class _Clustering:
    """The centres of one clustering; of two at the same distance the first by id is the nearest."""

    def __init__(self, centres: dict[str, dict[str, float]]) -> None:
        facts = sorted({fact for at in centres.values() for fact in at})
        self._reads = [reader(fact) for fact in facts]
        self.centres = {
            segment_id: [scaled(at.get(fact, 0.0)) for fact in facts]
            for segment_id, at in sorted(centres.items())
        }
        # All centres of a clustering are asked in turn about the same user.
        self._last: tuple[Sequence[object], str] = ((), "")

    def test(self, segment_id: str) -> Test:
        """Return whether a user is nearest to a centre."""
        return lambda facts: self._nearest(facts) == segment_id

    def _nearest(self, facts: Facts) -> str:
        values = [read(facts) for read in self._reads]
        if values != self._last[0]:
            point = [scaled(value) for value in values]
            self._last = (values, min(self.centres, key=lambda one: _distance(self.centres[one], point)))
        return self._last[1]


def _distance(centre: Sequence[float], point: Sequence[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(centre, point, strict=True))
