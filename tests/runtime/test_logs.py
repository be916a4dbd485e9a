"""What a log line may hold."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest

from stream.runtime.logs import MAX_KINDS, REPEAT_S, _Repeats, configure_logs, get_logger


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_variables(
    form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    """In a worker's frames the variables are customers' records; the log names the error and the lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logs(form)
        record = "who-bought-what"
        try:
            raise RuntimeError(f"about {len(record)} bytes")
        except RuntimeError as error:
            get_logger("test").error("worker_failed", exc_info=error)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    logged = capsys.readouterr().err
    assert "about 15 bytes" in logged
    assert "who-bought-what" not in logged


@contextmanager
def logs() -> Iterator[logging.Handler]:
    """Logs as of a worker, to the handler given; not a fixture, for pytest has handlers of its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs("json")
    try:
        yield root.handlers[0]
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def written(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that were written."""
    return [str(json.loads(line)["event"]) for line in capsys.readouterr().err.splitlines()]


def test_a_library_does_not_repeat_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line of a kind in ten seconds, with how many were left out; our own lines are all written."""
    client, now = logging.getLogger("aiokafka.client"), 1_800_000_000.0
    monkeypatch.setattr("logging.time.time", lambda: now)
    with logs():
        for node in range(300):
            client.error("Unable to connect to node %s", node)
        client.error("Topic %s not found", "t")
        for _ in range(3):
            get_logger("stream.runtime").warning("partition_rebuild")
        for _ in range(2):
            logging.getLogger("aiohttp.server").error("Error handling request")
        now += REPEAT_S + 0.1
        client.error("Unable to connect to node %s", 7)
        client.error("Unable to connect to node %s", 8)

    assert [
        "Unable to connect to node 0",
        "Topic t not found",
        *["partition_rebuild"] * 3,
        *["Error handling request"] * 2,
        "Unable to connect to node 7 (and 299 more like it)",
    ] == written(capsys)


def test_kinds_of_lines_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """A library that formats its lines by itself costs no memory."""
    with logs() as handler:
        for n in range(3 * MAX_KINDS):
            logging.getLogger("aiokafka").error(f"line {n}")  # noqa: G004  as such a library does
        [repeats] = handler.filters
    assert 3 * MAX_KINDS == len(written(capsys))
    assert isinstance(repeats, _Repeats)
    assert 0 < len(repeats._kinds) <= MAX_KINDS
