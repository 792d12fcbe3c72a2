"""Tasks beside a block of code, which certainly end with it.

A library can swallow a cancellation: redis-py does now and then, when it comes while a connection is being closed. Whoever is
told to end only once may then go on for ever, and a relay that drains would wait for it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from messaging.serving.logs import get_logger

AGAIN_SECONDS = 0.2


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel ``tasks`` until each of them has ended, whatever they make of it."""
    tasks = list(tasks)
    going_on, cancelled = set(tasks), False
    while going_on:
        for task in going_on:
            task.cancel()
        try:
            await asyncio.wait(going_on, timeout=AGAIN_SECONDS)
        except asyncio.CancelledError:
            cancelled = True  # they still have to end before we may
        going_on = {task for task in going_on if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # nobody else will look
    if cancelled:
        raise asyncio.CancelledError


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, None], failed: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Run all of ``work`` while the block lasts. What ends by an error of its own is in the log, and ``failed`` is called."""

    def look(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            get_logger().error("background_failed", error=type(error).__name__)
            failed()

    tasks = [asyncio.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(look)
    try:
        yield
    finally:
        await end(tasks)
