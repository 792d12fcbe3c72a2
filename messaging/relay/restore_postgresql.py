"""Putting a dump in the place of a PostgreSQL database: it is restored beside it, and the two change their names at once.

Ended at any moment, relays find all of the old one or all of the new one. An empty database is filled where it is: until all is
done it names no revision, and no relay starts on it.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time_ns
from typing import Final

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.backup import Say, Tools, list_dump, run_postgresql
from messaging.relay.database import Database, open_database
from messaging.relay.errors import StartupError
from messaging.relay.migrate import current_revision, finish_restore

IN_USE: Final = "the database is in use: stop relays, the console and whatever else uses it"
MAX_NAME: Final = 40  # bytes: behind them there is room for what is added; PostgreSQL cuts names after 63
_SAID: Final = {  # PostgreSQL, Appendix A: insufficient_privilege, object_in_use
    "42501": "the role may not make databases, or does not own the one that is there: have an administrator give it CREATEDB "
    "and the database, or restore into a new, empty one and name that to relays",
    "55006": IN_USE,
}
_SECONDS: Final = 60
_NAMES_REVISION: Final = re.compile(r" TABLE DATA \S+ alembic_version ")  # the line of a dump's table of contents
_FORM: Final = """
SELECT datname, pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = current_database()
"""

Finish = Callable[[AsyncConnection], Awaitable[int]]


async def put_into_postgresql(
    copy: Path, revision: str, url: URL, tools: Tools, say: Say, finish: Finish
) -> tuple[str | None, int]:
    """Put the dump ``copy``, of a schema at ``revision``, where ``url`` is, when ``finish`` has been done in it.

    Returns under which name the database is kept that was there, and what ``finish`` returned.

    Raises:
        StartupError: the dump cannot be restored, somebody uses the database, or the role may not do it.
    """
    program = tools.find("pg_restore")
    contents = _without_revision(await list_dump(program, copy, url))

    async def fill(at: URL) -> int:
        say("database: pg_restore ...")
        await _restore(program, copy, contents, at)
        return await finish_restore(at, finish, restored=revision)

    if await current_revision(url) is None:
        return None, await fill(url)
    database = await _form_of(url)
    old, new = database.name, f"{database.name}_restoring"
    async with _server_of(url, old) as server, _empty_one(server, new, database):
        done = await fill(_at(url, new))
        aside = f"{old}_replaced_{time_ns() // 1_000_000}"
        async with server.begin(_SECONDS) as db:  # both names, or none
            await db.exec_driver_sql(f'ALTER DATABASE "{old}" RENAME TO "{aside}"')
            await db.exec_driver_sql(f'ALTER DATABASE "{new}" RENAME TO "{old}"')
    return aside, done


@dataclass(frozen=True, slots=True)
class _Form:
    """What another database has to be like."""

    name: str
    encoding: str
    collate: str
    ctype: str


async def _form_of(url: URL) -> _Form:
    database = open_database(url)
    try:
        async with database.read() as db:
            found = _Form(*(await db.execute(text(_FORM))).one())
    finally:
        await database.close()
    if len(found.name.encode()) > MAX_NAME or '"' in found.name:
        raise StartupError("there is no room for names beside that of the database: restore into a new, empty one")
    return found


@asynccontextmanager
async def _server_of(url: URL, name: str) -> AsyncIterator[Database]:
    """The server with the database ``name``, seen from another one: none is renamed or deleted from within."""
    database = open_database(_at(url, "template1" if name == "postgres" else "postgres"))
    try:
        yield database
    except DBAPIError as error:
        said = _SAID.get(getattr(error.orig, "sqlstate", ""))
        if said is None:
            raise
        raise StartupError(said) from None
    finally:
        await database.close()


@asynccontextmanager
async def _empty_one(server: Database, name: str, like: _Form) -> AsyncIterator[None]:
    """An empty database, deleted at the end if it has still this name."""
    delete = f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
    await _by_itself(server, delete)  # of a restoration that was killed
    locale = f"ENCODING '{like.encoding}' LC_COLLATE '{like.collate}' LC_CTYPE '{like.ctype}'"
    await _by_itself(server, f'CREATE DATABASE "{name}" TEMPLATE template0 {locale}')
    try:
        yield
    finally:
        with suppress(Exception):  # then the next one does it
            await _by_itself(server, delete)


async def _by_itself(server: Database, statement: str) -> None:
    """Run what stands in no transaction."""
    async with server.read(_SECONDS) as db:
        await db.exec_driver_sql(statement)


def _at(url: URL, database: str) -> URL:
    return url.set(database=database).difference_update_query(("database",))


async def _restore(program: Path, copy: Path, contents: str, url: URL) -> None:
    how = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--clean", "--if-exists"]
    with TemporaryDirectory() as folder:
        listed = Path(folder) / "contents"
        listed.write_text(contents)
        await run_postgresql(program, [*how, f"--use-list={listed}", str(copy)], url)


def _without_revision(contents: str) -> str:
    """The table of contents without what says that the schema is there: ended half-way, no relay starts on what is there."""
    kept = [line for line in contents.splitlines() if not _NAMES_REVISION.search(line)]
    if len(kept) + 1 != len(contents.splitlines()):
        raise StartupError("the backup is no copy of a relay's database")
    return "\n".join(kept) + "\n"
