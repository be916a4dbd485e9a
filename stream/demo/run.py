"""The demo's composition root: broker, topics, reference data, worker, feed, screen; then all of it away."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from pydantic import ValidationError
from pydantic_settings import SettingsError

from stream import simulating
from stream.campaign_files import campaign_records
from stream.console import FeedView, Frame, report
from stream.demo.feeds import N_ITEMS, Feed, FileFeed, ShopFeed
from stream.demo.following import Follower, OfferLedger
from stream.demo.options import CAMPAIGNS, SHOP_S, DemoOptions, settings_of
from stream.demo.screen import DRAW_S, Screen
from stream.demo.worker_process import WorkerProcess, free_port
from stream.reading import open_lines, read_items, read_offers
from stream.runtime.broker import BrokerUnavailable, EmbeddedBroker
from stream.runtime.errors import WorkerError
from stream.runtime.producing import produce
from stream.runtime.topics import TopicNames, apply, open_admin
from stream.settings import Settings
from stream.terminal import ExitCode, fail, print_json, talk

__all__ = ["run_demo"]

SCRAPE_S: Final = 0.5
POLL_S: Final = 0.1
READY_S: Final = 180.0  # compiling all kernels takes less than 30 s on two cores
DRAIN_S: Final = 60.0
MAX_LAG_S: Final = 3.0  # of the feed's rate; then the feed waits: the loop of answers must not go stale
RESUME_LAG_S: Final = 1.0
DAY_S: Final = 86_400.0


class DemoFailedError(Exception):
    """The demo cannot go on; carries the exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def run_demo(options: DemoOptions) -> int:
    """Run the demo to its end and print its summary; return the exit code.

    Whatever way it ends, the worker and the broker are stopped and temporary files are removed.

    Returns
    -------
    int
        0 when everything that was sent has been processed, 130 after Ctrl-C, 143 after SIGTERM.

    Raises
    ------
    SystemExit
        69 no broker, 78 unsuitable settings, the worker's own code (else 70) when it failed, 1 when it did
        not come to the end of the events in time; the reason is on stderr.
    BadFileError
        A file that was given cannot be used.
    """
    campaigns = campaign_records(options.campaigns or CAMPAIGNS)
    try:
        with ExitStack() as stack:
            bootstrap = options.bootstrap or stack.enter_context(EmbeddedBroker()).bootstrap
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nudge-demo-")))
            with asyncio.Runner() as runner:
                summary = runner.run(_Demo(options, bootstrap, folder, campaigns).run())
    except BrokerUnavailable as error:
        fail(ExitCode.BROKER_UNAVAILABLE, str(error))
    except (ValidationError, SettingsError) as error:
        fail(ExitCode.BAD_CONFIGURATION, f"the environment's settings do not suit the demo: {error}")
    except WorkerError as error:
        fail(ExitCode(error.exit_code), str(error))
    except DemoFailedError as error:
        fail(ExitCode(error.code), str(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    if options.as_json:
        print_json(summary)
        return ExitCode.OK
    talk.print(report(summary))
    if options.keep and options.bootstrap:
        talk.print(f"topics {summary['topic_prefix']}* are left on {options.bootstrap}")
    return ExitCode.OK


class _Demo:
    """One run: what its parts share."""

    def __init__(self, options: DemoOptions, bootstrap: str, folder: Path, campaigns: list[bytes]) -> None:
        self._options = options
        self._settings: Settings = settings_of(options, bootstrap, free_port())
        self._names = TopicNames(self._settings.kafka.topic_prefix)
        self._campaigns = campaigns
        self._log = folder / "worker.log"
        self._feed = self._open_feed()
        self._view = FeedView(self._item_names())
        self._frame = Frame(self._title(), "starting", best_offer=self._feed.best_offer)
        self._phase_started = time.monotonic()
        self._feed_started: float | None = None
        self._startup_s = self._feed_s = 0.0

    async def run(self) -> dict[str, Any]:
        """Run from topics to summary."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a coroutine runs in a task
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        started = time.monotonic()
        async with AsyncExitStack() as stack:
            screen = stack.enter_context(Screen(talk))
            await stack.enter_async_context(self._topics())
            await self._write_reference()
            http = await stack.enter_async_context(aiohttp.ClientSession())
            worker = WorkerProcess(self._settings, self._log, http)
            stack.push_async_callback(worker.stop)
            await worker.start()
            ledger = await asyncio.to_thread(OfferLedger, self._settings)
            follower = Follower(self._settings, self._view, ledger, self._feed.react)
            await _beside(
                self._story(worker, follower, started),
                follower.run(),
                self._scrape(worker),
                self._show(screen),
                self._watch(worker),
            )
            self._phase("stopping")
            screen.show(self._view, self._now())
            code = await worker.stop()
        if code != 0:
            raise DemoFailedError(
                code or ExitCode.INTERNAL, f"the worker ended with code {code}\n{worker.log_tail()}"
            )
        return self._summary(code)

    # --- the story -------------------------------------------------------------------------------------

    async def _story(self, worker: WorkerProcess, follower: Follower, started: float) -> None:
        """Wait for the worker, send the events, wait until the last of them has had its effects."""
        self._phase("starting the worker (compiles once)")
        await self._until(worker.ready, READY_S, "the worker was not ready")
        self._startup_s = time.monotonic() - started
        self._feed_started = time.monotonic()
        self._phase("streaming")
        await self._stream_events()
        self._feed_s = time.monotonic() - self._feed_started
        self._phase("draining")

        async def drained() -> bool:
            return self._waiting() <= 0 and await follower.caught_up()

        await self._until(drained, DRAIN_S, "the worker did not come to the end of the events")

    async def _stream_events(self) -> None:
        """Send chapter after chapter; where the worker falls behind, the shop's time stands still."""
        rate = self._options.rate
        latest = time.monotonic() + 2 * self._options.seconds + DRAIN_S

        def in_time() -> bool:
            return time.monotonic() < latest

        while self._feed.done < 1.0 and in_time():
            lines = self._feed.chapter(lambda: self._waiting() < MAX_LAG_S * rate and in_time())
            await produce(self._settings.kafka, self._names.events, lines, rate=rate)
            await self._until(self._caught_up, DRAIN_S, "the worker fell behind and did not catch up")

    async def _caught_up(self) -> bool:
        return self._waiting() <= RESUME_LAG_S * self._options.rate

    def _waiting(self) -> int:
        """Records that were sent and are not processed yet, as far as the last scrape knows."""
        return self._feed.sent - self._view.worker.consumed

    async def _until(self, condition: Callable[[], Awaitable[bool]], limit_s: float, what: str) -> None:
        deadline = time.monotonic() + limit_s
        while not await condition():
            if time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-2000:]
                message = f"{what} after {limit_s:.0f} s, {self._waiting()} records wait\n{tail}"
                raise DemoFailedError(ExitCode.FAILED_CHECK, message)
            await asyncio.sleep(POLL_S)

    # --- beside it -------------------------------------------------------------------------------------

    async def _scrape(self, worker: WorkerProcess) -> None:
        while True:
            counts = await worker.counts()
            if counts is not None:
                self._view.sample(counts, time.monotonic())
            await asyncio.sleep(SCRAPE_S)

    async def _show(self, screen: Screen) -> None:
        while True:
            screen.show(self._view, self._now())
            await asyncio.sleep(DRAW_S)

    async def _watch(self, worker: WorkerProcess) -> None:
        code = await worker.ended()
        message = f"the worker ended by itself with code {code}\n{worker.log_tail()}"
        raise DemoFailedError(code if code > 0 else ExitCode.INTERNAL, message)

    def _phase(self, phase: str) -> None:
        self._frame = replace(self._frame, phase=phase)
        self._phase_started = time.monotonic()

    def _now(self) -> Frame:
        if self._feed_started is None:
            return replace(self._frame, elapsed_s=time.monotonic() - self._phase_started)
        elapsed = self._feed_s or time.monotonic() - self._feed_started
        return replace(self._frame, done=self._feed.done, elapsed_s=elapsed, clock=self._feed.clock)

    # --- what it runs on -------------------------------------------------------------------------------

    @asynccontextmanager
    async def _topics(self) -> AsyncIterator[None]:
        """Create the demo's topics; on somebody's Kafka, delete these again."""
        kafka = self._settings.kafka
        async with open_admin(kafka) as admin:
            made = [change.topic for change in await apply(admin, kafka) if change.action == "create"]
        try:
            yield
        finally:
            if self._options.bootstrap and not self._options.keep:
                async with open_admin(kafka) as admin:
                    await admin.delete_topics(made)

    async def _write_reference(self) -> None:
        kafka, names = self._settings.kafka, self._names
        await produce(kafka, names.catalogue, self._items(), key="item_id")
        await produce(kafka, names.offers, self._offers(), key="offer_id")
        await produce(kafka, names.campaigns, self._campaigns, key="campaign_id")

    def _items(self) -> Iterable[bytes]:
        if self._options.catalogue is not None:
            return map(msgspec.json.encode, read_items(self._options.catalogue).values())
        if self._options.events is not None:
            return ()
        return simulating.catalogue(self._options.seed, n_items=N_ITEMS, start=self._before())

    def _offers(self) -> Iterable[bytes]:
        if self._options.offers is not None:
            return map(msgspec.json.encode, read_offers(self._options.offers).values())
        if self._options.events is not None:
            return ()
        return simulating.offers(self._options.seed, start=self._before())

    def _item_names(self) -> dict[str, str]:
        rows: list[dict[str, Any]] = [msgspec.json.decode(line) for line in self._items()]
        return {str(row["item_id"]): str(row["name"]) for row in rows if row.get("name")}

    def _open_feed(self) -> Feed:
        options = self._options
        n_events = options.seconds * options.rate
        if options.events is not None:
            return FileFeed(open_lines(options.events), int(n_events))
        return ShopFeed(options.seed, shop_s=SHOP_S, n_events=n_events, end=time.time() + options.seconds)

    def _before(self) -> float:
        """Return a time before the first event of the shop."""
        return time.time() - SHOP_S - DAY_S

    def _title(self) -> str:
        if self._options.events is not None:
            return self._options.events.name
        return f"shop, seed {self._options.seed}, {SHOP_S / self._options.seconds:.0f}x real time"

    def _summary(self, worker_code: int) -> dict[str, Any]:
        options = self._options
        return {
            "source": "shop" if options.events is None else options.events.name,
            "seed": options.seed,
            "topic_prefix": self._settings.kafka.topic_prefix,
            "startup_s": round(self._startup_s, 2),
            "seconds": round(self._feed_s, 2),
            "sent": self._feed.sent,
            "throughput_events_per_s": round(self._feed.sent / self._feed_s, 1) if self._feed_s else 0.0,
            "worker_exit_code": worker_code,
            "best_offer": self._feed.best_offer,
        } | self._view.summary()


async def _beside(story: Coroutine[Any, Any, None], *companions: Coroutine[Any, Any, None]) -> None:
    """Run a story to its end, and companions as long; the error of one that ends first is everybody's."""
    main = asyncio.ensure_future(story)
    others = [asyncio.ensure_future(companion) for companion in companions]
    try:
        done, _ = await asyncio.wait({main, *others}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (main, *others):
            task.cancel()
        await asyncio.gather(main, *others, return_exceptions=True)
