"""The wire between aiokafka's clients and the simulated broker, with everything that may happen on it.

aiokafka runs as it is: its fetcher, sender, coordinator and metadata code, with their traps. Only its
connections are ours, and its clocks: :func:`installed` puts both in their places.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import aiokafka.client
import aiokafka.cluster
import aiokafka.conn
import aiokafka.consumer.fetcher
import aiokafka.consumer.group_coordinator
import aiokafka.consumer.subscription_state
import aiokafka.partitioner
import aiokafka.producer.message_accumulator
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.util import wait_for

from tests.simulation.broker import EPOCH_S, VERSIONS, Broker, resolve
from tests.simulation.loop import WORLD, Machine, SimulatedLoop, current_machine

_CLOCKS: Final = (
    aiokafka.client,
    aiokafka.cluster,
    aiokafka.conn,
    aiokafka.consumer.fetcher,
    aiokafka.consumer.group_coordinator,
    aiokafka.consumer.subscription_state,
    aiokafka.producer.message_accumulator,
)
_DICE: Final = (aiokafka.client, aiokafka.conn, aiokafka.consumer.fetcher, aiokafka.partitioner)


@dataclass(slots=True)
class Loss:
    """The next requests of a kind, of a machine or of anybody, break their connection.

    Attributes
    ----------
    applied : bool
        Whether the broker hears the request; the client never hears the answer.
    """

    api_key: int
    applied: bool
    machine: Machine | None = None
    count: int = 1


@dataclass(slots=True)
class Trap:
    """Does something to the next machine that sends a request of a kind.

    Attributes
    ----------
    spring : callable
        What is done, while the request leaves; a machine that is dead after it has not sent it.
    """

    api_key: int
    spring: Callable[[Machine], None]


@dataclass(slots=True)
class Network:
    """Carries requests and answers.

    Attributes
    ----------
    latency_s : float
        What every message takes at least, one way, and as much again on average.
    delay_s : float
        What every message takes on top of the usual.
    paused : bool
        The broker does nothing; messages wait.
    down : bool
        There is no network: the run is over.
    cut : set
        Machines whose messages wait, in both directions.
    losses : list
        What will break.
    traps : list
        What waits for a request.
    """

    broker: Broker
    loop: SimulatedLoop
    random: random.Random
    latency_s: float = 0.001
    delay_s: float = 0.0
    paused: bool = False
    down: bool = False
    cut: set[Machine] = field(default_factory=set)
    losses: list[Loss] = field(default_factory=list)
    traps: list[Trap] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    _held: list[tuple[Machine | None, Callable[[], None]]] = field(default_factory=list)

    def latency(self) -> float:
        """Draw how long a message is on its way, s."""
        return self.latency_s + self.random.expovariate(1 / self.latency_s) + self.delay_s

    def holds(self, machine: Machine | None) -> bool:
        """Whether messages from and to a machine wait now."""
        return self.paused or machine in self.cut

    def deliver(self, machine: Machine | None, step: Callable[[], None]) -> None:
        """Let a message from or to a machine arrive, now or when the way is free again."""
        if self.holds(machine):
            self._held.append((machine, step))
            return
        step()

    def release(self) -> None:
        """Deliver what waited for a way that is free now, in order."""
        held, self._held = self._held, []
        for machine, step in held:
            self.deliver(machine, step)

    def lost(self, api_key: int, machine: Machine | None) -> Loss | None:
        """Find the loss that hits a request, and use it up."""
        for loss in self.losses:
            if loss.api_key == api_key and loss.machine in (None, machine):
                loss.count -= 1
                if not loss.count:
                    self.losses.remove(loss)
                return loss
        return None

    def spring(self, api_key: int, machine: Machine | None) -> None:
        """Let the first trap for a request close."""
        for trap in self.traps:
            if trap.api_key == api_key and machine is not None:
                self.traps.remove(trap)
                trap.spring(machine)
                return

    def reset(self, machine: Machine | None = None) -> None:
        """Break the connections of a machine, or all: what is on its way is lost."""
        for connection in list(self.connections):
            if machine is None or connection.machine is machine:
                connection.break_off()

    async def connect(
        self,
        host: str,
        port: int,
        *,
        client_id: str = "",
        request_timeout_ms: int = 40_000,
        on_close: Callable[[Any, Any], None] | None = None,
        **_security: object,
    ) -> Connection:
        """Open a connection, as ``aiokafka.conn.create_conn`` does."""
        if self.down:
            raise ConnectionRefusedError
        connection = Connection(self, host, port, client_id, request_timeout_ms / 1000, on_close)
        there = self.loop.create_future()
        self.loop.call_later(
            2 * self.latency(),
            self.deliver,
            connection.machine,
            partial(resolve, there, None),
            context=WORLD,
        )
        await wait_for(there, connection.timeout_s)
        self.connections.append(connection)
        return connection


class Connection:
    """One connection: requests are answered one after the other, in order."""

    def __init__(
        self,
        network: Network,
        host: str,
        port: int,
        client_id: str,
        timeout_s: float,
        on_close: Callable[[Any, Any], None] | None,
    ) -> None:
        self.host, self.port, self.client_id = host, port, client_id
        self.timeout_s = timeout_s
        self.machine = current_machine()
        self._network = network
        self._on_close = on_close
        self._open = True
        self._broken = False  # what is on its way will not arrive
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._inbox: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._busy = False
        self._arrives = 0.0  # when the last request sent arrives: they do not overtake one another
        self._returns = 0.0

    def connected(self) -> bool:
        """Whether it can be used."""
        return self._open

    def send(self, request: Any, expect_response: bool = True) -> Any:
        """Send a request; what comes back is awaited for the response."""
        if not self._open or self._network.down:
            raise KafkaConnectionError(f"No connection to broker at {self.host}:{self.port}")
        struct = request.prepare(VERSIONS)
        if struct.API_KEY == ProduceRequest.API_KEY:  # its buffers are used again
            topics = [(t, [(n, bytes(data)) for n, data in partitions]) for t, partitions in struct.topics]
            struct = type(struct)(struct.transactional_id, struct.required_acks, struct.timeout, topics)
        loop, network = self._network.loop, self._network
        answer = loop.create_future()
        network.spring(struct.API_KEY, self.machine)
        if self.machine is not None and self.machine.dead:
            return answer  # it died before the request was on its way
        self._waiting.append(answer)
        loss = network.lost(struct.API_KEY, self.machine)
        if loss is not None:
            applied = loss.applied
            loop.call_later(network.latency(), self._lose, struct, applied, context=WORLD)
        else:
            self._arrives = max(self._arrives, loop.time() + network.latency())
            loop.call_at(self._arrives, self._arrive, struct, answer, context=WORLD)
        return wait_for(answer, self.timeout_s)

    def close(self, reason: CloseReason | None = None, exc: BaseException | None = None) -> Any:
        """Close from the client's side; what was sent before still arrives."""
        if self._open:
            self._open = False
            if self in self._network.connections:
                self._network.connections.remove(self)
            waiting, self._waiting = self._waiting, deque()
            for answer in waiting:
                if not answer.done():
                    error = KafkaConnectionError(f"Connection at {self.host}:{self.port} closed")
                    error.__cause__ = exc
                    answer.set_exception(error)
            if self._on_close is not None:
                self._on_close(self, reason)
                self._on_close = None
        closed = self._network.loop.create_future()
        closed.set_result(None)
        return closed

    def break_off(self) -> None:
        """Break: what is on its way is lost, and the client hears that the connection is gone."""
        self._broken = True
        if self.machine is not None and self.machine.dead:
            return
        context = WORLD if self.machine is None else self.machine.context
        self._network.loop.call_soon(self.close, CloseReason.CONNECTION_BROKEN, context=context)

    def _lose(self, struct: Any, applied: bool) -> None:
        if applied:
            self._network.deliver(self.machine, lambda: self._apply_unheard(struct))
        self._network.deliver(self.machine, self.break_off)

    def _apply_unheard(self, struct: Any) -> None:
        self._network.broker.handle(struct)

    def _arrive(self, struct: Any, answer: asyncio.Future[Any]) -> None:
        self._network.deliver(self.machine, lambda: self._take(struct, answer))

    def _take(self, struct: Any, answer: asyncio.Future[Any]) -> None:
        if self._broken:
            return
        self._inbox.append((struct, answer))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        if not self._inbox:
            self._busy = False
            return
        self._busy = True
        struct, answer = self._inbox.popleft()
        fields = self._network.broker.handle(struct)
        if isinstance(fields, asyncio.Future):
            fields.add_done_callback(lambda done: self._reply(struct, answer, done.result()))
        else:
            self._reply(struct, answer, fields)

    def _reply(self, struct: Any, answer: asyncio.Future[Any], fields: tuple[Any, ...]) -> None:
        loop, response = self._network.loop, struct.RESPONSE_TYPE(*fields)
        self._returns = max(self._returns, loop.time() + self._network.latency())
        loop.call_at(self._returns, self._return, answer, response, context=WORLD)
        self._next()

    def _return(self, answer: asyncio.Future[Any], response: Any) -> None:
        self._network.deliver(self.machine, lambda: self._hand_over(answer, response))

    def _hand_over(self, answer: asyncio.Future[Any], response: Any) -> None:
        if self._broken or (self.machine is not None and self.machine.dead):
            return
        if answer in self._waiting:
            self._waiting.remove(answer)
        if not answer.done():
            answer.set_result(response)


@contextmanager
def installed(seed: int) -> Iterator[None]:
    """Give aiokafka the simulated connections, clocks and dice of whatever loop runs."""
    clock = SimpleNamespace(
        monotonic=lambda: asyncio.get_running_loop().time(),
        time=lambda: EPOCH_S + asyncio.get_running_loop().time(),
    )
    dice = random.Random(f"aiokafka {seed}")

    async def create_conn(host: str, port: int, **options: Any) -> Connection:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        connection: Connection = await loop.service.connect(host, port, **options)
        return connection

    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with mock.patch.object(aiokafka.client, "create_conn", create_conn):
            patches: list[Any] = [mock.patch.object(module, "time", clock) for module in _CLOCKS]
            patches += [mock.patch.object(module, "random", dice) for module in _DICE]
            for patch in patches:
                patch.start()
            try:
                yield
            finally:
                for patch in patches:
                    patch.stop()
    finally:
        logger.setLevel(level)
