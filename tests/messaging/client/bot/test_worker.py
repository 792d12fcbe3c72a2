"""In order within a conversation, side by side across conversations; stopping loses nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from messaging.client.bot.inbox import FIRST_PAUSE, Inbox, Leased
from messaging.client.bot.worker import RUN, Worker
from messaging.client.errors import StoreFailed
from messaging.client.events import Event
from messaging.client.stores import Store
from messaging.client.testing import Clock
from tests.messaging.client.bot.events import a_conversation, a_message, a_store, an_inbox, tell

SECONDS = 10  # until a test gives up waiting


@dataclass
class World:
    """A store, its inbox, and what was handled."""

    store: Store
    inbox: Inbox
    clock: Clock
    handled: list[Event] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def note(self, leased: Leased) -> None:
        """A handler."""
        self.handled.append(leased.event)
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something."""
        async with asyncio.timeout(SECONDS):
            while not holds():
                await asyncio.sleep(0.001)

    @asynccontextmanager
    async def working(
        self, handle: Callable[[Leased], Awaitable[None]], *, at_once: int = 4, limit: float = 60, pause: float = 0.001
    ) -> AsyncIterator[tuple[Worker, "asyncio.Task[None]"]]:
        """A worker, until the end of the block."""
        worker = Worker(self.inbox, handle, at_once=at_once, limit=limit, store_pause=pause)
        running = asyncio.create_task(worker.run())
        try:
            yield worker, running
        finally:
            worker.stop()
            await asyncio.wait_for(asyncio.gather(running, return_exceptions=True), SECONDS)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = Clock()
    async with a_store() as store:
        yield World(store, await an_inbox(store, clock), clock)


async def test_events_of_a_conversation_are_handled_in_order_and_one_at_a_time(world: World) -> None:
    key, running = a_conversation(), 0

    async def handle(leased: Leased) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        await world.note(leased)
        running -= 1

    told = [a_message(key, number) for number in range(3 * RUN)]
    async with world.working(handle):
        await tell(world.store, world.inbox, *told)
        await world.until(lambda: len(world.handled) == len(told))
    assert world.handled == told
    assert world.inbox.waiting == 0


async def test_conversations_are_handled_side_by_side_up_to_a_number(world: World) -> None:
    running, most, go = 0, 0, asyncio.Event()

    async def handle(leased: Leased) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1
        await world.note(leased)

    await tell(world.store, world.inbox, *(a_message(a_conversation(), 1) for _ in range(10)))
    async with world.working(handle, at_once=3):
        await world.until(lambda: running == 3)
        go.set()
        await world.until(lambda: len(world.handled) == 10)
    assert most == 3


async def test_what_fails_is_tried_again_before_what_follows(world: World) -> None:
    key, attempts = a_conversation(), []

    async def handle(leased: Leased) -> None:
        attempts.append((leased.event.timestamp, leased.attempt))
        if leased.event == told[1] and leased.attempt == 1:
            raise RuntimeError
        await world.note(leased)

    told = [a_message(key, number) for number in range(4)]
    await tell(world.store, world.inbox, *told)
    async with world.working(handle):
        await world.until(lambda: len(attempts) == 2 and world.inbox.idle)
        world.clock.advance(FIRST_PAUSE)
        world.inbox.wake()
        await world.until(lambda: len(world.handled) == 4)
    assert world.handled == told
    assert attempts == [(told[0].timestamp, 1), (told[1].timestamp, 1), *((each.timestamp, n) for each, n in zip(told[1:], [2, 1, 1], strict=True))]  # fmt: skip


async def test_a_handler_that_takes_too_long_is_interrupted_and_has_failed(world: World) -> None:
    async def handle(_: Leased) -> None:
        await asyncio.Event().wait()

    await tell(world.store, world.inbox, a_message(a_conversation(), 1))
    async with world.working(handle, limit=0.01):
        await world.until(lambda: world.inbox.next_change() is not None and world.inbox.idle)
    world.clock.advance(FIRST_PAUSE)
    [leased] = await world.inbox.take(1, lease=60)
    assert leased.attempt == 2


