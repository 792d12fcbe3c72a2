"""What a bot logs: that events were handled or failed, of which kind, how long it took. Never what was said, where, or by whom."""

import logging

LOGGER = "subrosa.bot"
LOGGABLE = frozenset({"kind", "attempt", "count", "duration_ms", "error", "parked", "signal"})

log = logging.getLogger(LOGGER)


def say(level: int, what: str, **facts: object) -> None:
    """One line: what happened, and those facts that may be told. A formatter finds the facts as attributes, too."""
    told = {name: value for name, value in facts.items() if name in LOGGABLE}
    log.log(level, " ".join([what, *(f"{name}={value}" for name, value in told.items())]), extra=told)
