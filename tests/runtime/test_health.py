"""Readiness means recovered and advancing; liveness means that the loop turns."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from stream.runtime.health import HealthServer
from stream.runtime.metrics import Metrics


class Plane:
    """A data plane that says what the test wants."""

    def __init__(self) -> None:
        self.reason: str | None = "restoring partitions [1]"
        self.refreshed = 0

    def unready(self) -> str | None:
        """Why not, if not."""
        return self.reason

    def refresh_gauges(self) -> None:
        """Count the calls."""
        self.refreshed += 1


@pytest.fixture
def plane() -> Plane:
    """Not ready yet."""
    return Plane()


@pytest.fixture
async def server(plane: Plane) -> AsyncIterator[HealthServer]:
    """Listens on a free port."""
    found = HealthServer(plane, Metrics("0"), "127.0.0.1", 0)
    await found.start()
    yield found
    await found.stop()


async def _get(server: HealthServer, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.port}{path}") as response,
    ):
        return response.status, await response.text()


async def test_unready_says_why(server: HealthServer, plane: Plane) -> None:
    """503 with the reason until recovered, then 200; liveness does not depend on it."""
    status, body = await _get(server, "/readyz")
    assert (503, True) == (status, "restoring partitions [1]" in body)
    assert 200 == (await _get(server, "/livez"))[0]
    plane.reason = None
    assert 200 == (await _get(server, "/readyz"))[0]


async def test_metrics_are_fresh(server: HealthServer, plane: Plane) -> None:
    """Each exposition brings the gauges up to date first."""
    status, body = await _get(server, "/metrics")
    assert (200, 1) == (status, plane.refreshed)
    assert 'nudge_build_info{version="0"} 1.0' in body