async def test_a_handler_that_interrupts_itself_has_failed(world: World) -> None:
    async def handle(_: Leased) -> None:
        raise asyncio.CancelledError

    await tell(world.store, world.inbox, a_message(a_conversation(), 1))
    async with world.working(handle) as (_, running):
        await world.until(lambda: world.inbox.next_change() is not None and world.inbox.idle)
        assert not running.done()
    world.clock.advance(FIRST_PAUSE)
    [leased] = await world.inbox.take(1, lease=60)
    assert leased.attempt == 2


async def test_stopping_lets_handlers_end_takes_nothing_more_and_gives_the_rest_back(world: World) -> None:
    key, began, go = a_conversation(), asyncio.Event(), asyncio.Event()

    async def handle(leased: Leased) -> None:
        began.set()
        await go.wait()
        await world.note(leased)

    told = [a_message(key, number) for number in range(3)]
    await tell(world.store, world.inbox, *told)
    async with world.working(handle) as (worker, running):
        await began.wait()
        worker.stop()
        await tell(world.store, world.inbox, a_message(a_conversation(), 1))
        go.set()
        await running
    assert world.handled == told[:1]
    left = await world.inbox.take(10, lease=60, per_conversation=10)
    assert [(each.event, each.attempt) for each in left[:2]] == [(told[1], 1), (told[2], 1)]
    assert len(left) == 3


async def test_a_handler_that_does_not_end_in_time_is_interrupted_and_its_event_given_back(world: World) -> None:
    began, interrupted = asyncio.Event(), []

    async def handle(leased: Leased) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            interrupted.append(leased.event)

    one = a_message(a_conversation(), 1)
    await tell(world.store, world.inbox, one)
    worker = Worker(world.inbox, handle, at_once=1, limit=60)
    running = asyncio.create_task(worker.run(grace=0.01))
    await began.wait()
    worker.stop()
    await running
    assert interrupted == [one]
    [leased] = await world.inbox.take(1, lease=60)
    assert leased.attempt == 1


async def test_a_worker_that_waits_stops_at_once(world: World) -> None:
    async with world.working(world.note) as (worker, running):
        await asyncio.sleep(0.001)
        worker.stop()
        await asyncio.wait_for(running, SECONDS)


class FullDisk(Store):
    """A store that cannot be written a few times."""

    failures = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[object]:  # type: ignore[override]
        """Fails, or does not."""
        if self.failures:
            type(self).failures -= 1
            raise StoreFailed
        async with super().transaction() as transaction:
            yield transaction


async def test_a_full_disk_is_waited_for_and_nothing_is_handled_twice(world: World) -> None:
    disk = FullDisk(world.store._db, world.store._sealer)
    world.inbox = await an_inbox(disk, world.clock)
    told = [a_message(a_conversation(), number) for number in range(3)]
    await tell(disk, world.inbox, *told)

    async def handle(leased: Leased) -> None:
        FullDisk.failures = 2
        await world.note(leased)

    async with world.working(handle, at_once=1):
        await world.until(lambda: len(world.handled) == 3 and world.inbox.idle)
    assert len({event.id for event in world.handled}) == 3
    assert world.inbox.waiting == 0


async def test_a_fault_that_is_no_handlers_ends_the_worker_and_is_raised(world: World) -> None:
    async def broken(*_: object, linger: float = 0.0) -> None:
        raise LookupError

    await tell(world.store, world.inbox, a_message(a_conversation(), 1))
    world.inbox.handled = broken  # type: ignore[method-assign]
    worker = Worker(world.inbox, world.note, at_once=1, limit=60)
    with pytest.raises(LookupError):
        await asyncio.wait_for(worker.run(), SECONDS)
