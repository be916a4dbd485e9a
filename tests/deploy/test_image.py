"""The image: pinned, without a broker, not root, warmed, and watched by a probe that tells the truth."""

from __future__ import annotations

import ast
import http.server
import importlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Instructions in order, continuation lines joined, comments dropped."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def last(name: str) -> str:
    """The argument of the last instruction of a kind: the one in force."""
    return [argument for instruction, argument in instructions() if instruction == name][-1]


def filtered(lock: str) -> str:
    """What the awk filter of the build leaves of a lock."""
    (program,) = re.findall(
        rf"awk '([^']*)' requirements/{re.escape(lock)}", DOCKERFILE.read_text(encoding="utf-8")
    )
    done = subprocess.run(
        ["awk", program, f"requirements/{lock}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout


def entries(lock: str) -> dict[str, str]:
    """Package -> its pins with hashes."""
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", lock):
        if match := re.match(r"([a-z0-9._-]+)==", entry):
            found[match[1]] = found.get(match[1], "") + entry.strip()
    return found


def test_base_images_are_pinned() -> None:
    """One Python of one Debian, for building and for running."""
    (base,) = {argument for name, argument in instructions() if name == "FROM" and ":" in argument}
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+ AS base", base)


def test_the_image_installs_the_lock_without_the_broker() -> None:
    """Every pin and every hash of the lock is installed, but the demo's embedded broker."""
    whole = entries((ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8"))
    installed = entries(filtered("lock.txt"))
    assert {"noida-db"} == set(whole) - set(installed)
    assert installed == {name: entry for name, entry in whole.items() if name != "noida-db"}


def test_the_wheel_is_built_by_pinned_tools() -> None:
    """Of the developers' lock exactly hatchling and what it needs are installed, with hashes."""
    tools = entries(filtered("dev.txt"))
    needs = importlib.metadata.requires("hatchling") or []
    closure = {"hatchling"} | {
        requirement.name
        for requirement in map(Requirement, needs)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": "3.11"})
    }
    assert closure == set(tools)
    assert all("--hash=sha256:" in entry for entry in tools.values())
    assert 2 == DOCKERFILE.read_text(encoding="utf-8").count("--require-hashes --only-binary :all:")


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    """The build context holds the sources of the image, and nothing else."""
    sources = [
        source
        for name, argument in instructions()
        if name == "COPY" and "--from" not in argument
        for source in argument.split()[:-1]
    ]
    ignore = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line.removeprefix("!").split("/")[0] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert all((ROOT / source).exists() for source in sources)
    assert kept == {source.rstrip("/") for source in sources}


def test_it_runs_as_nobody_in_particular() -> None:
    """A numeric user that is not root, so that an orchestrator can see it is not."""
    assert last("USER").isdigit()
    assert 0 < int(last("USER"))


def test_it_starts_a_worker_and_hears_signals() -> None:
    """The entry point is the command itself, without a shell between it and SIGTERM."""
    assert ["nudge"] == json.loads(last("ENTRYPOINT"))
    assert ["worker"] == json.loads(last("CMD"))
    assert "SIGTERM" == last("STOPSIGNAL")


def test_kernels_are_warmed_into_a_volume_that_stays_writable() -> None:
    """The warm-up that the build calls exists, and numba's cache lies in the volume."""
    (code,) = re.findall(r'python -c "([^"]*warm_up[^"]*)"', last("RUN"))
    (imported,) = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom))
    (cache,) = re.findall(r"NUMBA_CACHE_DIR=(\S+)", DOCKERFILE.read_text(encoding="utf-8"))
    names = [name for name, _ in instructions()]
    assert imported.module is not None
    assert callable(getattr(importlib.import_module(imported.module), imported.names[0].name))
    assert cache.startswith(last("VOLUME") + "/")
    # Whatever is written after VOLUME is not in the image, so the warm-up must stand before it.
    assert len(names) - 1 - names[::-1].index("RUN") < names.index("VOLUME")


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_the_health_check_asks_livez(status: int, code: int) -> None:
    """It succeeds when `/livez` says 200 on the port of the settings, and fails otherwise."""
    with answering(status) as port:
        assert code == health_check(port)


def test_the_health_check_fails_when_nobody_listens() -> None:
    """A worker that is gone is unhealthy."""
    with answering(200) as port:
        pass
    assert 0 != health_check(port)


def health_check(port: int) -> int:
    """Run the image's command against a port of this machine."""
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    # A proxy of the environment must not come between a probe and its own machine.
    environment = {"NUDGE_METRICS_PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, *command[1:]], env=environment, capture_output=True, timeout=30, check=False
    )
    return done.returncode


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on loopback that answers `/livez` with a status, and anything else with 500."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/livez" else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(timeout=10)
