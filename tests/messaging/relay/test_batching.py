"""Group commit: everybody is answered once, in order, and what waits is bounded."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists

from messaging.relay import tasks
from messaging.relay.batching import Bounds, GroupCommit, Refused
from messaging.relay.errors import NotFound, RelayError, Unavailable

WIDE = Bounds(batch_items=100, batch_bytes=10_000, waiting_items=1000, waiting_bytes=100_000)


class Store:
    """Writes numbers; ``gate`` holds it up, ``bad`` ones make it refuse."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.bad: set[int] = set()
        self.error: Exception | None = None

    async def write(self, numbers: Sequence[int]) -> Sequence[int | RelayError]:
        self.batches.append(list(numbers))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if self.bad & set(numbers):
            raise Refused from ValueError("bad")
        return [number * 2 for number in numbers]


@asynccontextmanager
async def committing(store: Store, bounds: Bounds = WIDE) -> AsyncIterator[GroupCommit[int, int]]:
    commits = GroupCommit(store.write, bounds)
    task = asyncio.create_task(commits.run())
    try:
        yield commits
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_what_comes_during_a_write_goes_together_into_the_next() -> None:
    store = Store()
    store.gate.clear()
    async with committing(store) as commits:
        first = commits.submit(1)
        await asyncio.sleep(0)
        rest = [commits.submit(number) for number in range(2, 6)]
        store.gate.set()
        assert await asyncio.gather(first, *rest) == [2, 4, 6, 8, 10]
    assert store.batches == [[1], [2, 3, 4, 5]]


@given(sizes=lists(integers(0, 50), min_size=1, max_size=40))
async def test_each_is_written_once_in_order_and_no_batch_is_too_large(sizes: list[int]) -> None:
    store, bounds = Store(), Bounds(batch_items=7, batch_bytes=60, waiting_items=1000, waiting_bytes=100_000)
    async with committing(store, bounds) as commits:
        results = await asyncio.gather(*(commits.submit(number, size) for number, size in enumerate(sizes)))
    assert results == [number * 2 for number in range(len(sizes))]
    assert [number for batch in store.batches for number in batch] == list(range(len(sizes)))
    for batch in store.batches:
        assert len(batch) <= 7
        assert len(batch) == 1 or sum(sizes[number] for number in batch) <= 60


@pytest.mark.parametrize(
    ("bounds", "sizes"),
    [(Bounds(9, 900, 2, 900), (1, 1)), (Bounds(9, 900, 99, 10), (4, 6))],
    ids=["items", "bytes"],
)
async def test_beyond_the_bounds_callers_are_refused_at_once(bounds: Bounds, sizes: tuple[int, int]) -> None:
    store = Store()
    store.gate.clear()
    async with committing(store, bounds) as commits:
        running = commits.submit(0)
        await asyncio.sleep(0)
        waiting = [commits.submit(number, size) for number, size in enumerate(sizes, start=1)]
        with pytest.raises(Unavailable):
            commits.submit(9, 1)
        store.gate.set()
        assert await asyncio.gather(running, *waiting) == [0, 2, 4]
        assert await commits.submit(9, 1) == 18


async def test_one_item_may_be_larger_than_the_bounds() -> None:
    store = Store()
    async with committing(store, Bounds(9, 10, 9, 10)) as commits:
        assert await commits.submit(1, 1000) == 2


async def test_one_bad_item_fails_alone() -> None:
    store = Store()
    store.bad, store.gate = {2}, asyncio.Event()
    async with committing(store) as commits:
        running = commits.submit(0)
        await asyncio.sleep(0)
        waiting = [commits.submit(number) for number in (1, 2, 3)]
        store.gate.set()
        found = await asyncio.gather(running, *waiting, return_exceptions=True)
    assert [found[0], found[1], found[3]] == [0, 2, 6]
    assert isinstance(found[2], ValueError)


async def test_after_a_failure_the_next_batch_is_tried() -> None:
    store = Store()
    store.error = ConnectionError()
    async with committing(store) as commits:
        with pytest.raises(ConnectionError):
            await commits.submit(1)
        store.error = None
        assert await commits.submit(1) == 2


