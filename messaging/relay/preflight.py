"""What a relay makes sure of before it serves: that its database is there, and that its promises can hold on it."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

from asyncpg import PostgresError
from asyncpg.exceptions import CannotConnectNowError, TooManyConnectionsError
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from messaging.relay.clock import MAX_STEP_SECONDS
from messaging.relay.database import Database, sqlite_path
from messaging.relay.errors import StartupError

_WAIT_STEP_SECONDS = 0.5


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


async def check_promises(database: Database, say: Callable[[str], None], now: Callable[[], float] = time.time) -> None:
    """Compare this machine's clock with PostgreSQL's, and say if what it commits is not safe from a power loss.

    A relay whose clock is years away would store what has expired already, or sweep what has not.

    Raises:
        StartupError: the clocks differ by more than ``MAX_STEP_SECONDS``.
    """
    if database.turn is not None:
        return
    async with database.read() as db:
        query = text("SELECT extract(epoch FROM clock_timestamp())::float8, current_setting('fsync')")
        theirs, fsync = (await db.execute(query)).one()
    ahead = now() - theirs
    if abs(ahead) > MAX_STEP_SECONDS:
        raise StartupError(
            f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the database's: set it right"
        )
    if fsync == "off":
        say("PostgreSQL runs with fsync=off: what is accepted would not survive a power loss")
