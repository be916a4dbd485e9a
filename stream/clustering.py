"""Learn clusters of users from recorded events, as segments that can be declared."""

from __future__ import annotations

from itertools import islice
from math import expm1
from typing import TYPE_CHECKING

import numpy as np

from online_models.segments import centres
from schemas.segments import Centre, Segment
from stream.assembly import build_engine, build_models
from stream.core.conditions import Facts, reader
from stream.core.nearest import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream.recording import Recording
    from stream.settings import Settings

__all__ = ["clusters"]

BATCH = 1000


def clusters(
    settings: Settings,
    recording: Recording,
    *,
    n: int,
    name: str,
    facts: Sequence[str],
    progress: Callable[[int], None] | None = None,
) -> list[tuple[Segment, int]]:
    """Return at most *n* segments of one clustering, with how many users are nearest to each, the most first.

    The profiles are those that the worker would have at the end of the recording.

    Raises
    ------
    ValueError
        A fact cannot be compared by.
    """
    Centre(clustering=name, at=dict.fromkeys(facts, 0.0))
    models, n_partitions = build_models(settings), recording.n_partitions
    config = settings.engine_config(replay=not recording.broker_clock)
    engines = [build_engine(settings, models, config=config) for _ in range(n_partitions)]
    records, done = recording.open(), 0
    while batch := list(islice(records, BATCH)):
        models.fold.begin()
        for partition, record in batch:
            engines[partition].process([record])
        models.fold.keep()
        done += len(batch)
        if progress is not None:
            progress(done)
    reads = [reader(fact) for fact in facts]
    profiles = {user: engine.state.profile(user) for engine in engines for user in engine.state}
    users = [Facts(profiles[user], profiles[user].last_seen) for user in sorted(profiles)]
    points = [[scaled(read(user)) for read in reads] for user in users]
    found = centres(points, n, np.random.default_rng(settings.seed))
    return [
        (
            Segment(
                segment_id=f"{name}-{place}",
                version=1,
                nearest=Centre(
                    clustering=name, at={f: _value(x) for f, x in zip(facts, centre, strict=True)}
                ),
            ),
            size,
        )
        for place, (centre, size) in enumerate(found, 1)
    ]


def _value(x: float) -> float:
    """The number that ``scaled`` makes of it, to what a reader needs."""
    return round(expm1(x), 2)
