"""Group commit: what arrives while one write is under way goes together into the next one.

There is no timer. With one caller each item is written at once; under load a write carries as many items as came during the one
before, so that a commit costs its disk once for all of them. What waits is bounded: beyond that callers are refused at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from messaging.relay.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many items and how many bytes of them one write takes, and how many may wait for it."""

    batch_items: int
    batch_bytes: int
    waiting_items: int
    waiting_bytes: int


class Refused(Exception):
    """Raised by ``write`` for a batch that may hold one bad item: each is then tried by itself."""


class GroupCommit(Generic[Item, Result]):
    """Hands batches to ``write``, one after the other. ``write`` returns one result for each item, or raises.

    ``run`` does the work. When it ends, what waits is refused.
    """

    def __init__(self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], bounds: Bounds) -> None:
        self._write = write
        self._bounds = bounds
        self._waiting: deque[tuple[Item, int, asyncio.Future[Result]]] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._last: asyncio.Future[Result] | None = None
        self._ended = False

    def submit(self, item: Item, size: int = 0) -> "asyncio.Future[Result]":
        """Have ``item``, of ``size`` bytes, written. Who stops waiting does not take it back.

        Raises:
            Unavailable: too much waits already, or this process is about to end.
        """
        full = len(self._waiting) >= self._bounds.waiting_items or (
            self._waiting and self._waiting_bytes + size > self._bounds.waiting_bytes
        )
        if full or self._ended:
            raise Unavailable
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, size, future))
        self._waiting_bytes += size
        self._last = future
        self._arrived.set()
        return future

    async def settle(self) -> None:
        """Wait until all is written, or has failed, that has been submitted so far."""
        if self._last is not None and not self._last.done():
            await asyncio.wait([self._last])

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                if not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                await self._write_batch(self._take())
        finally:
            self._ended = True
            self._refuse_waiting()

    def _take(self) -> list[tuple[Item, "asyncio.Future[Result]"]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        total = 0
        while self._waiting and len(batch) < self._bounds.batch_items:
            item, size, future = self._waiting[0]
            if batch and total + size > self._bounds.batch_bytes:
                break
            self._waiting.popleft()
            self._waiting_bytes -= size
            total += size
            batch.append((item, future))
        return batch

    async def _write_batch(self, batch: Sequence[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        try:
            results = await self._write([item for item, _ in batch])
        except Refused as error:
            if len(batch) == 1:
                _fail(batch, error.__cause__ or error)
                return
            for each in batch:
                await self._write_batch([each])
        except Exception as error:  # noqa: BLE001 - whatever it is: those who wait hear of it, and the next batch is tried
            _fail(batch, error)
        except BaseException:
            _fail(batch, Unavailable())
            raise
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _refuse_waiting(self) -> None:
        _fail([(item, future) for item, _, future in self._waiting], Unavailable())
        self._waiting.clear()
        self._waiting_bytes = 0


def _fail(batch: Sequence[tuple[Item, "asyncio.Future[Result]"]], error: BaseException) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
            future.exception()  # who has stopped waiting need not be told that nobody looked
