"""Where the demo's events come from: a simulated shop that reacts, or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Protocol

from stream.simulating import Shop

__all__ = ["Feed", "FileFeed", "ShopFeed"]

EVENTS_PER_SHOPPER = 50  # five visits or so: enough to be known, to be recommended to and to come back
EVENTS_PER_STEP = 8.0  # the shop's time moves on by so many; its reactions wait no longer than that
REACTIONS = 1.35  # events with, for each one without, the worker's lists, offers and messages; measured
N_ITEMS = 300


class Feed(Protocol):
    """Events in order, handed out in chapters, so that whoever sends them can pause."""

    sent: int
    best_offer: str | None

    @property
    def done(self) -> float:
        """Share of the feed that was handed out, 0 to 1; at 1 it has ended."""

    @property
    def clock(self) -> str:
        """Time of day where the events come from."""

    def chapter(self, go_on: Callable[[], bool]) -> Iterator[bytes]:
        """Hand out events until the feed ends or ``go_on`` says no."""

    def react(self, output: Mapping[str, Any]) -> None:
        """Let an output that was published have its effect on the events to come."""


class ShopFeed:
    """A simulated shop whose shoppers see, and answer, what is published.

    The shop's time runs faster than ours and ends at ``end``, so no event is ahead of the broker's clock.

    Parameters
    ----------
    shop_s : float
        Shop time from the first event to the last.
    n_events : float
        About how many events there shall be.
    end : float
        Shop time of the end, s since the epoch: when the feed will have been sent.
    """

    def __init__(self, seed: int, *, shop_s: float, n_events: float, end: float) -> None:
        self.start, self._end = end - shop_s, end
        self.shop = Shop(
            seed,
            start=self.start,
            duration_s=shop_s,
            n_users=int(max(40.0, min(5000.0, n_events / EVENTS_PER_SHOPPER))),
            n_items=N_ITEMS,
            events_per_s=n_events / shop_s / REACTIONS,
            hostile_share=0.02,
            promotion_share=0.0,  # offers come from the worker
        )
        self.sent = 0
        self.best_offer: str | None = self.shop.best_offer(self.shop.user_ids[0])
        self._step_s = shop_s / n_events * EVENTS_PER_STEP

    @property
    def done(self) -> float:
        """Share of the shop's time that has passed."""
        return (self.shop.now - self.start) / (self._end - self.start)

    @property
    def clock(self) -> str:
        """Weekday and time in the shop, UTC."""
        return f"{datetime.fromtimestamp(self.shop.now, UTC):%a %H:%M}"

    def chapter(self, go_on: Callable[[], bool]) -> Iterator[bytes]:
        """Let the shop's time pass and hand out what happens."""
        while self.shop.now < self._end and go_on():
            for record in self.shop.next_events(min(self._end, self.shop.now + self._step_s)):
                self.sent += 1
                yield record

    def react(self, output: Mapping[str, Any]) -> None:
        """Show the output to the shopper whom it addresses."""
        self.shop.react(output)


class FileFeed:
    """The first lines of a file, as they are; nobody reacts to anything."""

    best_offer: str | None = None

    def __init__(self, lines: Iterator[bytes], n_events: int) -> None:
        self._lines = islice(lines, n_events)
        self._n_events = n_events
        self._ended = False
        self.sent = 0

    @property
    def done(self) -> float:
        """Share of the lines that were handed out; 1 when the file has no more."""
        return 1.0 if self._ended else min(1.0, self.sent / self._n_events)

    @property
    def clock(self) -> str:
        """Nothing: the times of a file may be anything."""
        return ""

    def chapter(self, go_on: Callable[[], bool]) -> Iterator[bytes]:
        """Hand out lines."""
        while go_on():
            line = next(self._lines, None)
            if line is None:
                self._ended = True
                return
            self.sent += 1
            yield line

    def react(self, output: Mapping[str, Any]) -> None:
        """Do nothing: what is recorded cannot be changed."""
        del output
