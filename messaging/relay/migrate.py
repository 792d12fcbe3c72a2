"""Bringing the schema up to date, by one process at a time.

All pending revisions run in one transaction, on PostgreSQL under an advisory lock, on SQLite as its one writer: two relays
that start at once do not meet half-way. The revisions are in ``migrations/``, at the top of the repository or, in an
installed wheel, beside this module.
"""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from messaging.relay.database import open_database
from messaging.relay.errors import StartupError

_LOCK = 0x5375_6252_6F73_6101  # any number, as long as it is always the same


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
        StartupError: the database cannot be reached, or is of a newer version.
    """
    await _in_transaction(url, lambda connection: _move(connection, revision))


async def require_current(url: URL) -> None:
    """Check that there is nothing to migrate.

    Raises:
        StartupError: the schema is missing, older or newer.
    """
    await _in_transaction(url, _require_current)


async def _in_transaction(url: URL, work: Callable[[Connection], None]) -> None:
    database = open_database(url, foreign_keys=False)
    try:
        async with database.begin(seconds=None) as db:  # it takes what it takes
            if db.dialect.name == "postgresql":
                await db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await db.run_sync(work)
    except (OSError, DBAPIError) as error:
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
