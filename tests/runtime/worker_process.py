"""A worker in a process of its own, as production runs it, that tests may ask, stop and kill."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self

from stream.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SMALL: Final = {"MAX_ITEMS": "1024", "CLICK_SLOTS": "4096", "CAMPAIGNS__HOLDOUT_SHARE": "0.1"}
SETTINGS: Final = Settings(max_items=1024, click_slots=4096, campaigns={"holdout_share": 0.1})  # the same
READY_S = 150.0  # 3 s with a warm numba cache; a cold one compiles for half a minute on a free machine
_OWNED = re.compile(r'^nudge_state_users\{partition="(\d+)"\}', re.MULTILINE)
RUN = (
    "import sys; from stream.settings import Settings; from stream.worker import run_worker; "
    "sys.exit(run_worker(Settings()))"
)


def wait_until(what: str, ready: Callable[[], bool], limit_s: float = READY_S) -> None:
    """Poll until something holds, or fail with its name."""
    deadline = time.monotonic() + limit_s
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {limit_s:.0f} s"
        time.sleep(0.02)


class WorkerProcess:
    """One worker, started by `start`; ``settings`` are environment variables without their prefix ``NUDGE_``.

    Its log goes to ``log``; it is killed when the context ends, whatever happened.
    """

    def __init__(self, settings: Mapping[str, str], log: Path, run: str = RUN) -> None:
        self.port = free_port()
        self.log = log
        self._run = run
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("NUDGE_KAFKA")}
        self._environment |= {f"NUDGE_{name}": value for name, value in settings.items()}
        self._environment |= {"NUDGE_METRICS_PORT": str(self.port), "PYTHONPATH": str(ROOT)}
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_end = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def start(self, **settings: str) -> None:
        """Start it, with more settings for this life if given; does not wait."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self._asked_to_end = False
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self._run],
                cwd=ROOT,
                env=self._environment | {f"NUDGE_{name}": value for name, value in settings.items()},
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Wait until ``/readyz`` says so."""
        wait_until(f"worker ready (its log: {self.tail()})", self.is_ready)

    def wait_listening(self) -> None:
        """Wait until its probes answer: the interpreter and the kernels are loaded then."""
        wait_until("probes answer", lambda: self.get("/livez")[0] == 200)

    def is_ready(self) -> bool:
        """Whether ``/readyz`` answers 200."""
        assert self.code() is None, f"the worker ended with {self.code()}: {self.tail()}"
        return self.get("/readyz")[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET; status 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (urllib.error.URLError, OSError):
            return 0, ""

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels; 0 while it is not there."""
        values = [
            float(line.rpartition(" ")[2])
            for line in self.get("/metrics")[1].splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        ]
        return sum(values)

    def partitions(self) -> set[int]:
        """Input partitions that are open in it."""
        return {int(number) for number in _OWNED.findall(self.get("/metrics")[1])}

    def runs(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def lives_as_asked(self) -> bool:
        """Whether it runs, or a test has ended it or never started it."""
        return self._asked_to_end or self.runs()

    def code(self) -> int | None:
        """Exit code, ``None`` while it runs."""
        assert self._process is not None
        return self._process.poll()

    def wait(self, limit_s: float = READY_S) -> int:
        """Wait for its end, which is what the test expects, and return the exit code."""
        assert self._process is not None
        self._asked_to_end = True
        return self._process.wait(limit_s)

    def terminate(self) -> tuple[int, float]:
        """Ask it to end; return the exit code and how many seconds it took."""
        started = time.monotonic()
        self._asked_to_end = True
        os.kill(self.pid, signal.SIGTERM)
        code = self.wait(30.0)
        return code, time.monotonic() - started

    def kill(self) -> None:
        """End it at once, also when it is frozen."""
        self._asked_to_end = True
        if self._process is not None:
            self._process.kill()
            self._process.wait(30.0)

    def tail(self) -> str:
        """Last lines of its log."""
        if not self.log.exists():
            return "(no log)"
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        return "\n".join(line[:2000] for line in lines)

    def events(self, name: str) -> list[dict[str, object]]:
        """Log lines of one event, over all its lives."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in parsed if line.get("event") == name]


def free_port() -> int:
    """Return a loopback port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
