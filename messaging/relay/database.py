"""One way to PostgreSQL and to SQLite: engines, transactions, and the base of all tables.

PostgreSQL is reached through asyncpg, SQLite through aiosqlite in WAL mode with ``synchronous=FULL``: on both, what is
committed survives a crash. A statement that is cancelled goes on in SQLite's thread and holds the lock; therefore code
that writes runs in tasks that nobody cancels (``relay.http``, ``relay.delivery.socket``), not under a timeout.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from asyncpg import IntegrityConstraintViolationError, InterfaceError, PostgresError
from asyncpg.exceptions import CannotConnectNowError, TooManyConnectionsError
from asyncpg.exceptions import DataError as PostgresDataError
from sqlalchemy import BigInteger, Connection, Integer, MetaData, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import NullPool

from messaging.relay.batching import Refused
from messaging.relay.errors import StartupError, Unavailable
from messaging.relay.logs import get_logger

T = TypeVar("T")

LOCK_WAIT_SECONDS = 30
BATCH_SECONDS = 20  # then a database that is stuck is given up, and those who wait hear that it is unavailable
_REFUSALS = (
    IntegrityError,
    DataError,
    PostgresDataError,
    IntegrityConstraintViolationError,
    sqlite3.IntegrityError,
    sqlite3.DataError,
)
_WAIT_STEP_SECONDS = 0.5
_READ_ONLY = "subrosa_read_only"
# What a lane runs is the same all day, and finds few rows by primary key. Planning it anew for each batch would cost as much
# as running it, and a plan that was made while a table was empty must not read all of it when it is full.
_ONE_PLAN = (
    "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false)"
)

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
    """Transactions on one database. On SQLite writers take turns here, in order, rather than poll for its lock.

    What ``relaxed`` commits may be lost in a crash, as a whole: it is for what can be done again.
    """

    writer: AsyncEngine
    reader: AsyncEngine
    relaxed: AsyncEngine
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
        await self.relaxed.dispose()


class Lane:
    """The connection of one who writes batch after batch, and never two at once.

    On PostgreSQL each statement commits by itself; on SQLite a batch is a transaction.
    """

    def __init__(self, database: Database, *, relaxed: bool) -> None:
        self._database = database
        self._engine = database.relaxed if relaxed else database.writer
        self._open: AsyncConnection | None = None

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[AsyncConnection]:
        """The connection, for one batch.

        Raises:
            Refused: the database refuses something in the batch; nothing was written.
            Unavailable: it cannot be reached, or did not answer in time; the outcome is unknown.
        """
        try:
            if self._database.turn is None:
                async with asyncio.timeout(BATCH_SECONDS):
                    yield await self._connection()
            else:
                async with self._database.turn, _transaction(await self._connection()) as db:
                    yield db
        except _REFUSALS as error:
            await self.close()
            raise Refused from error
        except (DBAPIError, PostgresError, InterfaceError, sqlite3.Error, OSError, PoolTimeout, TimeoutError) as error:
            get_logger().warning("batch_failed", error=type(error).__name__)
            await self.close()
            raise Unavailable from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Drop the connection; the next batch gets another."""
        db, self._open = self._open, None
        if db is not None:
            with suppress(Exception):  # it is being thrown away
                await db.invalidate()
                await db.close()

    async def _connection(self) -> AsyncConnection:
        if self._open is None:
            db = await self._engine.connect()
            own = {"isolation_level": "AUTOCOMMIT"} if self._database.turn is None else {_READ_ONLY: True}
            self._open = await db.execution_options(**own)
            if self._database.turn is None:
                await self._open.exec_driver_sql(_ONE_PLAN)
        return self._open


@asynccontextmanager
async def _transaction(db: AsyncConnection) -> AsyncIterator[AsyncConnection]:
    """A transaction of SQLite on a connection that stays open; SQLAlchemy begins none by itself on it."""
    await in_sqlite(db, lambda connection: connection.execute("BEGIN IMMEDIATE"))
    try:
        yield db
    except BaseException:
        await in_sqlite(db, lambda connection: connection.execute("ROLLBACK"))
        raise
    await in_sqlite(db, lambda connection: connection.execute("COMMIT"))


async def wait_for_database(url: URL, patience: timedelta, say: Callable[[str], None]) -> None:
    """Wait until PostgreSQL takes a connection; SQLite is always there.

    Raises:
        StartupError: it does not within ``patience``.
    """
    if sqlite_path(url) is not None or not patience:
        return
    deadline, told = time.monotonic() + patience.total_seconds(), False
    while True:
        engine = create_async_engine(url, hide_parameters=True, poolclass=NullPool)
        try:
            async with engine.connect():
                return
        except (DBAPIError, PostgresError, OSError) as error:
            if not is_away(error):
                return  # what is wrong is for the migration to say
            if time.monotonic() >= deadline:
                raise StartupError(
                    f"no database within {patience.total_seconds():.0f} s: is PostgreSQL running, and is the URL right?"
                ) from None
            if not told:
                say(f"waiting for the database, up to {patience.total_seconds():.0f} s ...")
                told = True
            await asyncio.sleep(_WAIT_STEP_SECONDS)


def is_away(error: BaseException | None) -> bool:
    """Whether an error of a database means that it cannot be reached now."""
    while error is not None:
        if isinstance(error, OSError | CannotConnectNowError | TooManyConnectionsError):
            return True
        error = error.__cause__ or getattr(error, "orig", None)
    return False


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


async def in_sqlite(db: AsyncConnection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Do all of ``work`` in one visit to the thread of an SQLite connection: each visit costs as much as many statements."""
    connection: Any = (await db.get_raw_connection()).driver_connection
    done: T = await connection._execute(work, connection._conn)
    return done


async def in_postgresql(db: AsyncConnection, statement: str, *values: Sequence[object] | int) -> list[Any]:
    """Run one statement through asyncpg itself, which sends a column of values as one array; returns the rows."""
    connection: Any = (await db.get_raw_connection()).driver_connection
    rows: list[Any] = await connection.fetch(statement, *values)
    return rows


def open_database(url: URL, *, foreign_keys: bool = True) -> Database:
    """Engines for ``url``; nothing is connected yet. ``foreign_keys`` is for migrations, which rebuild SQLite tables."""
    path = sqlite_path(url)
    if path is None:
        writer = create_async_engine(url, hide_parameters=True, pool_size=10, max_overflow=10)
        relaxed = create_async_engine(
            url, hide_parameters=True, pool_size=1, connect_args={"server_settings": {"synchronous_commit": "off"}}
        )
        return Database(writer, writer.execution_options(isolation_level="AUTOCOMMIT"), relaxed, turn=None)

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    writer, relaxed = (
        _sqlite_engine(url, {**_PRAGMAS, "synchronous": level, "foreign_keys": "ON" if foreign_keys else "OFF"})
        for level in ("FULL", "NORMAL")
    )
    return Database(writer, writer.execution_options(**{_READ_ONLY: True}), relaxed, turn=asyncio.Lock())


_PRAGMAS = {
    "journal_mode": "WAL",
    "secure_delete": "ON",  # what was delivered is overwritten, not only unlinked
}


def _sqlite_engine(url: URL, pragmas: Mapping[str, str]) -> AsyncEngine:
    engine = create_async_engine(url, hide_parameters=True, connect_args={"timeout": LOCK_WAIT_SECONDS})

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

    return engine
