"""What a relay makes sure of before it serves."""

import time

import pytest
from sqlalchemy import text

from messaging.relay.clock import MAX_STEP_SECONDS
from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.errors import StartupError
from messaging.relay.preflight import check_promises
from tests.relays import Relays


@pytest.fixture
async def on_postgresql(relays: Relays) -> Database:
    """A database on PostgreSQL. The one of the tests runs with fsync=off and synchronous_commit=off, to be quick."""
    return open_database(normalise_url((await relays.settings("postgresql")).database_url))


@pytest.mark.parametrize(("off", "word"), [(MAX_STEP_SECONDS + 5, "ahead of"), (-MAX_STEP_SECONDS - 5, "behind")])
async def test_a_clock_that_is_far_from_the_databases_is_refused(
    on_postgresql: Database, off: float, word: str
) -> None:
    with pytest.raises(StartupError, match=f"{word} the database's"):
        await check_promises(on_postgresql, lambda _: None, now=lambda: time.time() + off)
    await check_promises(on_postgresql, lambda _: None, now=lambda: time.time() + MAX_STEP_SECONDS / 2)
    await on_postgresql.close()


async def test_a_server_that_does_not_write_to_its_disk_is_told(on_postgresql: Database) -> None:
    said: list[str] = []
    await check_promises(on_postgresql, said.append)
    assert said == ["PostgreSQL runs with fsync=off: what is accepted would not survive a power loss"]
    await on_postgresql.close()


async def test_with_sqlite_there_is_nothing_to_compare(relays: Relays) -> None:
    database = open_database(normalise_url((await relays.settings("sqlite")).database_url))
    await check_promises(database, lambda _: None, now=lambda: 0.0)
    await database.close()


async def test_what_is_accepted_is_on_the_disk_whatever_the_server_defaults_to(on_postgresql: Database) -> None:
    query = text("SELECT current_setting('synchronous_commit')")
    async with on_postgresql.begin() as db:
        assert (await db.execute(query)).scalar_one() == "on"
    async with on_postgresql.relaxed.connect() as db:
        assert (await db.execute(query)).scalar_one() == "off"
    await on_postgresql.close()
