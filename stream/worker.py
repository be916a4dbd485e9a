"""The worker's composition root: settings in, exit code out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

import structlog

from stream.assembly import build_engine, build_models
from stream.core.records import Record
from stream.runtime.app import build_app
from stream.runtime.errors import WorkerError
from stream.runtime.health import HealthServer
from stream.runtime.logs import configure_logs
from stream.runtime.metrics import Metrics
from stream.runtime.plane import DataPlane

if TYPE_CHECKING:
    from stream.core.reference import Reference
    from stream.settings import Settings

__all__ = ["run_worker"]

INTERNAL: Final = 70
STOP_S: Final = 5.0

_WARM_UP: Final = tuple(
    b'{"type":"track","messageId":"%d","userId":"w","timestamp":"1970-01-01T00:00:0%dZ","event":"%s",'
    b'"properties":{"product_id":"%s","slot":"w"}}' % (n, n, event, item)
    for n, (event, item) in enumerate(
        [
            (b"Product Viewed", b"a"),
            (b"Product Viewed", b"b"),
            (b"Product Added", b"b"),
            (b"Product Clicked", b"a"),
            (b"Recommendations Requested", b"a"),
        ]
    )
)

logger = structlog.get_logger(__name__)


def run_worker(settings: Settings, reference: Reference | None = None) -> int:
    """Run one worker until SIGTERM, SIGINT or an error it cannot go on from; return the exit code.

    Parameters
    ----------
    reference : Reference, optional
        Items, offers and campaigns to begin with; the reference topics are applied on top.

    Returns
    -------
    int
        0 after a clean stop, 69 broker unreachable, 78 topics or model log do not fit, 65 records are missing
        from the log, 70 anything else.
    """
    configure_logs()
    _compile_kernels(settings)
    with asyncio.Runner() as runner:
        return runner.run(_run(settings, reference))


async def _run(settings: Settings, reference: Reference | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = Metrics(_version())
    plane = DataPlane(settings, metrics, reference)
    health = HealthServer(plane, metrics, settings.metrics_port)
    app = build_app(settings, [health, plane])
    try:
        await app.start()
        stopped = loop.create_task(stop.wait())
        await asyncio.wait({stopped, plane.finished}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        logger.info("worker_stops", cause="signal" if stop.is_set() else "error")
        return _exit_code(plane)
    except OSError as error:
        logger.error("worker_failed", error=f"port {settings.metrics_port} (NUDGE_METRICS_PORT): {error}")
        return WorkerError.exit_code
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await app.stop()


def _compile_kernels(settings: Settings) -> None:
    """Run a few events through a small engine before the group is joined: nobody waits for the compiler then."""
    small = settings.model_copy(update={"max_items": 256, "click_slots": 1024})
    models = build_models(small)
    engine = build_engine(small, models)
    models.fold.begin()
    engine.process([Record(line, ingest_time=2.0) for line in _WARM_UP])
    models.fold.rollback()


def _exit_code(plane: DataPlane) -> int:
    if not plane.finished.done():
        return 0
    error = plane.finished.exception()
    if isinstance(error, WorkerError):
        logger.error("worker_failed", error=str(error))
        return error.exit_code
    logger.error("worker_failed", error=repr(error), exc_info=error)
    return INTERNAL


def _version() -> str:
    try:
        return version("nudge")
    except PackageNotFoundError:
        return "unknown"
