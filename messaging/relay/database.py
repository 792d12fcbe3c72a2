"""One way to PostgreSQL and to SQLite: engines, transactions, and the base of all tables.

PostgreSQL is reached through asyncpg, SQLite through aiosqlite in WAL mode with ``synchronous=FULL``: on both, what is
committed survives a crash. A statement that is cancelled goes on in SQLite's thread and holds the lock; therefore code
that writes runs in tasks that nobody cancels (``relay.http``, ``relay.delivery.socket``), not under a timeout.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import BigInteger, Connection, Integer, MetaData, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from messaging.relay.errors import StartupError

LOCK_WAIT_SECONDS = 30
_READ_ONLY = "subrosa_read_only"

# SQLite numbers rows by itself only if the type is exactly INTEGER; its integers have 64 bits all the same.
RowId = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The base of all tables; constraints are named, so that migrations can name them too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


@dataclass(frozen=True, slots=True)
class Database:
    """Transactions on one database. On SQLite writers take turns here, in order, rather than poll for its lock."""

    writer: AsyncEngine
    reader: AsyncEngine
    turn: asyncio.Lock | None

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write: committed at the end of the block, rolled back if it raises."""
        async with self.turn or nullcontext(), self.writer.begin() as db:
            yield db

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading only, each statement by itself."""
        async with self.reader.connect() as db:
            yield db

    async def close(self) -> None:
        """Close all connections."""
        await self.writer.dispose()


def normalise_url(text: str) -> URL:
    """``sqlite:///path`` or ``postgresql://...`` with the driver that we use.

    Raises:
        StartupError: another kind of database, or no URL.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise StartupError("the database URL is not a URL") from None
    match url.get_backend_name():
        case "postgresql" | "postgres":
            return url.set(drivername="postgresql+asyncpg")
        case "sqlite" if url.database and url.database != ":memory:":
            return url.set(drivername="sqlite+aiosqlite")
        case _:
            raise StartupError("the database URL must be sqlite:///PATH or postgresql://...")


def sqlite_path(url: URL) -> Path | None:
    """The file of an SQLite database, else ``None``."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def open_database(url: URL, *, foreign_keys: bool = True) -> Database:
    """Engines for ``url``; nothing is connected yet. ``foreign_keys`` is for migrations, which rebuild SQLite tables."""
    path = sqlite_path(url)
    if path is None:
        writer = create_async_engine(url, hide_parameters=True, pool_size=10, max_overflow=10)
        return Database(writer, writer.execution_options(isolation_level="AUTOCOMMIT"), turn=None)

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    writer = create_async_engine(url, hide_parameters=True, connect_args={"timeout": LOCK_WAIT_SECONDS})
    _hook_sqlite(writer, foreign_keys=foreign_keys)
    return Database(writer, writer.execution_options(**{_READ_ONLY: True}), turn=asyncio.Lock())


def _hook_sqlite(engine: AsyncEngine, *, foreign_keys: bool) -> None:
    pragmas = {
        "journal_mode": "WAL",
        "synchronous": "FULL",
        "foreign_keys": "ON" if foreign_keys else "OFF",
        "secure_delete": "ON",  # what was delivered is overwritten, not only unlinked
    }

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        cursor = connection.cursor()
        for name, value in pragmas.items():
            cursor.execute(f"PRAGMA {name} = {value}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writer fails at once if another writer was faster.
        if not connection.get_execution_options().get(_READ_ONLY):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
