"""Kafka brokers of one machine for the demo and the tests, behind one interface.

Two sides, two jobs:

``embedded``
    noida-db, one binary from PyPI. Ready in well under a second, needs no Java. It never expires a dead group
    member and loses its last seconds on SIGKILL, so no claim about crashes may rest on it.
``kafka``
    Apache Kafka itself, one node in KRaft mode on Java. The jars come from Maven Central by
    ``deploy/kafka/pom.xml`` into a cache, and each start checks them against ``deploy/kafka/SHA256SUMS``.

Both listen on the loopback interface only, keep their data in a directory of their own, and die with the
process that started them. A worker never imports this module: it is given a bootstrap address.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Protocol, Self

from stream.runtime.kafka_jars import BrokerUnavailable, install_kafka

__all__ = [
    "Broker",
    "BrokerUnavailable",
    "EmbeddedBroker",
    "KafkaBroker",
    "free_ports",
    "open_broker",
]

EMBEDDED_READY_S = 15.0  # measured 0.1 s; the rest is for a loaded machine
KAFKA_READY_S = 90.0  # measured 2.3 s; the rest is for a loaded machine
STOP_S = 30.0  # after that the process is killed
# Below the kernel's range for outgoing connections (32768 and up): a client that reconnects to a stopped
# broker could otherwise be given the broker's own port as its source and talk to itself.
PORTS = range(20_000, 32_000)

# Runs before the broker's own exec, so the broker has the pid we know. PR_SET_PDEATHSIG (1) makes the kernel
# kill it when we are gone, also by SIGKILL; the parent check covers that we died before the call.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Broker(Protocol):
    """A Kafka broker on this machine that can be stopped, killed and started again with its data."""

    @property
    def bootstrap(self) -> str:
        """Address for clients, ``127.0.0.1:port``; the same for the broker's whole life."""

    @property
    def pid(self) -> int:
        """Process id of the broker itself, for signals of fault tests."""

    def start(self) -> str:
        """Start, wait until clients are answered, and return `bootstrap`; does nothing when running.

        Raises
        ------
        BrokerUnavailable
            Something needed is missing, or the broker was not ready in time.
        """

    def stop(self) -> None:
        """End cleanly and keep the data; does nothing when stopped."""

    def kill(self) -> None:
        """End at once by SIGKILL and keep what reached the disk."""

    def pause(self) -> None:
        """Freeze by SIGSTOP: connections stay open and nothing is answered."""

    def resume(self) -> None:
        """Undo `pause`."""

    def restart(self) -> str:
        """Stop cleanly and start again with the same data and address."""

    def close(self) -> None:
        """Stop and remove the data directory if it was made for this broker."""


class _LocalBroker(ABC):
    """What both brokers share: a process, a log, a data directory, a readiness wait."""

    name = ""
    n_ports = 1
    ready_s = 0.0

    def __init__(self, data_dir: Path | None, ports: Sequence[int] = ()) -> None:
        self._own_dir = data_dir is None
        self.data_dir = data_dir or Path(tempfile.mkdtemp(prefix=f"nudge-{self.name}-"))
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.log_path = self.data_dir / "broker.log"
        self._ports = ports
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        if not self._ports:
            raise BrokerUnavailable(f"{self.name} broker has no address yet; call start() first")
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BrokerUnavailable(f"{self.name} broker is not running; call start() first")
        return self._process.pid

    def start(self) -> str:
        if self._process is not None and self._process.poll() is None:
            return self.bootstrap
        self._process = None
        self._prepare()
        attempts = (
            1 if self._ports else 3
        )  # between choosing a free port and binding it, somebody may take it
        for attempt in range(1, attempts + 1):
            self._ports = self._ports if attempts == 1 else free_ports(self.n_ports)
            try:
                self._launch()
            except BrokerUnavailable as error:
                if attempt == attempts or "in use" not in str(error):
                    raise
            else:
                break
        return self.bootstrap

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # a paused process would never see the request
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait(STOP_S)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> str:
        self.stop()
        return self.start()

    def close(self) -> None:
        self.stop()
        if self._own_dir:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @abstractmethod
    def _prepare(self) -> None:
        """Find or fetch what the command needs."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Absolute command line of the broker on `_ports`, its files written."""

    def _launch(self) -> None:
        command = self._command()
        with self.log_path.open("ab") as log:
            # The death signal hangs on the *thread* that forked, so one long-lived thread does it.
            self._process = _launcher().submit(_spawn, command, self.data_dir, log.fileno()).result()
        deadline = time.monotonic() + self.ready_s
        while not _answers(self._ports[0]):
            if self._process.poll() is not None:
                code, self._process = self._process.returncode, None
                raise BrokerUnavailable(
                    f"{self.name} broker ended at start with code {code}:\n{self._log_tail()}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise BrokerUnavailable(
                    f"{self.name} broker on {self.bootstrap} not ready after {self.ready_s:.0f} s:\n"
                    f"{self._log_tail()}"
                )
            time.sleep(0.02)

    def _log_tail(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-20:]) or f"(nothing in {self.log_path.name})"


class EmbeddedBroker(_LocalBroker):
    """noida-db: the broker of the demo and of quick tests.

    Parameters
    ----------
    data_dir
        Where topics live; a temporary directory, removed by `close`, when not given.
    """

    name = "embedded"
    ready_s = EMBEDDED_READY_S

    def __init__(self, data_dir: Path | None = None) -> None:
        super().__init__(data_dir)
        self._binary = Path()

    def _prepare(self) -> None:
        self._binary = _embedded_binary()

    def _command(self) -> list[str]:
        # The binary itself: its Python wrapper, when killed, would leave the binary behind.
        data, port = str(self.data_dir / "data"), str(self._ports[0])
        return [str(self._binary), "start", "--only", "kafka", "--kafka-port", port, "--data-dir", data]


