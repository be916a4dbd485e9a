"""The worker's composition root: settings in, exit code out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from stream.misspelt import misspelt
from stream.runtime.app import build_app
from stream.runtime.compiling import compile_kernels
from stream.runtime.errors import WorkerError
from stream.runtime.health import HealthServer
from stream.runtime.hearing import hear
from stream.runtime.logs import configure_logs, get_logger
from stream.runtime.metrics import Metrics
from stream.runtime.plane import DataPlane

if TYPE_CHECKING:
    from stream.core.reference import Reference
    from stream.runtime.transport import Transport
    from stream.settings import Settings

__all__ = ["run_worker", "settle_garbage_collector"]

INTERNAL: Final = 70
BAD_CONFIGURATION: Final = 78
STOP_S: Final = 2.0  # for what is not the data plane
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# Events make many objects and next to no cycles; by default the collector runs every 700 of them.
GC_THRESHOLDS: Final = (50_000, 20, 100)

logger = get_logger(__name__)


def run_worker(
    settings: Settings, reference: Reference | None = None, transport: Transport | None = None
) -> int:
    """Run one worker until SIGTERM, SIGINT or an error it cannot go on from; return the exit code.

    Parameters
    ----------
    reference : Reference, optional
        Items, offers and campaigns to begin with; the reference topics are applied on top.

    transport : Transport, optional
        Clients to use instead of aiokafka's.

    Returns
    -------
    int
        0 after a clean stop, 69 broker unreachable, 78 topics or model log do not fit, 65 records are missing
        from the log, 70 anything else.
    """
    configure_logs()
    for number in STOP_SIGNALS:
        signal.signal(number, _stop_early)
    for variable, near in misspelt(os.environ).items():
        logger.warning("setting_unknown", variable=variable, did_you_mean=near or None)
    logger.info("kernels_compile")  # some twenty seconds on a new machine, a second with a warm cache
    compile_kernels()
    settle_garbage_collector()
    with asyncio.Runner() as runner:
        return runner.run(_run(settings, reference, transport))


def settle_garbage_collector() -> None:
    """Keep the collector from what stays for good, and from looking too often.

    Modules and kernels stay: a full collection that looks at them too holds the loop for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _stop_early(_number: int, _frame: object) -> None:
    """Nothing has begun yet: to stop is to end. An exception might be lost in a compiler's callback."""
    logger.info("worker_stops", cause="signal")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def _run(settings: Settings, reference: Reference | None, transport: Transport | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(hear)
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    metrics = Metrics(_version())
    plane = DataPlane(settings, metrics, reference, transport)
    health = HealthServer(plane, metrics, settings.metrics_host, settings.metrics_port)
    app = build_app(settings, [health, plane])
    try:
        await app.start()
        plane.finished.add_done_callback(lambda _: stop.set())
        await stop.wait()
        logger.info("worker_stops", cause="error" if plane.finished.done() else "signal")
        return _exit_code(plane)
    except OSError as error:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        text = f"{where} (NUDGE_METRICS_HOST, NUDGE_METRICS_PORT) cannot be listened on: {error}"
        logger.error("worker_failed", error=text)  # noqa: TRY400  the text says it all
        return BAD_CONFIGURATION
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(plane.stop_limit_s + STOP_S):
                await app.stop()


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
