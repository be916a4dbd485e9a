"""What a log line may hold."""

from __future__ import annotations

import logging
from typing import Literal

import pytest

from stream.runtime.logs import configure_logs, get_logger


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
