"""``/livez``, ``/readyz`` and ``/metrics`` on an address of their own; they show nothing of a single user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import mode
import structlog
from aiohttp import web

from stream.runtime.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from stream.runtime.metrics import Metrics

__all__ = ["HealthServer", "Probed"]

logger = structlog.get_logger(__name__)


class Probed(Protocol):
    """What the probes ask."""

    def unready(self) -> str | None:
        """Say why no traffic should count on this worker; ``None`` when it has recovered and advances."""

    def refresh_gauges(self) -> None:
        """Bring the gauges up to date; called before each exposition."""


class HealthServer(mode.Service):
    """Serves probes and metrics.

    Attributes
    ----------
    port : int
        The port it listens on, once started; port 0 asks for any.
    """

    def __init__(self, probed: Probed, metrics: Metrics, host: str, port: int) -> None:
        super().__init__()
        self.port = port
        self._host = host
        self._probed = probed
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def on_start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._exposition)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        logger.info("probes_listen", host=self._host, port=self.port)

    async def on_stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})  # the event loop answers, which is the question

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self._probed.unready()
        if reason is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "unready", "reason": reason}, status=503)

    async def _exposition(self, _request: web.Request) -> web.Response:
        self._probed.refresh_gauges()
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})
