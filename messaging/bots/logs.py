"""Logs that cannot carry content: a list of what may be written, for our lines and for every library's.

Of an error only its type is written, of a request its method and never its path: tokens stand in paths.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

LOGGABLE = frozenset({"event", "level", "timestamp", "method", "status", "duration_ms", "count", "error", "library"})


def only_loggable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: keep the listed fields and drop all others, tracebacks included."""
    return {name: value for name, value in event.items() if name in LOGGABLE}


class LibraryLines(logging.Handler):
    """Turns a library's record into a line that says who spoke and of what error, never what it said."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        error = record.exc_info[0] if record.exc_info else None
        name = None if error is None else error.__name__
        get_logger().log(record.levelno, "library_line", library=record.name.partition(".")[0], error=name)


def configure_logs(stream: TextIO | None = None) -> None:
    """Send everything that this process logs through the filter to ``stream`` (standard error)."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            only_loggable,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [LibraryLines(logging.WARNING)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """The process's logger."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log
