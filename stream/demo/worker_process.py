"""The demo's worker: the same process that ``nudge worker`` starts, and what it says of itself."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Final

import aiohttp

from stream.console import WorkerCounts
from stream.demo.options import environment_of
from stream.settings import Settings

__all__ = ["WorkerProcess", "free_port"]

COMMAND: Final = (sys.executable, "-m", "stream", "worker")
ANSWER_S: Final = 5.0
STOP_S: Final = 15.0  # a worker stops within 5 s; after this it is killed
_LOG_LINES: Final = 15


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class WorkerProcess:
    """A worker in a process of its own, stopped by SIGTERM.

    Parameters
    ----------
    log : Path
        File for what it logs; its folder is the worker's for temporary files, too.
    """

    def __init__(self, settings: Settings, log: Path, http: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._log = log
        self._http = http
        self._url = f"http://127.0.0.1:{settings.metrics_port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process; it becomes ready by itself."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND,
                # Its temporary files go the way of its log.
                env=environment_of(self._settings) | {"TMPDIR": str(self._log.parent)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the demo, which then stops the worker in good order
            )

    async def ended(self) -> int:
        """Wait until the process has ended; return its exit code."""
        assert self._process is not None  # noqa: S101  start() came first
        return await self._process.wait()

    async def stop(self) -> int | None:
        """End the process in good order, by force after 15 s; return its exit code."""
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()

    async def ready(self) -> bool:
        """Whether the worker has recovered and takes part."""
        return await self._get("/readyz") is not None

    async def counts(self) -> WorkerCounts | None:
        """What the worker has committed; nothing while it does not answer."""
        text = await self._get("/metrics")
        return None if text is None else WorkerCounts.parse(text)

    def log_tail(self) -> str:
        """Return the last lines that the worker logged."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])

    async def _get(self, path: str) -> str | None:
        try:
            async with self._http.get(self._url + path, timeout=aiohttp.ClientTimeout(ANSWER_S)) as response:
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None
