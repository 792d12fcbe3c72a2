"""One code path to two databases."""

import asyncio
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from asyncpg import InterfaceError
from sqlalchemy import text

from messaging.relay.database import Database, in_postgresql, normalise_url, open_database, sqlite_path
from messaging.relay.errors import StartupError
from tests.relays import Relays


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:///some/file.db", "sqlite+aiosqlite"),
        ("postgresql://user:secret@host/name", "postgresql+asyncpg"),
        ("postgres://host/name", "postgresql+asyncpg"),
        ("postgresql+psycopg://host/name", "postgresql+asyncpg"),
    ],
)
def test_a_url_gets_our_driver(given: str, driver: str) -> None:
    assert normalise_url(given).drivername == driver


@pytest.mark.parametrize("given", ["", "CANARY", "mysql://host/CANARY", "sqlite://", "sqlite:///:memory:"])
def test_another_url_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(StartupError) as caught:
        normalise_url(given)
    assert "CANARY" not in str(caught.value)


def test_only_sqlite_has_a_file() -> None:
    assert sqlite_path(normalise_url("sqlite:///some/file.db")) == Path("some/file.db")
    assert sqlite_path(normalise_url("postgresql://host/name")) is None


async def test_a_new_file_that_another_one_is_just_making_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # then SQLite says at once that it is locked to who wants a WAL database
    asyncio.get_running_loop().call_later(0.2, other.rollback)
    database = open_database(normalise_url(f"sqlite:///{tmp_path / 'new.db'}"))
    async with database.begin() as db:
        assert (await db.execute(text("PRAGMA journal_mode"))).scalar_one() == "wal"
    await database.close()
    other.close()


async def test_sqlite_is_durable_and_checks_references(tmp_path: Path) -> None:
    database = open_database(normalise_url(f"sqlite:///{tmp_path / 'new' / 'file.db'}"))
    async with database.begin() as db:
        pragmas = [
            (await db.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    await database.close()
    assert pragmas == ["wal", 2, 1, 30_000]


async def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    with suppress(ZeroDivisionError):
        async with database.begin() as db:
            await db.execute(text("INSERT INTO mailboxes (last_sequence) VALUES (7)"))
            _ = 1 // 0
    async with database.read() as db:
        assert (await db.execute(text("SELECT count(*) FROM mailboxes"))).scalar_one() == 0


async def test_writers_take_turns_and_none_is_refused(database: Database) -> None:
    async with database.begin() as db:
        await db.execute(text("INSERT INTO mailboxes (last_sequence) VALUES (0)"))

    async def add_one() -> None:
        async with database.begin() as db:
            await db.execute(text("UPDATE mailboxes SET last_sequence = last_sequence + 1"))

    await asyncio.gather(*(add_one() for _ in range(50)))
    async with database.read() as db:
        assert (await db.execute(text("SELECT last_sequence FROM mailboxes"))).scalar_one() == 50


async def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    async with database.begin() as writer:
        await writer.execute(text("INSERT INTO mailboxes (last_sequence) VALUES (7)"))
        async with asyncio.timeout(5), database.read() as reader:
            assert (await reader.execute(text("SELECT count(*) FROM mailboxes"))).scalar_one() == 0


async def test_an_error_of_the_database_does_not_show_what_was_stored(database: Database) -> None:
    with pytest.raises(Exception, match="mailboxes") as caught:
        async with database.begin() as db:
            await db.execute(text("INSERT INTO mailboxes (id, last_sequence) VALUES (1, :x), (1, :x)"), {"x": 71_717})
    assert "71717" not in str(caught.value)


async def test_a_connection_that_is_gone_is_handed_out_no_more(relays: Relays) -> None:
    """Also where asyncpg is used behind SQLAlchemy's back: pages and the watch would find the same dead ones for ever."""
    url = normalise_url((await relays.settings("postgresql")).database_url)
    database, look = open_database(url), "SELECT 1"

    async def use() -> None:
        async with database.read() as db:
            await in_postgresql(db, look)
            await asyncio.sleep(0.05)

    await asyncio.gather(*(use() for _ in range(8)))
    await relays.postgres.execute(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{url.database}'"  # noqa: S608
    )
    with pytest.raises(InterfaceError):
        await use()
    await asyncio.gather(*(use() for _ in range(8)))
    await database.close()


async def test_a_connection_to_which_postgresql_said_goodbye_counts_as_gone(relays: Relays) -> None:
    """Between PostgreSQL's last message and the end of the connection, asyncpg calls it busy for ever."""
    database = open_database(normalise_url((await relays.settings("postgresql")).database_url))
    fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
    used: list[Any] = []

    async def use() -> None:
        async with database.read() as db:
            await in_postgresql(db, "SELECT 1")
            used.append((await db.get_raw_connection()).driver_connection)
            used[0]._protocol.data_received(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
            await in_postgresql(db, "SELECT 1")

    with pytest.raises(InterfaceError, match="ending"):
        await use()
    assert used[0].is_closed()
    async with database.read() as db:
        assert (await db.get_raw_connection()).driver_connection is not used[0]
        assert [tuple(row) for row in await in_postgresql(db, "SELECT 1")] == [(1,)]
    await database.close()
