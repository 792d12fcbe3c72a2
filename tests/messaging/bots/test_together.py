"""Callers that come while others are served are served together."""

import asyncio
from collections.abc import Sequence

import pytest

from messaging.bots.together import Together


async def test_those_who_come_meanwhile_share_the_next_round() -> None:
    rounds: list[list[int]] = []
    gate = asyncio.Event()

    async def work(items: Sequence[int]) -> Sequence[int | Exception]:
        rounds.append(list(items))
        await gate.wait()
        return [10 * item for item in items]

    together: Together[int, int] = Together(work)
    first = asyncio.create_task(together(1))
    while not rounds:
        await asyncio.sleep(0)
    others = [asyncio.create_task(together(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30]
    assert rounds == [[1], [2, 3]]
    await together.close()


async def test_an_outcome_that_is_an_error_is_its_callers_alone() -> None:
    async def work(items: Sequence[int]) -> Sequence[int | Exception]:
        return [ValueError("odd") if item % 2 else item for item in items]

    together: Together[int, int] = Together(work)
    good, bad = await asyncio.gather(together(2), together(3), return_exceptions=True)
    assert good == 2
    assert isinstance(bad, ValueError)


async def test_an_error_of_the_work_is_everybodys() -> None:
    async def work(_: Sequence[int]) -> Sequence[int | Exception]:
        raise OSError("the disk")

    together: Together[int, int] = Together(work)
    for outcome in await asyncio.gather(together(1), together(2), return_exceptions=True):
        assert isinstance(outcome, OSError)


async def test_what_was_begun_is_done_although_the_caller_has_gone() -> None:
    done: list[int] = []

    async def work(items: Sequence[int]) -> Sequence[int | Exception]:
        await asyncio.sleep(0)
        done.extend(items)
        return list(items)

    together: Together[int, int] = Together(work)
    task = asyncio.create_task(together(1))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await together.close()
    assert done == [1]
