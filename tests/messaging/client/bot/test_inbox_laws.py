"""Whatever happens, in any order: each event is handled or parked, in order within its conversation, and by one at a time."""

import asyncio
import contextlib
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from messaging.client.bot.inbox import LONGEST_PAUSE, Inbox, Leased, LeaseLost
from messaging.client.errors import StoreFailed
from messaging.client.events import Event
from messaging.client.stores import Store
from messaging.client.testing import Clock
from messaging.client.testing.account import Disk
from tests.messaging.client.bot.events import KEY, a_conversation, a_message, an_inbox, tell

CONVERSATIONS = [a_conversation() for _ in range(3)]
LEASE = 50.0  # seconds
T = TypeVar("T")
conversations = st.sampled_from(CONVERSATIONS)


class RolledBack(Exception):
    """A transaction that does not come about."""


class InboxMachine(RuleBasedStateMachine):
    """A bot, and what it must believe: the lines of all conversations, what is in hand, and what is parked."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.clock = Clock()
        self.numbers = 0
        self.lines: dict[bytes, list[Event]] = {key: [] for key in CONVERSATIONS}
        self.hand: dict[bytes, list[Leased]] = {key: [] for key in CONVERSATIONS}
        self.parked: list[Event] = []
        self.over: list[Event] = []

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(doing)

    @initialize()
    def begin(self) -> None:
        self.store = Disk.of(self.run(self.stack.enter_async_context(Store.open(":memory:", KEY))))
        self.inbox: Inbox = self.run(an_inbox(self.store, self.clock))

    # --- what happens ---

    @rule(conversation=conversations, several=st.integers(1, 3))
    def journals(self, conversation: bytes, several: int) -> None:
        for _ in range(several):
            self.numbers += 1
            event = a_message(conversation, self.numbers)
            self.run(tell(self.store, self.inbox, event))
            self.lines[conversation].append(event)

    @rule(data=st.data())
    def journals_again(self, data: st.DataObject) -> None:
        known = [*self.parked, *self.over, *(event for line in self.lines.values() for event in line)]
        if known:
            self.run(tell(self.store, self.inbox, data.draw(st.sampled_from(known))))

    @rule(conversation=conversations)
    def rolls_back(self, conversation: bytes) -> None:
        async def fails() -> None:
            async with self.store.transaction() as transaction:
                self.inbox.journal(transaction, a_message(conversation, self.numbers + 1))
                raise RolledBack

        with contextlib.suppress(RolledBack):
            self.run(fails())
        self.run(self.inbox.sweep())  # looks at the store

    @rule(target=leases, most=st.integers(1, 6), run=st.integers(1, 3), several=st.integers(1, 3))
    def takes(self, most: int, run: int, several: int) -> tuple[Leased, ...]:
        self.note_ended()
        taken = self.run(self.inbox.take(most, lease=LEASE, per_conversation=run, conversations=several))
        assert len(taken) <= most
        for conversation in CONVERSATIONS:
            theirs = [each for each in taken if each.event.conversation == conversation]
            assert len(theirs) <= run
            if theirs:
                assert not self.hand[conversation]
                assert [each.event for each in theirs] == self.lines[conversation][: len(theirs)]
                self.hand[conversation] = theirs
        return tuple(taken)

    @rule(leased=consumes(leases), data=st.data())
    def handles(self, leased: tuple[Leased, ...], data: st.DataObject) -> None:
        some = data.draw(st.integers(0, len(leased)))
        mine = [each for each in leased[:some] if self.is_mine(each)]
        try:
            self.run(self.inbox.handled(*leased[:some]))
        except LeaseLost:
            assert len(mine) < some
        else:
            assert len(mine) == some
        for each in mine:
            self.hand[each.event.conversation].remove(each)
            self.lines[each.event.conversation].remove(each.event)
            self.over.append(each.event)

    @rule(leased=consumes(leases))
    def fails(self, leased: tuple[Leased, ...]) -> None:
        for each in leased[:1]:
            mine = self.is_mine(each)
            try:
                parked = self.run(self.inbox.failed(each, "Error"))
            except LeaseLost:
                assert not mine
                continue
            assert mine
            self.goes_back(each)
            if parked:
                self.lines[each.event.conversation].remove(each.event)
                self.parked.append(each.event)

    @rule(leased=consumes(leases))
    def gives_back(self, leased: tuple[Leased, ...]) -> None:
        self.run(self.inbox.release(*leased))
        for each in leased:
            if self.is_mine(each):
                self.goes_back(each)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, LEASE, LONGEST_PAUSE]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def crashes(self) -> None:
        self.store = self.run(self.store.pull_the_plug())
        self.inbox = self.run(an_inbox(self.store, self.clock))
        self.hand = {key: [] for key in CONVERSATIONS}
        self.see_parked()

    @rule()
    def replays(self) -> None:
        for each in self.run(self.inbox.parked())[:1]:
            self.run(self.inbox.replay(each.number))
            self.parked.remove(each.event)
            self.lines[each.event.conversation].append(each.event)

    # --- what must hold ---

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "inbox"):
            self.see_parked()
            assert self.inbox.waiting == sum(map(len, self.lines.values()))
            assert self.inbox.parked_count == len(self.parked)

    def teardown(self) -> None:
        """In the end everything that was told is handled, or parked."""
        if hasattr(self, "inbox"):
            self.run(self.drain())
            assert self.inbox.waiting == 0
        self.run(self.stack.aclose())
        self.runner.close()

    async def drain(self) -> None:
        while self.inbox.waiting:
            taken = await self.inbox.take(10, lease=LEASE, per_conversation=3)
            await self.inbox.handled(*taken)
            self.clock.advance(0 if taken else LONGEST_PAUSE)

    def is_mine(self, leased: Leased) -> bool:
        return any(each is leased for each in self.hand[leased.event.conversation])

    def goes_back(self, leased: Leased) -> None:
        """With all that follows it in its run."""
        hand = self.hand[leased.event.conversation]
        at = next(position for position, each in enumerate(hand) if each is leased)
        del hand[at:]

    def note_ended(self) -> None:
        """Leases that have ended are noticed when somebody takes, in the order of their events."""
        for hand in self.hand.values():
            if hand and hand[0].until <= self.clock.seconds():
                hand.clear()

    def see_parked(self) -> None:
        """What was parked because its attempts ended without a word."""
        for each in self.run(self.inbox.parked()):
            if each.event not in self.parked:
                self.lines[each.event.conversation].remove(each.event)
                self.parked.append(each.event)


InboxMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestInbox = InboxMachine.TestCase


def test_a_store_that_is_cut_off_writes_nothing_more() -> None:
    async def check() -> None:
        async with Store.open(":memory:", KEY) as store:
            opened = Disk.of(store)
            next_one = await opened.pull_the_plug()
            try:
                async with opened.transaction():
                    raise AssertionError
            except StoreFailed:
                pass
            async with next_one.transaction() as transaction:
                assert transaction.entries("event") == []

    asyncio.run(check())
