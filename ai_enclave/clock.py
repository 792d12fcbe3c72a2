"""What time it is in the enclave: a host that sets the clock back does not bring back what has ended.

The guest's clock comes from its host, which can slow it, stop the guest, or set the clock ahead; nothing in here sees that. A client
compares the time of each receipt with its own clock.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class EnclaveClock:
    """Call it for milliseconds since 1970: the machine's, but never less than what has passed since this object was made.

    Args:
        wall: nanoseconds since 1970; may be set at any time.
        steady: nanoseconds of a clock that is never set.
    """

    wall: Callable[[], int] = time.time_ns
    steady: Callable[[], int] = time.monotonic_ns
    _ahead: int = field(init=False)  # of the wall clock before the steady one, at the start

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ahead", self.wall() - self.steady())

    def __call__(self) -> int:
        """Milliseconds since 1970."""
        return max(self.wall(), self.steady() + self._ahead) // _MILLION
