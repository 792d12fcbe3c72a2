"""A database that is away, or takes no changes: said clearly, nothing done without its entry, and good again afterwards."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from messaging.relay.database import normalise_url
from messaging.relay.migrate import migrate
from tests.consoles import Browser, StartedConsole, start_console
from tests.relays import Relays
from tests.servers import PostgresServer, own_postgres

CHANGE = {"parameters": {"limit": "messages", "atOnce": 100, "refillSeconds": 1}, "reason": "a test"}


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL that a test may kill."""
    with own_postgres({"listen_addresses": "", "fsync": "off"}) as started:
        yield started


@pytest.fixture
async def console(relays: Relays, server: PostgresServer) -> AsyncIterator[StartedConsole]:
    """A console on it."""
    await migrate(normalise_url(server.url))
    async with AsyncExitStack() as stack:
        yield await start_console(relays, stack, "postgresql", database_url=server.url)


async def read_only(browser: Browser, url: str, value: str) -> None:
    """Let whoever connects from now on write nothing, or again; the console finds a connection."""
    connection = await asyncpg.connect(url, server_settings={"default_transaction_read_only": "off"})
    await connection.execute(f"ALTER DATABASE postgres SET default_transaction_read_only = {value}")
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    await connection.close()
    await answers(browser)


async def answers(browser: Browser) -> None:
    async with asyncio.timeout(20):
        while (await browser.get("/api/v1/views/limits.show")).status != 200:
            await asyncio.sleep(0.05)


async def test_a_database_that_is_away_is_named_and_is_back_as_it_comes_back(
    console: StartedConsole, server: PostgresServer
) -> None:
    owner = await console.owner()
    server.kill()
    page, figures = await owner.get("/"), await owner.get("/api/v1/views/overview.show")
    done = await owner.post_json("/api/v1/actions/limits.change", CHANGE)
    assert [answer.status for answer in (page, figures, done)] == [503] * 3
    assert "The database gives no answer now" in page.text
    assert figures.json["code"] == done.json["code"] == "unavailable"
    server.start()
    await answers(owner)
    assert (await owner.get("/")).status == 200
    assert (await owner.get("/api/v1/views/limits.show")).json["version"] == 0


async def test_on_a_database_that_takes_no_changes_nothing_of_accounts_is_shown_and_nothing_done(
    console: StartedConsole, server: PostgresServer
) -> None:
    owner = await console.owner()
    await read_only(owner, server.url, "on")
    assert (await owner.post_json("/api/v1/views/accounts.search", {})).status == 503
    done = await owner.post_json("/api/v1/actions/limits.change", CHANGE)
    assert (done.status, done.json["code"]) == (503, "unavailable")
    assert (await owner.get("/api/v1/views/limits.show")).json["version"] == 0
    await read_only(owner, server.url, "off")
    done = await owner.post_json("/api/v1/actions/limits.change", CHANGE)
    assert done.status == 200
