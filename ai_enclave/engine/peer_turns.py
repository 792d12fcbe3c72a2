"""Whose request goes to the server next: a bounded number at a time, tenants in turn, and of one tenant the most urgent first.

The order is round robin by tenant (J. Nagle, RFC 970): whoever was just served goes behind all who wait.
"""

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count

from ai_enclave.engine.interface import Failure
from ai_enclave.engine.peer_wire import NoAnswer

MAX_WAITING = 256  # requests
MAX_WAITING_OF_TENANT = 32

_Waiting = tuple[int, int, "asyncio.Future[None]"]  # less is earlier


class Turns:
    """Hands out ``slots`` places."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._number = count()
        self._queues: OrderedDict[bytes, list[_Waiting]] = OrderedDict()  # none is empty
        self.running = 0

    @property
    def waiting(self) -> int:
        """Requests without a place."""
        return sum(map(len, self._queues.values()))

    @asynccontextmanager
    async def turn(self, tenant: bytes, priority: int = 0) -> AsyncGenerator[None]:
        """Wait for a place, and have it in the block.

        Raises:
            NoAnswer: too many wait.
        """
        await self._come(tenant, priority)
        try:
            yield
        finally:
            self._leave()

    async def _come(self, tenant: bytes, priority: int) -> None:
        if self.running < self._slots:
            self.running += 1
            return
        queue = self._queues.setdefault(tenant, [])
        if self.waiting >= MAX_WAITING or len(queue) >= MAX_WAITING_OF_TENANT:
            self._tidy(tenant)
            raise NoAnswer(Failure.BUSY)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (-priority, next(self._number), place)
        heapq.heappush(queue, waiting)
        try:
            await place
        except asyncio.CancelledError:
            self._give_up(tenant, waiting)
            raise

    def _give_up(self, tenant: bytes, waiting: _Waiting) -> None:
        queue = self._queues.get(tenant, [])
        if waiting in queue:
            queue.remove(waiting)
            heapq.heapify(queue)
            self._tidy(tenant)
        else:  # it was given a place in the same moment
            self._leave()

    def _leave(self) -> None:
        """Give the place to whoever is next."""
        if not self._queues:
            self.running -= 1
            return
        tenant, queue = next(iter(self._queues.items()))
        *_, place = heapq.heappop(queue)
        self._queues.move_to_end(tenant)
        self._tidy(tenant)
        place.set_result(None)

    def _tidy(self, tenant: bytes) -> None:
        if not self._queues[tenant]:
            del self._queues[tenant]
