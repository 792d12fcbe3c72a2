"""Handles the events of an inbox: in order within a conversation, side by side across conversations, until it is told to stop.

An event is over when its handler has returned. While that is written down, the next one of the same conversation is handled already,
so that nobody waits for the disk.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from itertools import groupby
from typing import TypeVar

from messaging.client.bot.inbox import Inbox, Leased, LeaseLost
from messaging.client.bot.logs import log, say
from messaging.client.errors import StoreFailed

RUN = 16  # events of one conversation that are taken together
LINGER = 0.005  # seconds for which events that are over wait for others: one wait for the disk is enough for many
STORE_PAUSE = 5.0  # seconds until a store is tried again that could not be written
LEASE_SLACK = 60.0  # seconds for which a lease outlasts the time that its handlers have

T = TypeVar("T")


class Worker:
    """Handles events, those of ``at_once`` conversations at the same time, until :meth:`stop`."""

    def __init__(
        self,
        inbox: Inbox,
        handle: Callable[[Leased], Awaitable[None]],
        *,
        at_once: int,
        limit: float,
        show_errors: bool = False,
        store_pause: float = STORE_PAUSE,
    ) -> None:
        """
        Args:
            handle: handles one event; what it raises is a failure.
            limit: seconds after which it is interrupted, which is a failure, too.
            show_errors: log what was raised with its text, which may hold what people wrote.
        """
        self._inbox = inbox
        self._handle = handle
        self._at_once = at_once
        self._limit = limit
        self._show_errors = show_errors
        self._store_pause = store_pause
        self._stopping = False
        self._taking: asyncio.Task[list[Leased]] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()  # somebody may have become free
        self._fault: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether any event is being handled."""
        return bool(self._running)

    def stop(self) -> None:
        """Take no more events; :meth:`run` returns when those in hand are over."""
        self._stopping = True
        self._freed.set()
        if self._taking is not None:
            self._taking.cancel()

    async def run(self, *, grace: float = math.inf) -> None:
        """Handle events until :meth:`stop`; handlers that have not ended ``grace`` seconds later are interrupted.

        What was not handled is given back, and that does not count as an attempt.
        """
        try:
            while not self._stopping:
                leased = await self._next()
                for _, run in groupby(leased, lambda each: each.event.conversation):
                    self._start(list(run))
            if self._running:
                await asyncio.wait(self._running, timeout=None if grace == math.inf else grace)
        finally:
            await self._interrupt()
        if self._fault is not None:
            raise self._fault

    def _start(self, run: list[Leased]) -> None:
        task = asyncio.create_task(self._work(run))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._freed.set()
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._fault = fault  # not a handler's, whose errors never come so far
            self.stop()

    async def _interrupt(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    # --- taking ---

    async def _next(self) -> list[Leased]:
        """What is to be handled next; nothing when it is time to stop, or to ask again."""
        free = self._at_once - len(self._running)
        if free <= 0:
            self._freed.clear()
            await self._freed.wait()
            return []
        self._taking = asyncio.create_task(self._take(free))
        try:
            await asyncio.wait([self._taking])
        finally:
            self._taking.cancel()
        if self._taking.cancelled():
            return []
        return await self._taken(self._taking)

    async def _take(self, free: int) -> list[Leased]:
        lease = self._limit * RUN + LEASE_SLACK
        return await self._inbox.take(free * RUN, lease=lease, wait=math.inf, per_conversation=RUN, conversations=free)

    async def _taken(self, taking: "asyncio.Task[list[Leased]]") -> list[Leased]:
        try:
            leased = taking.result()
        except StoreFailed as error:
            say(logging.WARNING, "store failed", error=type(error).__name__)
            await asyncio.sleep(self._store_pause)
            return []
        if self._stopping:
            await self._inbox.release(*leased)
            return []
        return leased

    # --- handling ---

    async def _work(self, run: list[Leased]) -> None:
        """Handle events of one conversation, one after the other. When one fails, those behind it are given back with it."""
        ending: list[asyncio.Task[None]] = []
        try:
            for leased in run:
                if self._stopping and ending:
                    await self._inbox.release(leased)  # and what follows
                    break
                if not await self._try(leased):
                    break
                ending.append(asyncio.create_task(self._end(leased)))
        finally:
            await asyncio.gather(*ending)

    async def _try(self, leased: Leased) -> bool:
        """Whether its handler returned."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._limit):
                await self._handle(leased)
        except asyncio.CancelledError as error:
            if _is_cancelled():
                await self._inbox.release(leased)
                raise
            await self._fail(leased, error, began)  # the handler has interrupted itself
            return False
        except Exception as error:  # noqa: BLE001  # whatever it is, the event is kept and tried again
            await self._fail(leased, error, began)
            return False
        say(logging.DEBUG, "handled", **_facts(leased, began))
        return True

    async def _end(self, leased: Leased) -> None:
        try:
            await self._persist(lambda: self._inbox.handled(leased, linger=LINGER))
        except LeaseLost as error:
            say(logging.WARNING, "handled too late", error=type(error).__name__, kind=leased.event.kind)

    async def _fail(self, leased: Leased, error: BaseException, began: float) -> None:
        reason = type(error).__name__
        try:
            parked = await self._persist(lambda: self._inbox.failed(leased, reason))
        except LeaseLost:
            parked = False
        say(logging.WARNING, "failed", error=reason, parked=parked, **_facts(leased, began))
        if self._show_errors:
            log.warning("what was raised", exc_info=error)

    async def _persist(self, write: Callable[[], Awaitable[T]]) -> T | None:
        """Try until it is written, or it is time to stop: then it is done again after the next start."""
        while True:
            try:
                return await write()
            except StoreFailed as error:
                say(logging.WARNING, "store failed", error=type(error).__name__)
            if self._stopping:
                return None
            await asyncio.sleep(self._store_pause)


def _facts(leased: Leased, began: float) -> dict[str, object]:
    took = round((time.perf_counter() - began) * 1000)
    return {"kind": leased.event.kind, "attempt": leased.attempt, "duration_ms": took}


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
