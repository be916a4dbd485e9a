"""A TCP proxy between workers and a broker that delays, slows, cuts, resets and swallows what passes.

It runs an event loop in a thread of its own, so a test may change the line while workers use it.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Final, Self

CHUNK: Final = 64 << 10
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with time 0: closing sends RST


class Proxy:
    """Forwards connections from ``port`` to ``target``, both on the loopback interface.

    Attributes
    ----------
    passed_bytes : int
        Bytes forwarded, both ways.
    connections : int
        Connections accepted so far.
    """

    def __init__(self, port: int, target: int, seed: int) -> None:
        self.passed_bytes = 0
        self.connections = 0
        self._port, self._target = port, target
        self._random = random.Random(seed)
        self._delay_s = (0.0, 0.0)
        self._bytes_per_s = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._open: asyncio.Event
        self._server: asyncio.Server

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_error: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def heal(self) -> None:
        """Forward at once again; connections that were held go on with what they had."""
        self._run(self._set(is_open=True))

    def delay(self, mean_s: float, spread_s: float) -> None:
        """Deliver each chunk ``mean_s`` ± ``spread_s`` later, order kept."""
        self._run(self._set(is_open=True, delay_s=(mean_s, spread_s)))

    def slow(self, bytes_per_s: float) -> None:
        """Forward at most so much a second in each direction of each connection."""
        self._run(self._set(is_open=True, bytes_per_s=bytes_per_s))

    def cut(self) -> None:
        """Swallow nothing and deliver nothing: connections stay open, new ones are taken, nobody answers."""
        self._run(self._set(is_open=False))

    def reset(self) -> None:
        """Break all connections by RST; new ones are served."""
        self._run(self._end_all(abruptly=True))

    def half_open(self) -> None:
        """End the brokers' side of all connections and tell the workers nothing; new ones are served."""
        self._run(self._orphan())

    async def _start(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def _stop(self) -> None:
        self._server.close()
        await self._end_all(abruptly=False)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _set(
        self, *, is_open: bool, delay_s: tuple[float, float] = (0.0, 0.0), bytes_per_s: float = 0.0
    ) -> None:
        self._delay_s, self._bytes_per_s = delay_s, bytes_per_s
        if is_open:
            self._open.set()
        else:
            self._open.clear()

    async def _end_all(self, *, abruptly: bool) -> None:
        for writer in list(self._writers):
            if abruptly:
                with suppress(OSError):  # it has ended meanwhile
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def _orphan(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await self._open.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Forward one direction; a cancelled pump leaves its side open, as a lost peer does."""
        with suppress(OSError):
            while chunk := await source.read(CHUNK):
                mean_s, spread_s = self._delay_s
                if mean_s:
                    await asyncio.sleep(self._random.uniform(mean_s - spread_s, mean_s + spread_s))
                if self._bytes_per_s:
                    await asyncio.sleep(len(chunk) / self._bytes_per_s)
                await self._open.wait()
                sink.write(chunk)
                await sink.drain()
                self.passed_bytes += len(chunk)
        self._writers.discard(sink)
        sink.close()

    def _run(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)
