"""What runs in the background ends with its block, also if it swallows a cancellation."""

import asyncio
from contextlib import suppress

import pytest

from messaging.relay.tasks import end, running


async def deaf(times: int, heard: list[int]) -> None:
    """Go on for ever, and take no notice of the first ``times`` cancellations, as libraries do."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append(len(heard))
            if len(heard) > times:
                raise


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_what_swallows_a_cancellation_ends_all_the_same(times: int) -> None:
    heard: list[int] = []
    async with asyncio.timeout(10):
        async with running(deaf(times, heard)):
            await asyncio.sleep(0)
    assert len(heard) == times + 1


async def test_whoever_is_cancelled_while_ending_others_still_ends_them_first() -> None:
    heard: list[int] = []
    inner = asyncio.create_task(deaf(2, heard))
    await asyncio.sleep(0)
    ending = asyncio.create_task(end([inner]))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert inner.cancelled()


async def test_an_error_ends_its_task_alone_and_is_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail() -> None:
        raise ValueError("a word that belongs in no log")

    heard: list[int] = []
    async with running(fail(), deaf(0, heard)):
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.05)
        assert heard == []
    assert "a word" not in "".join(capsys.readouterr())
