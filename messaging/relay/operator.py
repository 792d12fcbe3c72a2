"""What commands on a relay's database share: its options, and opening it."""

import argparse
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sqlalchemy.engine import URL

from messaging.relay.database import Database, normalise_url, open_database, sqlite_path
from messaging.relay.errors import StartupError
from messaging.relay.migrate import require_current
from messaging.relay.settings import DEFAULT_DATABASE


def database_option(parser: argparse.ArgumentParser, environment: Mapping[str, str] = os.environ) -> None:
    """Add ``--database-url``, with the default that the relay has."""
    parser.add_argument(
        "--database-url",
        default=environment.get("SUBROSA_DATABASE_URL", DEFAULT_DATABASE),
        metavar="TEXT",
        help=f"the relay's database (default: {DEFAULT_DATABASE})",
    )


@asynccontextmanager
async def relay_database(text: str) -> AsyncIterator[Database]:
    """The database of a relay that has run.

    Raises:
        StartupError: there is none, or its schema is not this version's.
    """
    url = normalise_url(text)
    await require_database(url)
    database = open_database(url)
    try:
        yield database
    finally:
        await database.close()


async def require_database(url: URL) -> None:
    """Check that there is a database with the present schema.

    Raises:
        StartupError: there is not.
    """
    path = sqlite_path(url)
    if path is not None and not path.is_file():
        raise StartupError("there is no such database; start the relay once, or name its --database-url")
    await require_current(url)