class KafkaBroker(_LocalBroker):
    """Apache Kafka, one KRaft node that is broker and controller, tuned to start fast and stay small.

    Parameters
    ----------
    data_dir
        Where configuration, log and topics live; a temporary directory, removed by `close`, when not given.
    overrides
        Lines of ``server.properties`` that replace ours.
    ports
        Of clients and of the controller, where others must know them before the start; else free ones.
    heap_mib
        Most memory of its Java heap, MiB.
    """

    name = "kafka"
    n_ports = 2  # clients, controller
    ready_s = KAFKA_READY_S

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        overrides: Mapping[str, str] | None = None,
        ports: Sequence[int] = (),
        heap_mib: int = 512,
    ) -> None:
        super().__init__(data_dir, ports)
        self._overrides = dict(overrides or {})
        self._heap_mib = heap_mib
        self._java = ""
        self._class_path = ""

    def _prepare(self) -> None:
        self._java = _java()
        self._class_path = os.pathsep.join(str(jar) for jar in install_kafka())

    def _command(self) -> list[str]:
        properties = self.data_dir / "server.properties"
        logging = self.data_dir / "log4j.properties"
        properties.write_text(self._server_properties(), encoding="utf-8")
        logging.write_text(_LOG4J, encoding="utf-8")
        java = [
            self._java,
            "-XX:TieredStopAtLevel=1",  # first compiler only: half the start time, and tests are short
            "-XX:+UseSerialGC",
            "-Xms64m",
            f"-Xmx{self._heap_mib}m",
            "-Djava.awt.headless=true",
            f"-Dlog4j.configuration={logging.as_uri()}",
            "-cp",
            self._class_path,
        ]
        if not (self.data_dir / "topics" / "meta.properties").exists():
            self._format(
                [
                    *java,
                    "kafka.tools.StorageTool",
                    "format",
                    "-t",
                    "bnVkZ2UtdGVzdHMtMDAwMQ",
                    "-c",
                    str(properties),
                ]
            )
        return [*java, "kafka.Kafka", str(properties)]

    def _format(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, timeout=KAFKA_READY_S, check=False, text=True)
        if done.returncode:
            raise BrokerUnavailable(f"kafka storage could not be formatted:\n{done.stdout}{done.stderr}")

    def _server_properties(self) -> str:
        clients, controller = self._ports
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{clients}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.data_dir / "topics"),
            "auto.create.topics.enable": "false",  # a topic that nobody declared is a mistake
            # One node has one replica of everything.
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            # Waits that protect large clusters and only slow tests down.
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
            "broker.heartbeat.interval.ms": "500",
            "broker.session.timeout.ms": "3000",  # after SIGKILL the next start waits for its end
            # Small and quiet.
            "num.network.threads": "2",
            "num.io.threads": "4",
            "background.threads": "2",
            "log.cleaner.dedupe.buffer.size": str(16 << 20),  # default 128 MiB of a heap of 512
            "log.retention.check.interval.ms": "5000",
        }
        return "".join(f"{key}={value}\n" for key, value in (settings | self._overrides).items())


_LOG4J = """\
log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c{1} %m%n
"""


def open_broker(
    kind: Literal["embedded", "kafka"], *, data_dir: Path | None = None
) -> EmbeddedBroker | KafkaBroker:
    """Return a broker of the named kind, not started yet; use it as a context manager or call ``start()``.

    >>> open_broker("redpanda")
    Traceback (most recent call last):
        ...
    ValueError: broker 'redpanda' is not one of embedded, kafka
    """
    if kind == "embedded":
        return EmbeddedBroker(data_dir)
    if kind == "kafka":
        return KafkaBroker(data_dir)
    raise ValueError(f"broker {kind!r} is not one of embedded, kafka")


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = found or shutil.which("java")
    if found is None:
        raise BrokerUnavailable(
            "Apache Kafka needs Java 17: java is neither in JAVA_HOME nor on PATH; install a JRE"
        )
    return found


def _embedded_binary() -> Path:
    spec = importlib.util.find_spec("noida_db")
    if spec is None or spec.origin is None:
        raise BrokerUnavailable("the embedded broker (noida-db) is not installed; pip install 'nudge[demo]'")
    binary = Path(spec.origin).parent / "noida-db"
    if not os.access(binary, os.X_OK):
        raise BrokerUnavailable(
            f"the embedded broker's binary {binary} is missing or not executable; reinstall noida-db"
        )
    return binary


@functools.cache
def _launcher() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="broker-launcher")


def _spawn(command: list[str], cwd: Path, log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C reaches us, and we stop the broker when the worker has finished
    )


def free_ports(n: int) -> list[int]:
    """Return n loopback ports that nobody listens on; each process searches from a place of its own."""
    ports: list[int] = []
    first = os.getpid() * 7 % len(PORTS)
    for step in range(len(PORTS)):
        port = PORTS[(first + step) % len(PORTS)]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == n:
            return ports
    raise BrokerUnavailable(f"no free loopback port between {PORTS[0]} and {PORTS[-1]}")


def _answers(port: int) -> bool:
    """Whether a broker on the port lists itself in a Metadata response (version 1, all topics)."""
    client = b"nudge"
    request = struct.pack(f">hhih{len(client)}si", 3, 1, 1, len(client), client, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.settimeout(1.0)
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as stream:
                head = stream.read(12)  # size, correlation id, number of brokers
    except OSError:
        return False
    return len(head) == 12 and struct.unpack(">iii", head)[2] > 0
