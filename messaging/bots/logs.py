"""What the gateway may write to its log: of a request its method and never its path, because tokens stand in paths."""

from typing import TextIO

from messaging.serving import logs

LOGGABLE = frozenset({"event", "level", "timestamp", "method", "status", "duration_ms", "count", "error", "library"})


def configure_logs(stream: TextIO | None = None) -> None:
    """Send everything that this process logs through the filter to ``stream`` (standard error)."""
    logs.configure_logs(LOGGABLE, stream)
