"""Read a worker's counts out of its ``/metrics``, Prometheus' text format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["WorkerCounts", "samples"]

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>[^ ]+)(?: -?\d+)?")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


def samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    r"""Yield name, labels and value of each sample; comments and what is no sample are passed over.

    >>> list(samples('# HELP up x\nlag{partition="0"} 3.0\n'))
    [('lag', {'partition': '0'}, 3.0)]
    """
    for row in text.splitlines():
        found = _SAMPLE.fullmatch(row)
        if found is None:
            continue
        labels = {name: _unescape(value) for name, value in _LABEL.findall(found["labels"] or "")}
        try:
            yield found["name"], labels, float(found["value"])
        except ValueError:
            continue


def _unescape(value: str) -> str:
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], value)


@dataclass(slots=True)
class WorkerCounts:
    """What a worker has committed so far.

    Attributes
    ----------
    consumed, accepted, duplicate, unknown, lag : int
        Records; unknown ones are part of the accepted, lag is what waits.
    rejected : dict[str, int]
        By code of the reject.
    funnel : dict[str, dict[str, int]]
        Per campaign: armed, moved, cancelled, eligible, sent.
    suppressed : dict[str, dict[str, int]]
        Per campaign: eligible but not sent, by reason.
    quality : dict[str, dict[str, float]]
        Per model: progressive measures by name.
    """

    consumed: int = 0
    accepted: int = 0
    duplicate: int = 0
    unknown: int = 0
    lag: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    funnel: dict[str, dict[str, int]] = field(default_factory=dict)
    suppressed: dict[str, dict[str, int]] = field(default_factory=dict)
    quality: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> WorkerCounts:
        """Take what concerns us from an exposition."""
        counts = cls()
        for name, labels, value in samples(text):
            counts._add(name.removeprefix("nudge_").removesuffix("_total"), labels, value)
        return counts

    def _add(self, name: str, labels: dict[str, str], value: float) -> None:
        match name:
            case "events_consumed":
                self.consumed = int(value)
            case "events_accepted":
                self.accepted = int(value)
            case "events_duplicate":
                self.duplicate = int(value)
            case "events_unknown":
                self.unknown = int(value)
            case "events_rejected" if value:  # each code is born at zero
                self.rejected[labels["code"]] = int(value)
            case "consumer_lag_records":
                self.lag += int(value)
            case "triggers" if labels["outcome"] == "suppressed":
                self.suppressed.setdefault(labels["campaign"], {})[labels["reason"]] = int(value)
            case "triggers":
                self.funnel.setdefault(labels["campaign"], {})[labels["outcome"]] = int(value)
            case "model_quality":
                self.quality.setdefault(labels["model"], {})[labels["measure"]] = value
            case _:
                pass
