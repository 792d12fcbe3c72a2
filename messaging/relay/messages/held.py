"""Mailboxes that somebody else keeps locked, as a relay whose machine was lost in the middle of a transaction does.

They hold up what concerns them, for a while, and nothing else.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TypeVar

from messaging.relay.errors import Unavailable
from messaging.relay.lanes import Lane, LockHeld
from messaging.relay.messages.tables import locked_mailboxes

T = TypeVar("T")

HELD_SECONDS = 5


class Held:
    """Which mailboxes are held. ``clock`` gives seconds and never goes back."""

    def __init__(self, lane: Lane, clock: Callable[[], float] = time.monotonic) -> None:
        self._lane = lane
        self._clock = clock
        self._until: dict[int, float] = {}

    def __bool__(self) -> bool:
        """Whether there was one lately."""
        return bool(self._until)

    def any_of(self, mailbox_ids: Iterable[int]) -> bool:
        """Whether one of them was held a moment ago."""
        now = self._clock()
        return any(self._until.get(each, now) > now for each in mailbox_ids)

    async def beside(self, mailbox_ids: Iterable[int], work: Callable[[], Awaitable[T]]) -> T:
        """Do ``work`` on these mailboxes, which leaves out what is held; once more if it meets a lock that was not known of.

        Raises:
            Unavailable: the database cannot be reached, or it is no mailbox that is locked.
        """
        try:
            return await work()
        except LockHeld:
            await self._look(set(mailbox_ids))
        try:
            return await work()
        except LockHeld:
            raise Unavailable from None

    async def _look(self, mailbox_ids: Collection[int]) -> None:
        async with self._lane.batch() as db:
            locked = await locked_mailboxes(db, mailbox_ids)
        self._until = dict.fromkeys(locked, self._clock() + HELD_SECONDS)
