"""Work that is done again and again, a few things at a time, and not too often where it fails. No failure ends it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import suppress
from typing import TypeVar

AT_ONCE = 8  # sends of one piece of work that run at the same time

T = TypeVar("T")


async def for_each(items: Iterable[T], do: Callable[[T], Awaitable[None]]) -> None:
    """Do it for each, a few at a time. What ``do`` raises ends all of it, and is raised as it is."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await do(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(work())
    except BaseExceptionGroup as several:  # whoever handles one kind of error need not know how it was done
        raise several.exceptions[0] from None


class Background:
    """Does its work every ``seconds``, and at once when woken.

    What the work raises does not end it: ``failed`` hears of it, once until the work goes well again or fails another way.
    """

    def __init__(
        self, work: Callable[[], Awaitable[None]], seconds: float, failed: Callable[[Exception], None]
    ) -> None:
        self._work = work
        self._seconds = seconds
        self._failed = failed
        self._told: type[Exception] | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There is something to do."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._woken.clear()  # before the work: who wakes it meanwhile has it done again
            await self._try()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._woken.wait()

    async def _try(self) -> None:
        try:
            await self._work()
        except Exception as error:  # noqa: BLE001  # whatever it is, the next time may be better
            if self._told is not type(error):
                self._failed(error)
            self._told = type(error)
        else:
            self._told = None


class Patience:
    """How long to leave alone what failed: ``first`` seconds, four times as long each time, at most ``longest``."""

    def __init__(self, first: float, longest: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._first = first
        self._longest = longest
        self._monotonic = monotonic
        self._failed: dict[Hashable, tuple[float, float]] = {}  # until when, and how long that was
        self._changed: set[Hashable] = set()

    def may_try(self, what: Hashable) -> bool:
        """Whether it is time."""
        return what in self._changed or what not in self._failed or self._monotonic() >= self._failed[what][0]

    def begin(self, what: Hashable) -> None:
        """It is tried now."""
        self._changed.discard(what)

    def failed(self, what: Hashable) -> None:
        """Not again for a while, unless something has changed since it began."""
        _, before = self._failed.get(what, (0.0, self._first / 4))
        seconds = min(before * 4, self._longest)
        self._failed[what] = self._monotonic() + seconds, seconds

    def done(self, what: Hashable) -> None:
        """It went well."""
        self._failed.pop(what, None)

    def change(self, what: Hashable) -> None:
        """Something has changed: it may be tried at once."""
        self._failed.pop(what, None)
        self._changed.add(what)
