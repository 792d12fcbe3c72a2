"""People who speak to a relay."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from messaging.relay.database import Database, normalise_url, open_database
from tests.devices import Device, MakePeer, Peer
from tests.relays import Relays, StartedRelay


@pytest.fixture
async def peer_of() -> AsyncIterator[MakePeer]:
    """Makes somebody who speaks to a given relay."""
    async with aiohttp.ClientSession() as http:
        yield lambda relay: Peer(relay, http)


@pytest.fixture
def peer(relay: StartedRelay, peer_of: MakePeer) -> Peer:
    """Somebody who speaks to the relay."""
    return peer_of(relay)


@pytest.fixture
async def alice(peer: Peer) -> Device:
    """A registered device."""
    return await peer.register()


@pytest.fixture
async def bob(peer: Peer) -> Device:
    """Another one."""
    return await peer.register()


@pytest.fixture
async def database(relays: Relays, backend: str, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database with the present schema."""
    opened = open_database(normalise_url(await relays.database(backend, tmp_path)))
    yield opened
    await opened.close()
