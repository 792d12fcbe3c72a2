"""Bringing the schema up to date, by one process at a time.

All pending revisions run in one transaction, on PostgreSQL under an advisory lock, on SQLite as its one writer: two relays
that start at once do not meet half-way. The revisions are in ``migrations/``, at the top of the repository or, in an
installed wheel, beside this module.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.database import open_database
from messaging.relay.errors import StartupError

LOCK_SECONDS = 5  # what waits for a table has all others wait behind it, running relays too
LOCK_TRIES = 6
PAUSE_SECONDS = 2.0  # between two tries: relays go on meanwhile
# PostgreSQL, Appendix A: lock_not_available, and deadlock_detected: relays that run lock tables in orders of their own.
_HELD = frozenset({"55P03", "40P01"})
_LOCK = 0x5375_6252_6F73_6101  # any number, as long as it is always the same


T = TypeVar("T")


class TablesHeld(StartupError):
    """Somebody else uses tables, for longer than running relays may be kept waiting."""

    def __init__(self) -> None:
        super().__init__(
            "a backup or another long transaction holds the tables: nothing was changed. Let it end, and try again"
        )


def migrations_folder() -> Path:
    """Where the revisions are.

    Raises:
        StartupError: the installation lacks them.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent / "migrations", here.parents[2] / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise StartupError("the installation lacks the folder with the migrations")


def alembic_config() -> Config:
    """Alembic's configuration, without a file."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


async def migrate(url: URL, *, revision: str = "head") -> None:
    """Bring the database to ``revision``, a later or an earlier one.

    Raises:
        StartupError: the database cannot be reached, is of a newer version, or its tables are held by somebody for long.
    """
    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            await _in_transaction(url, lambda db: db.run_sync(_move, revision))
        except TablesHeld:
            if not tries_left:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return


async def finish_restore(url: URL, finish: Callable[[AsyncConnection], Awaitable[T]], *, restored: str | None) -> T:
    """Bring a database that was put back up to date and do ``finish``, in one transaction.

    ``restored`` is the revision of a database that does not name its own: until this is done, nobody takes it for a whole one.

    Raises:
        StartupError: the database cannot be reached or changed.
    """

    async def work(db: AsyncConnection) -> T:
        if restored is not None:
            named = text("INSERT INTO alembic_version (version_num) VALUES (:revision)")
            await db.execute(named, {"revision": restored})
        await db.run_sync(_move, "head")
        return await finish(db)

    return await _in_transaction(url, work)


async def require_current(url: URL) -> None:
    """Check that there is nothing to migrate.

    Raises:
        StartupError: the schema is missing, older or newer.
    """
    await _in_transaction(url, lambda db: db.run_sync(_require_current))


async def current_revision(url: URL) -> str | None:
    """The revision of a database; ``None`` if it is empty.

    Raises:
        StartupError: it cannot be reached.
    """
    return await _in_transaction(url, lambda db: db.run_sync(_current))


def known_revisions() -> list[str]:
    """All revisions that this version knows, the present one first."""
    return [known.revision for known in ScriptDirectory.from_config(alembic_config()).walk_revisions()]


async def _in_transaction(url: URL, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    database = open_database(url, foreign_keys=False)
    try:
        async with database.begin(seconds=None) as db:  # it takes what it takes
            if db.dialect.name == "postgresql":
                # Behind others that migrate it waits without an end, and behind nobody else.
                await db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                await db.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            return await work(db)
    except (OSError, DBAPIError) as error:
        if getattr(getattr(error, "orig", None), "sqlstate", None) in _HELD:
            raise TablesHeld from None
        raise StartupError(f"the database cannot be reached or changed ({type(error).__name__})") from None
    finally:
        await database.close()


def _move(connection: Connection, revision: str) -> None:
    config, script = alembic_config(), ScriptDirectory.from_config(alembic_config())
    config.attributes["connection"] = connection
    current = _current(connection)
    if current is not None and current not in {known.revision for known in script.walk_revisions()}:
        raise StartupError("the database is of a newer version than this relay")
    order = [None, *(known.revision for known in reversed(list(script.walk_revisions())))]
    target = script.get_current_head() if revision == "head" else None if revision == "base" else revision
    if order.index(target) < order.index(current):
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def _require_current(connection: Connection) -> None:
    if _current(connection) != ScriptDirectory.from_config(alembic_config()).get_current_head():
        raise StartupError(
            "the database schema is not this relay's; start without --no-migrate, or run: subrosa migrate"
        )


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
