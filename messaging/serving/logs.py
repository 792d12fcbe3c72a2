"""Logs that cannot carry content: a list of what may be written, applied to our lines and to every library's.

Each server has its own list. Of an error only its type is written. Lines are JSON on standard error.
"""

import logging
import sys
import time
from collections.abc import MutableMapping
from collections.abc import Set as AbstractSet
from typing import Any, TextIO

import structlog


class LibraryLines(logging.Handler):
    """Turns a library's record into a line that says who spoke, how loudly and of what error: never what it said.

    The texts of libraries hold addresses, paths, statements and whatever else they were given.
    """

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        error = record.exc_info[0] if record.exc_info else None
        self._log.log(
            record.levelno,
            "library_line",
            library=record.name.partition(".")[0],
            error=None if error is None else error.__name__,
        )


def configure_logs(loggable: AbstractSet[str], stream: TextIO | None = None) -> None:
    """Send everything that this process logs to ``stream`` (standard error), and of each line only the fields in ``loggable``."""

    def only_loggable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {name: value for name, value in event.items() if name in loggable}  # tracebacks are dropped too

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
    root.handlers = [LibraryLines(get_logger())]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """The process's logger."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log


def milliseconds_since(started: float) -> float:
    """Since ``time.perf_counter()`` gave ``started``, to a tenth."""
    return round((time.perf_counter() - started) * 1000, 1)
