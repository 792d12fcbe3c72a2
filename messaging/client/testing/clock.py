"""Time that passes when a test says so."""

import math

START = 1_750_000_000_000  # milliseconds since 1970


class Clock:
    """Begins at ``START``; every look for a timestamp is a millisecond later than the one before."""

    def __init__(self) -> None:
        self._milliseconds = START

    def now(self) -> int:
        """Milliseconds since 1970."""
        return self._milliseconds

    def seconds(self) -> float:
        """The same in seconds."""
        return self._milliseconds / 1000

    def tick(self) -> int:
        """A timestamp that nothing else has, milliseconds since 1970."""
        self._milliseconds += 1
        return self._milliseconds

    def advance(self, seconds: float) -> None:
        """Let at least so many seconds pass."""
        self._milliseconds += max(0, math.ceil(seconds * 1000))
