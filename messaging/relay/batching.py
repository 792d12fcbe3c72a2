"""Group commit: what arrives while one write is under way goes together into the next one.

With one caller each item is written at once; under load a write carries as many items as came during the one before, so that a
commit costs its disk once for all of them. Where nobody waits for the result, a write may wait a moment for more items. What
waits is bounded: beyond that callers are refused at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from messaging.relay.errors import RelayError, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many items and how many bytes of them one write takes, how many may wait for it, and how long one waits for more."""

    batch_items: int
    batch_bytes: int
    waiting_items: int
    waiting_bytes: int
    delay_seconds: float = 0


class Refused(Exception):
    """Raised by ``write`` for a batch that may hold one bad item: nothing was written, and each is then tried by itself."""


class GroupCommit(Generic[Item, Result]):
    """Hands batches to ``write``, one after the other. ``write`` returns one result for each item, or raises.

    A result that is an error is raised where the item came from. If ``write`` itself finds the store away, all that wait are
    told at once: the next batch would only take as long. ``run`` does the work; when it ends, what waits is refused.
    """

    def __init__(
        self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Result | RelayError]]], bounds: Bounds
    ) -> None:
        self._write = write
        self._bounds = bounds
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._urgent = asyncio.Event()  # somebody waits for what has been submitted, or a batch is full
        self._submitted = 0
        self._done = 0
        self._settling: list[tuple[int, asyncio.Event]] = []
        self._ended = False

    def submit(self, item: Item, size: int = 0) -> "asyncio.Future[Result]":
        """Have ``item``, of ``size`` bytes, written. Who stops waiting does not take it back.

        Raises:
            Unavailable: too much waits already, or this process is about to end.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._add(item, size, future)
        return future

    def post(self, item: Item, size: int = 0) -> None:
        """Have ``item`` written, and do not wait for it.

        Raises:
            Unavailable: too much waits already, or this process is about to end.
        """
        self._add(item, size, None)

    @property
    def waiting(self) -> int:
        """How many items wait to be taken into a batch."""
        return len(self._waiting)

    async def settle(self) -> None:
        """Wait until all is written, or has failed, that has been submitted so far."""
        if self._done < self._submitted:
            done = asyncio.Event()
            self._settling.append((self._submitted, done))
            self._urgent.set()
            await done.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                if not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                if self._bounds.delay_seconds and not self._settling:
                    await self._wait_for_more()
                batch = self._take()
                try:
                    await self._write_batch(batch)
                except Unavailable:
                    self._finish(self._take_all())
                finally:
                    self._finish(batch)
        finally:
            self._ended = True
            self._finish(self._take_all())

    async def _wait_for_more(self) -> None:
        self._urgent.clear()
        if len(self._waiting) < self._bounds.batch_items:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._bounds.delay_seconds):
                    await self._urgent.wait()

    def _add(self, item: Item, size: int, future: "asyncio.Future[Result] | None") -> None:
        waiting = self._waiting
        full = len(waiting) >= self._bounds.waiting_items
        if full or (waiting and self._waiting_bytes + size > self._bounds.waiting_bytes) or self._ended:
            raise Unavailable
        waiting.append((item, size, future))
        self._waiting_bytes += size
        self._submitted += 1
        self._arrived.set()
        if len(waiting) == self._bounds.batch_items:
            self._urgent.set()

    def _take(self) -> "list[_Waiting[Item, Result]]":
        batch: list[_Waiting[Item, Result]] = []
        total = 0
        while self._waiting and len(batch) < self._bounds.batch_items:
            size = self._waiting[0][1]
            if batch and total + size > self._bounds.batch_bytes:
                break
            batch.append(self._waiting.popleft())
            self._waiting_bytes -= size
            total += size
        return batch

    def _take_all(self) -> "list[_Waiting[Item, Result]]":
        waiting = list(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        return waiting

    async def _write_batch(self, batch: "Sequence[_Waiting[Item, Result]]") -> None:
        try:
            results = await self._write([item for item, _, _ in batch])
        except Refused as error:
            if len(batch) == 1:
                self._fail(batch, error.__cause__ or error)
            else:
                for each in batch:
                    await self._write_batch([each])
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is: those who wait hear of it, and the next batch is tried
            self._fail(batch, error)
        else:
            for (_, _, future), result in zip(batch, results, strict=True):
                if future is None or future.done():
                    continue
                if isinstance(result, RelayError):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _finish(self, batch: "Sequence[_Waiting[Item, Result]]") -> None:
        """Nobody will hear more: those who have no answer yet are told so."""
        self._fail(batch, Unavailable())
        self._done += len(batch)
        while self._settling and self._settling[0][0] <= self._done:
            self._settling.pop(0)[1].set()

    def _fail(self, batch: "Sequence[_Waiting[Item, Result]]", error: BaseException) -> None:
        for _, _, future in batch:
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # who has stopped waiting need not be told that nobody looked


_Waiting = tuple[Item, int, "asyncio.Future[Result] | None"]
