"""Connections of those who write batch after batch: the commits of sends, of acknowledgements, of devices that connect."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from asyncpg import IntegrityConstraintViolationError, InterfaceError, PostgresError
from asyncpg.exceptions import DataError as PostgresDataError
from asyncpg.exceptions import LockNotAvailableError, TransactionRollbackError
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.batching import Refused
from messaging.relay.database import READ_ONLY, STUCK_SECONDS, Database, in_sqlite
from messaging.relay.errors import Unavailable
from messaging.serving.logs import get_logger

T = TypeVar("T")

LOCK_SECONDS = 3
_REFUSALS = (
    IntegrityError,
    DataError,
    PostgresDataError,
    IntegrityConstraintViolationError,
    sqlite3.IntegrityError,
    sqlite3.DataError,
)
_WAITED_IN_VAIN = (LockNotAvailableError, TransactionRollbackError)  # the latter: of a deadlock, we were to give way
_FAILURES = (DBAPIError, PostgresError, InterfaceError, sqlite3.Error, OSError, PoolTimeout)  # a timeout is an OSError
# What a lane runs is the same all day, and finds few rows by primary key. Planning it anew for each batch would cost as much
# as running it, and a plan that was made while a table was empty must not read all of it when it is full.
_PREPARE = f"""
SELECT set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false),
    set_config('lock_timeout', '{LOCK_SECONDS}s', false)
"""


class LockHeld(Exception):
    """A lock that a batch needs is held by somebody else, for ``LOCK_SECONDS`` now; nothing was written."""


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
            LockHeld: it waits for somebody else; nothing was written.
            Unavailable: it cannot be reached, or did not answer in time; the outcome is unknown.
        """
        try:
            if self._database.turn is None:
                async with asyncio.timeout(STUCK_SECONDS):
                    yield await self._connection()
            else:
                async with self._database.turn, _transaction(await self._connection()) as db:
                    yield db
        except _REFUSALS as error:
            await self.close()
            raise Refused from error
        except _WAITED_IN_VAIN as error:
            get_logger().warning("batch_held", error=type(error).__name__)
            await self.close()
            raise LockHeld from error
        except _FAILURES as error:
            get_logger().warning("batch_failed", error=type(error).__name__)
            await self.close()
            raise Unavailable from error
        except BaseException:
            await self.close()
            raise

    async def twice(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do ``work``, which may be done again: once more if the connection turns out to be gone.

        Raises:
            Refused, LockHeld, Unavailable: see :meth:`batch`.
        """
        try:
            async with self.batch() as db:
                return await work(db)
        except Unavailable:
            async with self.batch() as db:
                return await work(db)

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
            own = {"isolation_level": "AUTOCOMMIT"} if self._database.turn is None else {READ_ONLY: True}
            self._open = await db.execution_options(**own)
            if self._database.turn is None:
                await self._open.exec_driver_sql(_PREPARE)
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
