"""The revisions: from nothing to the tables of the code, back, and forward again; on both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Uuid, bindparam, inspect, text
from sqlalchemy.engine import URL

import messaging.relay.admin.operator_tables
import messaging.relay.admin.registry
import messaging.relay.app
import messaging.relay.node_tables  # noqa: F401 - these define all tables
from messaging.relay.accounts.tables import assistants
from messaging.relay.database import Base, normalise_url, open_database
from messaging.relay.errors import StartupError
from messaging.relay.migrate import migrate, require_current
from tests.servers import Postgres


@pytest.fixture
async def empty(backend: str, tmp_path: Path, postgres: Postgres) -> AsyncIterator[URL]:
    """A database without any table."""
    if backend == "sqlite":
        yield normalise_url(f"sqlite:///{tmp_path / 'empty.db'}")
        return
    name = await postgres.create()
    yield normalise_url(postgres.url_of(name))
    await postgres.drop(name)


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata))


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_from_nothing_the_revisions_make_the_tables_of_the_code(empty: URL) -> None:
    await migrate(empty)
    database = open_database(empty)
    async with database.begin() as db:
        assert await db.run_sync(differences) == []
        assert await db.run_sync(tables) == {*Base.metadata.tables, "alembic_version"}
    await database.close()


async def test_every_step_goes_back_and_forward_again(empty: URL) -> None:
    for _ in range(2):
        await migrate(empty)
        await migrate(empty, revision="base")
        database = open_database(empty)
        async with database.begin() as db:
            assert await db.run_sync(tables) == {"alembic_version"}
        await database.close()
    await migrate(empty)
    await require_current(empty)


async def test_accounts_from_before_there_were_roles_are_members_and_survive_the_way_back(empty: URL) -> None:
    await migrate(empty, revision="0001")
    database = open_database(empty)
    add = "INSERT INTO accounts (aci, aci_identity_key, unrestricted_access) VALUES (:aci, :key, :no)"
    async with database.begin() as db:
        await db.execute(
            text(add).bindparams(bindparam("aci", type_=Uuid())), {"aci": uuid4(), "key": b"k", "no": False}
        )
    await migrate(empty)
    async with database.begin() as db:
        assert (await db.execute(text("SELECT role FROM accounts"))).scalars().all() == ["member"]
    await migrate(empty, revision="0001")
    async with database.begin() as db:
        assert (await db.execute(text("SELECT id FROM accounts"))).scalars().all() == [1]
    await database.close()


async def test_assistants_from_before_they_could_drain_take_requests(empty: URL) -> None:
    await migrate(empty, revision="0003")
    database = open_database(empty)
    add = "INSERT INTO accounts (aci, aci_identity_key, unrestricted_access, assistant_name) VALUES (:aci, :key, :no, :name)"
    values = {"aci": uuid4(), "key": b"k", "no": False, "name": "scribe"}
    async with database.begin() as db:
        await db.execute(text(add).bindparams(bindparam("aci", type_=Uuid())), values)
    await migrate(empty)
    async with database.begin() as db:
        assert [(each.name, each.accepting) for each in await assistants(db)] == [("scribe", True)]
        # A relay of the version before adds accounts too, while the new one begins.
        old = {**values, "aci": uuid4(), "name": "other"}
        await db.execute(text(add).bindparams(bindparam("aci", type_=Uuid())), old)
        assert [(each.name, each.accepting) for each in await assistants(db)] == [("other", True), ("scribe", True)]
    await migrate(empty, revision="0003")
    async with database.begin() as db:
        assert (await db.execute(text("SELECT count(*) FROM accounts"))).scalar_one() == 2
    await database.close()


async def test_two_that_start_at_once_do_not_meet(empty: URL) -> None:
    await asyncio.gather(*(migrate(empty) for _ in range(4)))
    await require_current(empty)


async def test_without_migrating_an_older_or_newer_schema_is_refused(empty: URL) -> None:
    with pytest.raises(StartupError, match="no-migrate"):
        await require_current(empty)
    await migrate(empty)
    await migrate(empty)  # nothing to do
    database = open_database(empty)
    async with database.begin() as db:
        await db.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))
    await database.close()
    with pytest.raises(StartupError, match="no-migrate"):
        await require_current(empty)
    with pytest.raises(StartupError, match="newer version"):
        await migrate(empty)


async def test_a_database_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(StartupError, match="cannot be reached"):
        await migrate(normalise_url("postgresql://nobody@127.0.0.1:1/nothing"))


async def test_who_holds_tables_for_long_keeps_neither_relays_nor_a_migration_waiting(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.relay.migrate.LOCK_SECONDS", 1)
    monkeypatch.setattr("messaging.relay.migrate.LOCK_TRIES", 2)
    monkeypatch.setattr("messaging.relay.migrate.PAUSE_SECONDS", 0.1)
    name = await postgres.create()
    url = normalise_url(postgres.url_of(name))
    await migrate(url, revision="0004")
    database = open_database(url)
    async with database.begin() as backup:  # as pg_dump does, for as long as it takes
        await backup.execute(text("SELECT 1 FROM accounts LIMIT 1"))
        with pytest.raises(StartupError, match="a backup or another long transaction"):
            await migrate(url)
        async with database.read() as db:
            await db.execute(text("SELECT 1 FROM accounts LIMIT 1"))
    await migrate(url)
    await require_current(url)
    await database.close()
    await postgres.drop(name)


async def test_a_migration_that_meets_a_relays_transaction_crosswise_is_tried_again(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.relay.migrate.PAUSE_SECONDS", 0.1)
    name = await postgres.create()
    url = normalise_url(postgres.url_of(name))
    await migrate(url, revision="0004")
    database = open_database(url)
    waits = text("SELECT count(*) FROM pg_locks WHERE relation = 'accounts'::regclass AND NOT granted")
    async with database.begin() as relay:  # as where an account is deleted: first the account, then its envelopes
        await relay.execute(text("SELECT 1 FROM accounts LIMIT 1"))
        migrating = asyncio.create_task(migrate(url))
        async with asyncio.timeout(10), database.read() as db:
            while not await db.scalar(waits):
                await asyncio.sleep(0.01)
        await relay.execute(text("DELETE FROM envelopes"))
    await migrating
    await require_current(url)
    await database.close()
    await postgres.drop(name)
