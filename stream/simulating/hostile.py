"""What goes wrong on the way from a website: re-sent, late, early, broken and unknown records."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from stream.simulating.goods import rfc3339

__all__ = ["Hostile"]

_REMEMBERED = 500  # a re-send comes soon after
_LATE_S = 30 * 3600.0  # beyond the 24 h after which an event is late
_FUTURE_S = 2 * 24 * 3600.0
_DEPTH = 20  # beyond the depth limit of 8

# What a bad record is, and how often.
_KINDS = ("resent", "late", "future", "unknown", "broken")
_KIND_SHARES = (0.5, 0.15, 0.1, 0.05, 0.2)

Event = dict[str, Any]


def _nested() -> Event:
    inner: Event = {}
    for _ in range(_DEPTH):
        inner = {"deeper": inner}
    return inner


# Each takes a sound event, and gives back a faulty record.
_BREAKS: tuple[Callable[[Event], bytes], ...] = (
    lambda event: orjson.dumps(event)[:-20],  # cut off
    lambda event: orjson.dumps({k: v for k, v in event.items() if k not in {"userId", "anonymousId"}}),
    lambda event: orjson.dumps(event | {"timestamp": "yesterday"}),
    lambda event: orjson.dumps(event | {"properties": {"product_id": "p0001", "price": 1e300}}),
    lambda event: orjson.dumps(event | {"properties": {"price": "?"}}).replace(b'"?"', b"NaN"),
    lambda event: orjson.dumps(event | {"properties": _nested()}),
    lambda event: orjson.dumps([event["messageId"]]),  # no object
    lambda event: b"\xff\xfe" + orjson.dumps(event)[2:],  # no UTF-8
)


class Hostile:
    """Adds a bad record after some of the good ones.

    Parameters
    ----------
    share : float
        Expected bad records per good one, 0 to 1.
    """

    def __init__(self, share: float, rng: np.random.Generator) -> None:
        self._share = share
        self._rng = rng
        self._sent: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._n_bad = 0

    def after(self, record: bytes, time_s: float) -> bytes | None:
        """Return the bad record that follows a good one, or nothing."""
        self._sent.append(record)
        if self._rng.random() >= self._share:
            return None
        kind = self._rng.choice(_KINDS, p=_KIND_SHARES)
        if kind == "resent":
            return self._sent[int(self._rng.integers(len(self._sent)))]
        self._n_bad += 1
        event: Event = orjson.loads(record)
        event["messageId"] += f"-bad{self._n_bad}"
        if kind == "late":
            return orjson.dumps(event | {"timestamp": rfc3339(time_s - _LATE_S)})
        if kind == "future":
            return orjson.dumps(event | {"timestamp": rfc3339(time_s + _FUTURE_S)})
        if kind == "unknown":
            return orjson.dumps(event | {"event": "Page Pondered"})  # nobody's event name
        return _BREAKS[int(self._rng.integers(len(_BREAKS)))](event)
