"""A measured process, and what a broker shows of its progress."""

from __future__ import annotations

import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 15.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process:
    """A job in a process of its own; ended when the context ends, whatever happened.

    Parameters
    ----------
    environment : Mapping[str, str]
        What it sees beside ours, without our ``NUDGE_`` settings.
    log : Path
        File that gets its output.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("NUDGE_")}
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**ours, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def log_tail(self) -> str:
        """Last lines of its output."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])

    def cpu_s(self) -> float:
        """CPU time of all its threads so far, user and system, s."""
        return cpu_s(self._process.pid)

    def peak_mib(self) -> float:
        """Most memory it ever held, MiB."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii").splitlines()
        [kib] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(kib) / 1024


@dataclass(frozen=True, slots=True)
class Watch:
    """Asks the broker how far a job is, without taking part in its group."""

    admin: AIOKafkaAdminClient
    consumer: AIOKafkaConsumer
    n_partitions: int

    async def appended(self, topic: str) -> int:
        """How many records a topic has ever got."""
        return sum((await self.ends(topic)).values())

    async def ends(self, topic: str) -> dict[TopicPartition, int]:
        """Next offset of each partition."""
        partitions = [TopicPartition(topic, number) for number in range(self.n_partitions)]
        ends: dict[TopicPartition, int] = await self.consumer.end_offsets(partitions)
        return ends

    async def committed(self, group: str, topic: str, coordinator: int) -> int:
        """How many records of a topic a group has committed."""
        found = await self.admin.list_consumer_group_offsets(group, coordinator)
        return sum(max(offset.offset, 0) for tp, offset in found.items() if tp.topic == topic)


def cpu_s(pid: int) -> float:
    """CPU time of all threads of a process so far, user and system, s."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    fields = stat.rpartition(")")[2].split()  # the name in brackets may hold anything
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def exposition(port: int) -> dict[str, float]:
    """Samples of a worker's ``/metrics`` by name and labels; none while nobody answers."""
    text = get(f"http://127.0.0.1:{port}/metrics") or ""
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


def get(url: str) -> str | None:
    """Body of a page that answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  loopback only
            body: str = response.read().decode()
            return body
    except (urllib.error.URLError, OSError):
        return None


def free_port() -> int:
    """Return a loopback port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def resident_mib() -> float:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
