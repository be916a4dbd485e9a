"""Events that keep coming at a steady rate while a test does its worst."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator

from stream.runtime.producing import produce
from tests.runtime.topic_setup import Setup


class Feed:
    """Writes lines to a test's events topic from a thread of its own, until it is stopped.

    Parameters
    ----------
    lines : iterable of bytes
        Sent at the rate given, until they end or the feed is stopped.
    last : iterable of bytes
        Sent at the end, as fast as it goes.
    rate : float
        Lines a second.
    """

    def __init__(self, setup: Setup, lines: Iterable[bytes], last: Iterable[bytes], rate: float) -> None:
        self._setup = setup
        self._lines, self._last, self._rate = lines, last, rate
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what comes last, and raise what went wrong; does nothing where nothing was started."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        bootstrap, topic = self._setup.kafka.bootstrap, self._setup.names.events
        try:
            asyncio.run(produce(bootstrap, topic, self._until_stopped(), rate=self._rate))
            asyncio.run(produce(bootstrap, topic, self._last))
        except BaseException as error:  # noqa: BLE001  the test's thread raises it
            self._error = error

    def _until_stopped(self) -> Iterator[bytes]:
        for line in self._lines:
            if self._stop.is_set():
                return
            yield line