async def test_who_stops_waiting_takes_nothing_back() -> None:
    store = Store()
    store.gate.clear()
    async with committing(store) as commits:
        gone, stays = commits.submit(1), commits.submit(2)
        await asyncio.sleep(0)
        gone.cancel()
        store.gate.set()
        assert await stays == 4
    assert store.batches == [[1, 2]]


async def test_to_settle_is_to_wait_for_what_was_there_and_not_for_what_comes() -> None:
    store = Store()
    async with committing(store, Bounds(1, 1, 99, 99)) as commits:
        await commits.settle()
        commits.post(1)
        settling = asyncio.create_task(commits.settle())
        await asyncio.sleep(0)
        store.gate.clear()
        later = commits.submit(2)
        async with asyncio.timeout(5):
            await settling
        assert not later.done()
        store.gate.set()
        await later


async def test_at_the_end_nobody_is_left_waiting() -> None:
    store = Store()
    store.gate.clear()
    async with committing(store) as commits:
        running = commits.submit(1)
        await asyncio.sleep(0)
        waiting = commits.submit(2)
        await asyncio.sleep(0)
    for each in (running, waiting):
        with pytest.raises(Unavailable):
            await each
    with pytest.raises(Unavailable):
        commits.submit(3)


async def test_a_store_that_is_away_is_told_to_all_who_wait_and_not_tried_for_each() -> None:
    store = Store()
    store.gate.clear()
    store.error = Unavailable()
    async with committing(store, Bounds(1, 1, 99, 99)) as commits:
        running = commits.submit(1)
        await asyncio.sleep(0)
        waiting = [commits.submit(number) for number in (2, 3)]
        store.gate.set()
        found = await asyncio.gather(running, *waiting, return_exceptions=True)
        assert [type(each) for each in found] == [Unavailable] * 3
        assert store.batches == [[1]]
        store.error = None
        assert await commits.submit(4) == 8


async def test_a_result_that_is_an_error_is_its_callers_alone() -> None:
    async def write(numbers: Sequence[int]) -> Sequence[int | RelayError]:
        return [NotFound() if number == 2 else number for number in numbers]

    commits: GroupCommit[int, int] = GroupCommit(write, WIDE)
    async with tasks.running(commits.run()):
        found = await asyncio.gather(*map(commits.submit, (1, 2, 3)), return_exceptions=True)
    assert (found[0], type(found[1]), found[2]) == (1, NotFound, 3)


async def test_whoever_is_tried_alone_when_the_end_comes_is_not_left_waiting() -> None:
    store = Store()
    store.bad = {2}

    async def write(numbers: Sequence[int]) -> Sequence[int | RelayError]:
        if numbers == [3]:
            store.gate.clear()
        return await store.write(numbers)

    commits: GroupCommit[int, int] = GroupCommit(write, WIDE)
    async with tasks.running(commits.run()):
        waiting = [commits.submit(number) for number in (1, 2, 3, 4)]
        assert await waiting[0] == 2
        await asyncio.sleep(0.01)
    for each in waiting[2:]:
        with pytest.raises(Unavailable):
            await each
    await commits.settle()


async def test_where_nobody_waits_a_write_takes_what_comes_in_a_moment() -> None:
    store = Store()
    async with committing(store, replace(WIDE, delay_seconds=0.05)) as commits:
        for number in range(5):
            commits.post(number)
            await asyncio.sleep(0.002)
        assert store.batches == []
        await asyncio.sleep(0.1)
        assert store.batches == [[0, 1, 2, 3, 4]]


async def test_a_moment_ends_early_when_a_batch_is_full_or_somebody_waits() -> None:
    store = Store()
    async with committing(store, Bounds(3, 99, 99, 99, delay_seconds=60)) as commits, asyncio.timeout(10):
        for number in range(4):
            commits.post(number)
        while not store.batches:
            await asyncio.sleep(0)
        assert store.batches == [[0, 1, 2]]
        await commits.settle()
        assert store.batches == [[0, 1, 2], [3]]
