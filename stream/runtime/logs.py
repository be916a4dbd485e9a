"""Structured logs on stderr. Events are names, values are fields, and nothing personal is among them."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, Literal

import structlog
from structlog.tracebacks import ExceptionDictTransformer

__all__ = ["configure_logs", "get_logger"]

REPEAT_S: Final = 10.0
MAX_KINDS: Final = 256  # of lines, by logger, level and template


class _Repeats(logging.Filter):
    """Let one line of a kind through in ten seconds, with how many there were since the last.

    Of libraries alone: a client whose broker is away writes a hundred lines a second.
    """

    def __init__(self, libraries: tuple[str, ...]) -> None:
        super().__init__()
        self._libraries = libraries
        self._kinds: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be written."""
        if not record.name.startswith(self._libraries):
            return True
        kind = record.name, record.levelno, str(record.msg)
        shown_at, n_hidden = self._kinds.get(kind, (-REPEAT_S, 0))
        if 0.0 <= record.created - shown_at < REPEAT_S:
            self._kinds[kind] = shown_at, n_hidden + 1
            return False
        if len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = record.created, 0
        if n_hidden:
            record.msg = f"{record.msg} (and {n_hidden} more like it)"
        return True


def get_logger(name: str) -> Any:
    """Return a structured logger: ``logger.info("event_name", field=value)``."""
    return structlog.get_logger(name)


def configure_logs(form: Literal["json", "console"] | None = None, level: str = "INFO") -> None:
    """Set up structlog and the libraries' logging alike.

    Parameters
    ----------
    form : {"json", "console"}, optional
        ``console`` on a terminal and ``json`` elsewhere, unless given. Neither shows the values of variables
        in a traceback: in a worker's frames they are customers' records.
    """
    form = form or ("console" if sys.stderr.isatty() else "json")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
        if form == "json"
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Repeats(("aiokafka",)))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # aiokafka reports each heartbeat and rejoin at INFO, and a lost connection as a traceback of its own.
    for name in ("aiokafka", "faust", "mode"):
        logging.getLogger(name).setLevel(max(logging.getLevelNamesMapping()[level], logging.WARNING))
