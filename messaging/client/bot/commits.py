"""Group commit of changes in one store: those that come while a commit waits for its disk go together into the next one."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from messaging.client.stores import Store, StoreTransaction

T = TypeVar("T")
Change = Callable[[StoreTransaction], Callable[[], T]]
"""Writes in a transaction, and returns what follows from it in memory, which is done once it is committed."""


class Commits:
    """Makes changes, many in one transaction. Who stops waiting for a change does not undo it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Change[Any], asyncio.Future[Any]]] = []
        self._running: asyncio.Task[None] | None = None
        self._due = math.inf  # by the loop's clock: when what waits is written at the latest
        self._urgent = asyncio.Event()

    async def make(self, change: Change[T], *, linger: float = 0.0) -> T:
        """Make one, and wait for others up to ``linger`` seconds before.

        Raises:
            StoreFailed, CorruptStore: nothing was written of it, nor of what went with it.
        """
        return await self._add(change, linger)

    def post(self, change: Change[T]) -> None:
        """Make one, and do not wait for it. If it cannot be written, nobody hears of it."""
        self._add(change, 0.0).cancel()

    async def settle(self) -> None:
        """Wait until nothing is being written, and nothing waits for that."""
        self._urgent.set()
        while self._running is not None:
            await asyncio.wait([self._running])

    def _add(self, change: Change[T], linger: float) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((change, future))
        self._due = min(self._due, loop.time() + linger)
        if not linger:
            self._urgent.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return future

    async def _run(self) -> None:
        try:
            while self._waiting:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._due):
                        await self._urgent.wait()
                self._urgent.clear()
                self._due = math.inf
                batch, self._waiting = self._waiting, []
                await self._write(batch)
        finally:
            self._running = None

    async def _write(self, batch: list[tuple[Change[Any], asyncio.Future[Any]]]) -> None:
        try:
            async with self._store.transaction() as transaction:
                follow = [change(transaction) for change, _ in batch]
        except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it is
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for then, (_, future) in zip(follow, batch, strict=True):
            outcome = then()
            if not future.done():
                future.set_result(outcome)
