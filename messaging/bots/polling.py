"""getUpdates: what a poller is given, and when it is over.

A poller without a lease is given what Telegram would: what it has not confirmed by an offset comes again, and a second poller ends the
first. With a lease several consumers share a bot: each is given other conversations, and says by ``confirmUpdates`` what is over.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from messaging.bots.errors import ApiError, Conflict, TooMany, Unavailable
from messaging.bots.feed import Feed, Given
from messaging.bots.limits import MAX_CONSUMERS, MAX_OF_ONE_CHAT, PLAIN_LEASE, PLAIN_QUIET
from messaging.bots.updates import Json

PLAIN = "getUpdates"  # the consumer that has no name


@dataclass(slots=True)
class Window:
    """What one consumer has been given and has not confirmed, in the order of its numbers; ``waiting`` calls are to add more. No I/O."""

    given: list[Given] = field(default_factory=list)
    waiting: int = 0

    def confirm(self, offset: int) -> list[Given]:
        """Take out what is below ``offset``, all of its updates."""
        over = [each for each in self.given if each.last < offset]
        self.given = [each for each in self.given if each.last >= offset]
        return over

    def take(self, numbers: Iterable[int]) -> list[Given]:
        """Take out the events whose last update is among ``numbers``."""
        named = set(numbers)
        found = [each for each in self.given if each.last in named]
        self.given = [each for each in self.given if each.last not in named]
        return found

    def drop_ended(self, now: float) -> None:
        """Forget what is nobody's any more because its lease has ended."""
        self.given = [each for each in self.given if each.until > now]

    def add(self, given: Iterable[Given]) -> None:
        """Note what was given."""
        self.given = sorted([*self.given, *given], key=lambda each: each.last)

    def updates(self, offset: int, limit: int) -> list[Json]:
        """The updates from ``offset`` on, at most ``limit``."""
        found = [update for each in self.given for update in each.updates if update["update_id"] >= offset]
        return sorted(found, key=lambda update: int(update["update_id"]))[:limit]


