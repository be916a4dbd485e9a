"""The public data sets as ``nudge evaluate`` reads them: one JSON line an event, example or decision."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from io import BytesIO
from itertools import islice
from operator import itemgetter
from pathlib import Path

from benchmarks.click_prequential import DATA, EXAMPLES, bucket
from benchmarks.offers_logged import LOGS
from schemas.codec import parse_time
from stream.importing import import_events

__all__ = ["CLICKS", "OFFERS", "QUICK", "RECOMMENDATIONS", "Stream", "imported"]

QUICK = 4_000  # lines of each data set in the quick form
YOOCHOOSE = tuple(f"yoochoose-100k/yoochoose-clicks-100k_{part}.txt.gz" for part in ("train_full", "test"))


@dataclass(frozen=True)
class Stream:
    """One data set.

    Attributes
    ----------
    lines : callable
        Its lines, without line ends.
    note : str
        What the figures are of.
    positive : str
        Name of the events that are scored; of streams of events only.
    limit : int or None
        How many lines are taken, the first ones.
    """

    lines: Callable[[], Iterable[bytes]]
    note: str
    positive: str = ""
    limit: int | None = None

    def write(self, path: Path, *, quick: bool) -> int:
        """Write the lines to a file; returns how many."""
        limit = min(QUICK, (self.limit or 10 * QUICK) // 10) if quick else self.limit
        lines = list(islice(self.lines(), limit))
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return len(lines)


def imported(source: str, *files: str, since: str | None = None) -> list[bytes]:
    """Events as ``nudge import`` writes them; of several files the first one's header stands for all."""
    with tempfile.NamedTemporaryFile() as joined:
        for n, name in enumerate(files):
            with gzip.open(DATA / name, "rb") as part:
                joined.writelines(islice(part, int(n > 0), None))
        joined.flush()
        out = BytesIO()
        from_s = None if since is None else parse_time(since)
        import_events(source, Path(joined.name), out=out, from_s=from_s)
    return out.getvalue().splitlines()


def _examples(name: str) -> Iterator[bytes]:
    """A stream of :mod:`benchmarks.click_prequential`."""
    for _, texts, label in EXAMPLES[name]():
        yield _line({"features": dict.fromkeys(texts, True), "label": label})


def _mind_lists() -> list[tuple[datetime, list[str]]]:
    """MIND's lists by time, each with impression, user, time, history and what was shown."""
    with gzip.open(DATA / "mind-5k" / "behaviors.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    timed = [(datetime.strptime(row[2] + " +0000", "%m/%d/%Y %I:%M:%S %p %z"), row) for row in rows]
    return sorted(timed, key=itemgetter(0))


def _mind() -> Iterator[bytes]:
    """Articles of MIND's lists by time: article, user, place in the list, hour, length of the history."""
    for time, (_, user, _, history, shown) in _mind_lists():
        for place, article in enumerate(shown.split()):
            item, _, label = article.rpartition("-")
            features = {
                "item": item,
                "user": user,
                "position": str(min(place, 30)),
                "hour": str(time.hour),
                "history": bucket(float(len(history.split()))),
            }
            yield _line({"time": time.timestamp(), "features": features, "label": int(label)})


def _mind_clicks() -> Iterator[bytes]:
    """Articles that MIND's users clicked, by time; what they had read before the week is left out."""
    for time, (impression, user, _, _, shown) in _mind_lists():
        for article in shown.split():
            item, _, label = article.rpartition("-")
            if label == "1":
                yield _line(
                    {
                        "messageId": f"{impression}-{item}",
                        "userId": user,
                        "timestamp": time.isoformat(),
                        "event": "Product Viewed",
                        "properties": {"product_id": item},
                    }
                )


def _decisions(log: str) -> Iterator[bytes]:
    """A log of :mod:`benchmarks.offers_logged`."""
    yield from map(_line, LOGS[log]())


def _line(value: object) -> bytes:
    return json.dumps(value).encode()


RECOMMENDATIONS = {
    "ml-100k": Stream(
        partial(imported, "movielens", "ml-100k/ml-100k.inter.gz"),
        "ratings of four stars and more",
        "Product Reviewed",
    ),
    "yoochoose-100k": Stream(
        partial(imported, "yoochoose", *YOOCHOOSE), "clicks of both files", "Product Viewed"
    ),
    "taobao": Stream(
        partial(imported, "taobao", "taobao/UserBehavior_first100k.csv.gz", since="2017-11-25"),
        "page views among the first 20,000 events from 25 November 2017 on",
        "Product Viewed",
        20_000,
    ),
    "online-retail": Stream(
        partial(imported, "online-retail", "online-retail/online_retail_by_day.csv.gz"),
        "products of the first 3,000 orders",
        "Order Completed",
        3_000,
    ),
    "mind-5k": Stream(_mind_clicks, "clicks on news, most of them a user's only one", "Product Viewed"),
    "taobao-slice": Stream(
        partial(imported, "taobao", "taobao/UserBehavior_slice.csv.gz", since="2017-11-25"),
        "page views of two hours of 58,732 users, the first 20,000 events",
        "Product Viewed",
        20_000,
    ),
}
"""Streams of events."""
CLICKS = {
    "kdd12-click-small": Stream(partial(_examples, "kdd12"), "all, in the file's order"),
    "mind-5k": Stream(_mind, "all articles of all lists, by time"),
    "online-shoppers": Stream(partial(_examples, "online-shoppers"), "all sessions, in the file's order"),
    "ml-100k": Stream(partial(_examples, "ml-100k"), "all ratings by time, positive from four stars on"),
}
"""Streams of examples."""
OFFERS = {
    "hillstrom-a": Stream(partial(_decisions, "hillstrom"), "all customers; reward: a visit"),
    "obd-all-men/all": Stream(
        partial(_decisions, "obd-all-random"), "the random policy's log, 80 arms; reward: a click"
    ),
    "obd-all-men/men": Stream(
        partial(_decisions, "obd-men-random"), "the random policy's log, 34 arms; reward: a click"
    ),
}
"""Logs of decisions."""
