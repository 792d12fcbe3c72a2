"""What the tests of the assistant share: one engine, one worker of libsignal, and worlds."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ai_enclave.engine import EmbeddedEngine
from signal_protocol.operations import SignalCrypto
from tests.relays import Relays, TlsFiles
from tests.servers import Postgres
from tests.system.assistant.desk import Desk, GatedEngine, a_desk
from tests.system.assistant.world import ENCLAVES, World, a_world


@pytest.fixture(scope="session")
def engine() -> EmbeddedEngine:
    """all-MiniLM-L6-v2 from its wheel, verified."""
    return EmbeddedEngine.load()


@pytest.fixture(scope="session")
async def crypto() -> AsyncIterator[SignalCrypto]:
    """The clients' libsignal; each enclave has its own."""
    async with SignalCrypto.start() as started:
        yield started


@pytest.fixture(scope="session")
async def lasting_relays(
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_template: Path,
    postgres: Postgres,
    postgres_template: str,
    valkey_url: str,
    tls_files: TlsFiles,
) -> AsyncIterator[Relays]:
    """As ``relays``, for all tests here."""
    folder = tmp_path_factory.mktemp("relays")
    async with AsyncExitStack() as databases, AsyncExitStack() as running:
        yield Relays(databases, running, folder, sqlite_template, postgres, postgres_template, valkey_url, tls_files)


@pytest.fixture(scope="session")
async def world_of_all(lasting_relays: Relays, crypto: SignalCrypto, engine: EmbeddedEngine) -> AsyncIterator[World]:
    """Three people, two enclaves; nobody has opted in."""
    async with a_world(await lasting_relays.start("sqlite"), crypto, engine) as started:
        yield started


@pytest.fixture(scope="module")
async def world_of_module(lasting_relays: Relays, crypto: SignalCrypto, engine: EmbeddedEngine) -> AsyncIterator[World]:
    """The same for the tests of a module that treat it roughly, and make of it their own ``world``."""
    async with a_world(await lasting_relays.start("sqlite"), crypto, engine) as started:
        yield started


@pytest.fixture
async def world(world_of_all: World) -> AsyncIterator[World]:
    """The same people and enclaves for all tests, in a new conversation; at the end nothing of it may be lost."""
    await world_of_all.begin()
    yield world_of_all
    await world_of_all.end()


@pytest.fixture
async def new_world(relays: Relays, crypto: SignalCrypto, engine: EmbeddedEngine) -> AsyncIterator[World]:
    """A world for one test, which may break it."""
    async with a_world(await relays.start("sqlite"), crypto, engine) as started:
        yield started
        await started.end()


@pytest.fixture(scope="module")
async def desk_of_module(lasting_relays: Relays, crypto: SignalCrypto, engine: EmbeddedEngine) -> AsyncIterator[World]:
    """A world with one enclave, whose engine has a gate."""
    async with a_world(
        await lasting_relays.start("sqlite"), crypto, GatedEngine(engine), enclaves=ENCLAVES[:1]
    ) as started:
        yield started


@pytest.fixture
async def desk(desk_of_module: World) -> AsyncIterator[Desk]:
    """The same for all tests of a module, in a new conversation."""
    await desk_of_module.begin()
    async with a_desk(desk_of_module) as found:
        yield found


@pytest.fixture
async def new_desk(relays: Relays, crypto: SignalCrypto, engine: EmbeddedEngine) -> AsyncIterator[Desk]:
    """The same for one test, which may end the enclave."""
    async with (
        a_world(await relays.start("sqlite"), crypto, GatedEngine(engine), enclaves=ENCLAVES[:1]) as world,
        a_desk(world) as found,
    ):
        yield found
