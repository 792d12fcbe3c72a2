"""A console for each test."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.consoles import StartedConsole, start_console
from tests.relays import Relays


@pytest.fixture
async def console(relays: Relays) -> AsyncIterator[StartedConsole]:
    """A console on SQLite, with a clock that stands, and no operator yet."""
    async with AsyncExitStack() as stack:
        yield await start_console(relays, stack)
