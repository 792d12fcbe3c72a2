"""One way to PostgreSQL and to SQLite: engines, transactions, and the base of all tables.

PostgreSQL is reached through asyncpg, SQLite through aiosqlite in WAL mode with ``synchronous=FULL``: on both, what is
committed survives a crash. A statement that is cancelled goes on in SQLite's thread and holds the lock; therefore code
that writes runs in tasks that nobody cancels (``relay.http``, ``relay.delivery.socket``), not under a timeout.
"""

import asyncio
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from asyncpg import InterfaceError, InternalClientError, PostgresConnectionError
from sqlalchemy import BigInteger, Connection, Index, Integer, MetaData, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from messaging.relay.errors import StartupError

T = TypeVar("T")

LOCK_WAIT_SECONDS = 30
_BUSY_PAUSE_SECONDS = 0.01
STUCK_SECONDS = 20  # then a database that does not answer is given up, and those who wait hear that it is unavailable
READ_ONLY = "subrosa_read_only"
_DRIVER = "subrosa_driver_connection"
# A server may default to answer before the disk has what it commits. And what a relay that is gone has locked is free soon.
_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
_SESSION = {
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "3",
}
_UNACKNOWLEDGED_SECONDS = 5  # for so long the other end may be silent before a connection counts as gone

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


def index_of_some(name: str, *columns: str, where: str) -> Index:
    """An index of the few rows for which a condition holds."""
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


@asynccontextmanager
async def _known_to_the_pool(db: AsyncConnection) -> AsyncIterator[None]:
    """Let SQLAlchemy find out for itself if a connection turns out to be gone while asyncpg is used behind its back.

    Then it drops that connection and all others of its age; else they would be handed out again and again.
    """
    try:
        yield
    except (InterfaceError, PostgresConnectionError, OSError):
        with suppress(DBAPIError):
            await db.exec_driver_sql("SELECT 1")
        raise


class _Pool(AsyncAdaptedQueuePool):
    """Counts how often somebody had to wait for a connection."""

    waits = 0

    def _do_get(self) -> ConnectionPoolEntry:
        if self.checkedout() >= self.size() + self._max_overflow:
            self.waits += 1
        return super()._do_get()


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
    async def begin(self, seconds: float | None = STUCK_SECONDS) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write: committed at the end of the block, rolled back if it raises.

        Raises:
            TimeoutError: on PostgreSQL, it takes longer than ``seconds``.
        """
        # What is cancelled on SQLite goes on in its thread and holds the lock, so nothing is.
        async with (
            asyncio.timeout(None if self.turn else seconds),
            self.turn or nullcontext(),
            self.writer.begin() as db,
            _known_to_the_pool(db),
        ):
            yield db

    @asynccontextmanager
    async def read(self, seconds: float = STUCK_SECONDS) -> AsyncIterator[AsyncConnection]:
        """A connection for reading only, each statement by itself.

        Raises:
            TimeoutError: the block takes longer than ``seconds``.
        """
        async with asyncio.timeout(seconds), self.reader.connect() as db, _known_to_the_pool(db):
            yield db

    @property
    def pool_waits(self) -> int:
        """How often somebody had to wait for a connection."""
        pool = self.writer.pool
        return pool.waits if isinstance(pool, _Pool) else 0

    async def close(self) -> None:
        """Close all connections."""
        await self.writer.dispose()
        await self.relaxed.dispose()


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


async def in_postgresql(db: AsyncConnection, statement: str, *values: Sequence[object] | bytes | int) -> list[Any]:
    """Run one statement through asyncpg itself, which sends a column of values as one array; returns the rows."""
    connection: Any = db.info.get(_DRIVER)
    if connection is None:  # kept: to ask SQLAlchemy for it costs as much as a small statement
        connection = db.info[_DRIVER] = (await db.get_raw_connection()).driver_connection
    try:
        rows: list[Any] = await connection.fetch(statement, *values)
    except InternalClientError as error:
        # PostgreSQL has said goodbye and the end of the connection is not read yet: asyncpg takes that for a state of its own.
        connection.terminate()
        raise InterfaceError("the connection is ending") from error
    return rows


def open_database(url: URL, *, foreign_keys: bool = True) -> Database:
    """Engines for ``url``; nothing is connected yet. ``foreign_keys`` is for migrations, which rebuild SQLite tables."""
    path = sqlite_path(url)
    if path is None:
        writer = _postgresql_engine(url, durable=True, pool_size=10, max_overflow=10)
        relaxed = _postgresql_engine(url, durable=False, pool_size=1)
        return Database(writer, writer.execution_options(isolation_level="AUTOCOMMIT"), relaxed, turn=None)

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    writer, relaxed = (
        _sqlite_engine(url, {**_PRAGMAS, "synchronous": level, "foreign_keys": "ON" if foreign_keys else "OFF"})
        for level in ("FULL", "NORMAL")
    )
    return Database(writer, writer.execution_options(**{READ_ONLY: True}), relaxed, turn=asyncio.Lock())


def _postgresql_engine(url: URL, *, durable: bool, **pool: int) -> AsyncEngine:
    settings = _SESSION if durable else {**_SESSION, "synchronous_commit": "off"}
    connect_args = {"server_settings": settings}
    engine = create_async_engine(url, hide_parameters=True, connect_args=connect_args, poolclass=_Pool, **pool)

    async def prepare(connection: Any) -> None:  # noqa: ANN401 - asyncpg has no types
        if durable:
            await connection.execute(_DURABLE)
        found = connection._transport.get_extra_info("socket")
        if found is not None and found.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_SECONDS * 1000)

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's adapter of asyncpg's connection
        connection.run_async(prepare)

    return engine


_PRAGMAS = {
    "journal_mode": "WAL",
    "secure_delete": "ON",  # what was delivered is overwritten, not only unlinked
}


def _set_pragmas(connection: sqlite3.Connection, pragmas: Mapping[str, str]) -> None:
    """Several that make one file a WAL database at once are told that it is locked, without having waited (SQLITE_BUSY)."""
    ends = time.monotonic() + LOCK_WAIT_SECONDS
    for name, value in pragmas.items():
        while True:
            try:
                connection.execute(f"PRAGMA {name} = {value}").close()
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= ends:
                    raise
                time.sleep(_BUSY_PAUSE_SECONDS)  # in the connection's own thread


def _sqlite_engine(url: URL, pragmas: Mapping[str, str]) -> AsyncEngine:
    engine = create_async_engine(url, hide_parameters=True, connect_args={"timeout": LOCK_WAIT_SECONDS})

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's adapter of aiosqlite's connection
        connection.isolation_level = None  # transactions begin where we say so
        connection.run_async(lambda driver: driver._execute(_set_pragmas, driver._conn, pragmas))

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writer fails at once if another writer was faster.
        if not connection.get_execution_options().get(READ_ONLY):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
