"""How a webhook's target is doing: when it may be called, and whether a failure is the event's or its own. No I/O, no clock.

A target that says what it thinks of one event (400, 500) has failed that event, and it counts. A target that cannot be reached, hangs up,
asks for patience or leads elsewhere has failed everybody: the event keeps its place and its attempts, and the target is left alone for
a while. So an outage sets nothing aside. But an event that fails again although the target took others meanwhile is what brings it down,
and counts; and so does everything after ``MAX_OUTAGE``.
"""

import math
from dataclasses import dataclass, field
from http import HTTPStatus

from messaging.bots.limits import FIRST_PAUSE, MAX_OUTAGE, MAX_PAUSE, MAX_RETRY_AFTER

_OF_THE_TARGET = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a delivery failed: the status of the answer, or the type of an error; ``retry_after`` is seconds that were asked for."""

    status: int | None = None
    error: str = ""
    retry_after: int | None = None

    @property
    def is_of_the_target(self) -> bool:
        """Whether it says nothing about the event."""
        if self.status is None:
            return True
        return self.status in _OF_THE_TARGET or 300 <= self.status < 400 or self.retry_after is not None

    @property
    def reason(self) -> str:
        """What is kept of it: nothing that the target wrote."""
        return self.error if self.status is None else f"HTTP {self.status}"


def read_retry_after(header: str | None) -> int | None:
    """Seconds that a target asks for, at most ``MAX_RETRY_AFTER``; a date is not understood."""
    if header is None or not (header.isascii() and header.isdigit()):
        return None
    return min(int(header[:9]), MAX_RETRY_AFTER)


@dataclass(slots=True)
class TargetHealth:
    """The health of one target. Times are seconds on a clock that goes on; ``random`` numbers are from 0 to 1."""

    paused_until: float = -math.inf
    _failures: int = 0  # in a row
    _down_since: float = math.inf
    _last_success: float = -math.inf
    _tried: dict[str, float] = field(default_factory=dict)  # when events last failed, by their ids

    @property
    def is_down(self) -> bool:
        """Whether it has to show, with one delivery at a time, that it is there again."""
        return self._failures > 0

    def succeeded(self, event: str, now: float) -> None:
        """It took an event."""
        self.paused_until, self._failures, self._down_since, self._last_success = -math.inf, 0, math.inf, now
        self._tried.pop(event, None)

    def failed(self, event: str, failure: Failure, now: float, random: float) -> bool:
        """It did not take an event; says whether that counts as an attempt of the event."""
        if not failure.is_of_the_target:
            return True
        if now >= self.paused_until:  # deliveries that were on their way together fail by one and the same outage
            self._failures += 1
        self._down_since = min(self._down_since, now)
        self.paused_until = max(self.paused_until, now + self._pause(failure, random))
        before = self._tried.pop(event, None)
        others_were_taken = before is not None and self._last_success > before
        if others_were_taken or now - self._down_since > MAX_OUTAGE:
            return True
        self._tried[event] = now
        return False

    def _pause(self, failure: Failure, random: float) -> float:
        if failure.retry_after is not None:
            return failure.retry_after
        longest = min(FIRST_PAUSE * 2.0 ** min(self._failures - 1, 30), MAX_PAUSE)
        return longest * (1 + random) / 2
