"""Alembic's environment: on the relay's own connection, or, for developers, on the database in SUBROSA_DATABASE_URL."""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection

import messaging.relay.accounts.invite_tables
import messaging.relay.accounts.tables
import messaging.relay.keys.tables
import messaging.relay.messages.tables  # noqa: F401 - the imports define the tables
from messaging.relay.database import Base, normalise_url, open_database
from messaging.relay.settings import DEFAULT_DATABASE


def run(connection: Connection) -> None:
    """Run what Alembic was asked for, in the transaction that ``connection`` has begun."""
    # SQLite cannot alter most things in place: batch mode builds a table anew.
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_run() -> None:
    """For the command line."""
    url = normalise_url(os.environ.get("SUBROSA_DATABASE_URL", DEFAULT_DATABASE))
    database = open_database(url, foreign_keys=False)
    try:
        async with database.begin() as db:
            await db.run_sync(run)
    finally:
        await database.close()


given: Connection | None = context.config.attributes.get("connection")
if given is None:
    asyncio.run(connect_and_run())
else:
    run(given)
