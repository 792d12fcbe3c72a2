"""The time, as long as it can be believed.

A clock that jumps (an administrator's mistake, a broken time server) must not expire everybody's messages or make old tokens
new. Small corrections are followed; after a jump the relay goes on counting for itself, says so, and is to be restarted
when the clock is right. Time that a machine slept through counts.
"""

import time
from collections.abc import Callable
from functools import partial

from messaging.serving.logs import get_logger

MAX_STEP_SECONDS = 300
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux: goes on while the machine sleeps


_boot_seconds = partial(time.clock_gettime, _STEADY)


class Clock:
    """Milliseconds since 1970. ``wall`` gives seconds since 1970, ``steady`` seconds that never jump."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = _boot_seconds,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()
        self._believed = True

    def __call__(self) -> int:
        """The time now."""
        steady, wall = self._steady(), self._wall()
        step = wall - steady - self._ahead
        if abs(step) <= MAX_STEP_SECONDS:
            self._ahead += step
            self._believed = True
        elif self._believed:
            self._believed = False
            get_logger().error("clock_jumped")
        return int((steady + self._ahead) * 1000)