def of_one_chat(limit: int) -> int:
    """How many events of one conversation an answer with ``limit`` updates holds: no talker fills it alone."""
    return max(1, min(MAX_OF_ONE_CHAT, limit // 4))


def within(given: Sequence[Given], limit: int) -> int:
    """How many of the first events have at most ``limit`` updates together; one of them at least, as what one makes comes together."""
    updates = accumulate(len(each.updates) for each in given)
    return max(1, sum(total <= limit for total in updates))


class Polling:
    """The pollers of one bot, until it is closed."""

    def __init__(self, feed: Feed, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._feed = feed
        self._monotonic = monotonic
        self._plain = Window()
        self._leased: dict[str, Window] = {}
        self._waiting: dict[
            asyncio.Task[list[Given]], ApiError | None
        ] = {}  # who waits, and what they are told if they are ended
        self._poller: asyncio.Task[list[Given]] | None = None
        self._polled_at = -math.inf  # when somebody polled without a lease last
        self._closed: ApiError | None = None  # what all are told from then on

    # --- as at Telegram ---

    async def poll(self, *, offset: int, limit: int, wait: float) -> list[Json]:
        """What is there from ``offset`` on; what is before is over. Waits up to ``wait`` seconds for something.

        Raises:
            Conflict: another poller came.
            BadRequest: ``offset`` is beyond all numbers that an update could have soon.
        """
        self._end_poller()
        self._polled_at = self._monotonic()
        self._plain.drop_ended(self._polled_at)
        await self._over(self._plain, self._plain.confirm(offset))
        again = self._plain.updates(offset, limit)
        if len(again) < limit:
            await self._poll_more(offset, limit - len(again), 0 if again else wait)
        return self._plain.updates(offset, limit)

    async def _poll_more(self, offset: int, most: int, wait: float) -> None:
        self._end_poller()  # another one may have come between
        taking = self._poller = self._take(PLAIN, most, wait, PLAIN_LEASE, above=offset)
        try:
            self._plain.add(await self._outcome(taking))
        finally:
            self._polled_at = self._monotonic()
            if self._poller is taking:
                self._poller = None

    def _end_poller(self) -> None:
        poller, self._poller = self._poller, None
        if poller is not None:
            self._end(poller, Conflict("Conflict: terminated by other getUpdates request"))

    async def forget_all(self, *, but: int = 0) -> None:
        """Let everything be over that waits, but the latest ``but`` events."""
        self._plain.drop_ended(self._monotonic())
        while True:
            kept, self._plain.given = sorted(self._plain.given, key=lambda given: given.leased.number), []
            cut = max(0, len(kept) - but)
            self._plain.add(kept[cut:])
            await self._over(self._plain, kept[:cut])
            more = await self._feed.take(1000, lease=PLAIN_LEASE, consumer=PLAIN, wait=0, of_one_chat=1000)
            if not more:
                return
            self._plain.add(more)

    # --- with leases ---

    async def lease(self, consumer: str, *, limit: int, wait: float, lease: float) -> list[Json]:
        """The next updates, which are ``consumer``'s for ``lease`` seconds. Each call gives others.

        They are at most ``limit``, unless one event alone makes more.

        Raises:
            TooMany: of consumers.
            Conflict: somebody polls without a lease, and has not confirmed what they were given.
        """
        window = self._window(consumer)
        window.waiting += 1
        try:
            await self._release_plain()
            given = await self._outcome(self._take(consumer, limit, wait, lease))
            most = within(given, limit)
            window.add(given[:most])
            await self._feed.release(given[most:])
        finally:
            window.waiting -= 1
        return [update for each in given[:most] for update in each.updates]

    async def _release_plain(self) -> None:
        """Whoever polled without a lease a while ago has gone over to leases: what they had is for whoever asks."""
        now = self._monotonic()
        self._plain.drop_ended(now)
        if self._plain.given and now - self._polled_at < PLAIN_QUIET:
            raise Conflict("Conflict: updates that were given without a lease are not confirmed")
        released, self._plain.given = self._plain.given, []
        await self._feed.release(released)

    async def confirm(self, consumer: str, numbers: Iterable[int]) -> int:
        """These are over; returns how many events that were. Of an event with several updates, the last one is confirmed."""
        window = self._window(consumer)
        over = window.take(numbers)
        await self._over(window, over)
        return len(over)

    async def _over(self, window: Window, over: list[Given]) -> None:
        """These, which ``window`` had, are over; if that cannot be written, it has them still."""
        try:
            await self._feed.handled(over)
        except BaseException:
            window.add(over)
            raise

    async def fail(self, consumer: str, numbers: Iterable[int]) -> int:
        """These are to be tried again after a pause; returns how many were tried so often that they are parked."""
        window, parked = self._window(consumer), 0
        failed = window.take(numbers)
        while failed:
            try:
                parked += await self._feed.failed(failed[0], "Refused")
            except BaseException:
                window.add(failed)
                raise
            del failed[0]
        return parked

    async def release(self, consumer: str) -> None:
        """Give back what ``consumer`` has, at once."""
        window = self._leased.pop(consumer, None)
        if window is not None:
            await self._feed.release(window.given)

    # --- waiting, and its end ---

    def _take(
        self, consumer: str, most: int, wait: float, lease: float, *, above: int = 0
    ) -> asyncio.Task[list[Given]]:
        if self._closed is not None:
            raise self._closed
        taking = asyncio.create_task(
            self._feed.take(most, lease=lease, consumer=consumer, wait=wait, of_one_chat=of_one_chat(most), above=above)
        )
        self._waiting[taking] = None
        return taking

    async def _outcome(self, taking: asyncio.Task[list[Given]]) -> list[Given]:
        try:
            given = await taking
        except asyncio.CancelledError:
            if taking.done() and not taking.cancelled() and taking.exception() is None:
                await self._feed.release(taking.result())  # it came at the same moment
            told = self._waiting.get(taking)
            if told is None:
                raise  # the request itself is over
            raise told from None
        finally:
            self._waiting.pop(taking, None)
        if self._closed is not None:
            await self._feed.release(given)
            raise self._closed
        return given

    def _end(self, taking: asyncio.Task[list[Given]], told: ApiError) -> None:
        if taking in self._waiting:
            self._waiting[taking] = told
            taking.cancel()

    def end_waiting(self, told: ApiError | None = None) -> None:
        """Answer all who wait with ``told``; by default that the bot is not there now."""
        for taking in list(self._waiting):
            self._end(taking, told or Unavailable())

    async def close(self, told: ApiError | None = None) -> None:
        """End all who wait, give everything back, and give nothing out any more: who asks is told the same."""
        self._closed = told or Unavailable()
        self.end_waiting(told)
        await self._feed.release(self._plain.given)
        self._plain.given = []
        for consumer in list(self._leased):
            await self.release(consumer)

    def _window(self, consumer: str) -> Window:
        now = self._monotonic()
        for window in self._leased.values():
            window.drop_ended(now)
        if consumer not in self._leased and len(self._leased) >= MAX_CONSUMERS:
            self._leased = {name: window for name, window in self._leased.items() if window.given or window.waiting}
            if len(self._leased) >= MAX_CONSUMERS:
                raise TooMany
        return self._leased.setdefault(consumer, Window())
