"""Work in the background: a few things at a time, again and again whatever fails, and not too often where it does."""

import asyncio

import pytest

from messaging.client.background import AT_ONCE, Background, Patience, for_each


async def test_each_is_done_once_and_only_a_few_at_a_time() -> None:
    done: list[int] = []
    running, most = 0, 0

    async def do(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)

    await for_each(range(3 * AT_ONCE), do)
    assert sorted(done) == list(range(3 * AT_ONCE))
    assert most == AT_ONCE
    await for_each([], do)


def ignore(_error: Exception) -> None:
    """Of a failure."""


async def test_what_one_raises_ends_all_and_is_raised_as_it_is() -> None:
    done: list[int] = []

    async def do(item: int) -> None:
        await asyncio.sleep(0)
        if item == 1:
            raise ZeroDivisionError
        done.append(item)

    with pytest.raises(ZeroDivisionError):
        await for_each(range(10 * AT_ONCE), do)
    assert len(done) < 2 * AT_ONCE


async def test_it_works_at_once_then_when_woken_and_then_when_it_is_time() -> None:
    times = 0
    begun = asyncio.Event()

    async def work() -> None:
        nonlocal times
        times += 1
        begun.set()

    async def next_time() -> None:
        async with asyncio.timeout(5):
            await begun.wait()
        begun.clear()

    seldom = Background(work, 1000, ignore)
    task = asyncio.create_task(seldom.run())
    await next_time()
    seldom.wake()
    await next_time()
    task.cancel()
    often = asyncio.create_task(Background(work, 0.01, ignore).run())
    for _ in range(3):
        await next_time()
    often.cancel()
    await asyncio.gather(task, often, return_exceptions=True)
    assert times >= 5


async def test_who_wakes_it_while_it_works_has_it_done_again() -> None:
    times, twice = 0, asyncio.Event()

    async def work() -> None:
        nonlocal times
        times += 1
        if times == 1:
            background.wake()
        else:
            twice.set()

    background = Background(work, 1000, ignore)
    task = asyncio.create_task(background.run())
    async with asyncio.timeout(5):
        await twice.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_no_failure_ends_it_and_each_kind_is_told_once_until_it_goes_well_again() -> None:
    outcomes: list[Exception | None] = [KeyError(), KeyError(), ValueError(), KeyError(), None, KeyError()]
    told: list[type[Exception]] = []
    finished = asyncio.Event()

    async def work() -> None:
        if not outcomes:
            finished.set()
        elif (outcome := outcomes.pop(0)) is not None:
            raise outcome

    task = asyncio.create_task(Background(work, 0.001, lambda error: told.append(type(error))).run())
    async with asyncio.timeout(5):
        await finished.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == [KeyError, ValueError, KeyError, KeyError]


def test_patience_grows_with_each_failure_and_ends_with_success() -> None:
    now = 0.0
    patience = Patience(10, 100, lambda: now)
    assert patience.may_try("a")
    for seconds in (10, 40, 100, 100):
        patience.failed("a")
        now += seconds - 1
        assert not patience.may_try("a")
        assert patience.may_try("b")
        now += 1
        assert patience.may_try("a")
    patience.done("a")
    patience.done("a")
    patience.failed("a")
    now += 10
    assert patience.may_try("a")


def test_what_changes_while_something_is_tried_is_tried_again_at_once() -> None:
    patience = Patience(10, 100, lambda: 0.0)
    for _ in range(2):
        patience.begin("a")
        patience.change("a")
        patience.failed("a")
        assert patience.may_try("a")
    patience.begin("a")
    patience.failed("a")
    assert not patience.may_try("a")
    patience.change("a")
    assert patience.may_try("a")
