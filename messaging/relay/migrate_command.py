"""``subrosa migrate``: bring a relay's database up to date without starting a relay."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from messaging.relay.database import normalise_url
from messaging.relay.errors import StartupError
from messaging.relay.migrate import migrate
from messaging.relay.operator import database_option

DESCRIPTION = """\
Bring the database of a relay up to date. A relay does so itself when it starts, unless it has --no-migrate. Several that
start at once do not meet half-way. Make a backup first; a newer relay's database is refused.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="subrosa migrate", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    database_option(parser)
    arguments = parser.parse_args(argv)
    try:
        asyncio.run(migrate(normalise_url(arguments.database_url)))
    except StartupError as error:
        sys.stderr.write(f"migrate: {error}\n")
        return 1
    sys.stdout.write("The database is up to date.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
