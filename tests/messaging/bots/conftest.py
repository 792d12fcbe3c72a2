"""A gateway with one bot, for most tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.messaging.bots.gateways import Api, running_api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A bot of a gateway."""
    async with running_api(tmp_path) as api:
        yield api
