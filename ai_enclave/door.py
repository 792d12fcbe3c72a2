"""Which requests are worked on at all: an allowance for every request of a sender, whatever it asks for, and few of one at a time.

The desks (``ai_enclave.desk``) share the engine and the hardware; the rest, as a status or a refusal, meets no desk and still takes
work. What is not let in gets silence, which costs least: an answer takes a step of a session and a send. No client that keeps to the
desks' quotas comes near these bounds.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ai_enclave.desk import Allowances
from ai_enclave.limits import (
    CALLS_BURST,
    CALLS_OF_SENDER,
    MAX_CALLS,
    MAX_CONCURRENT,
    MAX_CONCURRENT_OF_SENDER,
    SECONDS_PER_CALL,
)
from messaging.wire.identifiers import ServiceId


class Door:
    """Counts who is inside. ``now`` is a clock that never goes back, in seconds; ``slots`` are for those being worked on."""

    def __init__(self, now: Callable[[], float] = time.monotonic, *, slots: int = MAX_CONCURRENT) -> None:
        self._now = now
        self._allowances = Allowances(CALLS_BURST, SECONDS_PER_CALL)
        self._inside: Counter[ServiceId] = Counter()
        self._slots = asyncio.Semaphore(slots)
        self._own_slots: dict[ServiceId, asyncio.Semaphore] = {}

    def admit(self, sender: ServiceId) -> bool:
        """Whether a request of ``sender`` is let in; then it is inside until :meth:`leave`."""
        now = self._now()
        self._allowances.forget(now)
        full = self._inside[sender] >= CALLS_OF_SENDER or self._inside.total() >= MAX_CALLS
        if full or self._allowances.seconds_until_next(sender, now) > 0:
            return False
        self._allowances.pay(sender, now)
        self._inside[sender] += 1
        return True

    @asynccontextmanager
    async def slot(self, sender: ServiceId) -> AsyncIterator[None]:
        """Wait until a request of ``sender`` that is inside may be worked on: behind its own ones first, then behind all."""
        own = self._own_slots.setdefault(sender, asyncio.Semaphore(MAX_CONCURRENT_OF_SENDER))
        async with own, self._slots:
            yield

    def leave(self, sender: ServiceId) -> None:
        """A request of ``sender`` is done with."""
        self._inside[sender] -= 1
        if not self._inside[sender]:
            del self._inside[sender]
            self._own_slots.pop(sender, None)
