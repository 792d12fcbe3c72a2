"""What the relay may write to its log: of a request its route and not its path, of nobody who they are."""

from typing import TextIO

from messaging.serving import logs

LOGGABLE = frozenset(
    {
        *("event", "level", "timestamp", "route", "verb", "status", "duration_ms", "count", "error", "library"),
        *("setting", "version"),  # of operators: its name is one of ours
    }
)


def configure_logs(stream: TextIO | None = None) -> None:
    """Send everything that this process logs through the filter to ``stream`` (standard error)."""
    logs.configure_logs(LOGGABLE, stream)
