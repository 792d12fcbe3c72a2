"""``subrosa grant``: give single accounts other limits than the usual ones. Works on the relay's database."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from messaging.relay.errors import NotFound, StartupError
from messaging.relay.grants import READ_SECONDS, list_grants, set_grant
from messaging.relay.limits import (
    BOT_DEFAULTS,
    DEFAULTS,
    MAX_FILLING,
    MAX_REFILL,
    MAX_SIZE,
    MIN_REFILL,
    Bucket,
    Limit,
    bucket_of,
)
from messaging.relay.operator import database_option, relay_database


def _listed(buckets: Mapping[Limit, Bucket]) -> str:
    return "\n".join(f"  {limit:<32} size {each.size:g}, refill {each.refill:g}" for limit, each in buckets.items())


DESCRIPTION = f"""\
Limits are buckets: `size` at once, then one more every `refill` seconds. A grant replaces one bucket of one account, on all
relays within {READ_SECONDS} seconds. A bot that writes to one conversation very often:

  subrosa grant set 6c3a0b1e-... messages --size 6000 --refill 0.01

What there is, and the end of it:

  subrosa grant list
  subrosa grant remove 6c3a0b1e-... messages

The limits and their usual sizes:

{_listed(DEFAULTS)}

Those that bots have instead:

{_listed(BOT_DEFAULTS)}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        sys.stdout.write(asyncio.run(_run(arguments)) + "\n")
    except StartupError as error:
        sys.stderr.write(f"grant: {error}\n")
        return 1
    except NotFound:
        sys.stderr.write("grant: there is no such account\n")
        return 1
    except (OSError, DBAPIError) as error:
        sys.stderr.write(f"grant: the database cannot be reached or changed ({type(error).__name__})\n")
        return 1
    return 0


async def _run(arguments: argparse.Namespace) -> str:
    async with relay_database(arguments.database_url) as database:
        if arguments.command == "list":
            async with database.read() as db:
                found = await list_grants(db)
            facts = [{"account": str(a), "limit": name, "size": b.size, "refill": b.refill} for a, name, b in found]
            lines = [f"{a}  {name}: size {b.size:g}, refill {b.refill:g}" for a, name, b in found]
            return json.dumps({"grants": facts}) if arguments.json else "\n".join(lines) or "There are no grants."
        bucket = _bucket(arguments) if arguments.command == "set" else None
        async with database.begin() as db:
            await set_grant(db, arguments.account, Limit(arguments.limit), bucket)
    said = "Granted." if bucket else "Removed: the usual limit holds again."
    return json.dumps({"done": arguments.command}) if arguments.json else said


def _bucket(arguments: argparse.Namespace) -> Bucket:
    try:
        return bucket_of(Limit(arguments.limit), arguments.size, arguments.refill)
    except ValueError:
        raise StartupError(
            f"--size goes from 1 to {MAX_SIZE:.0e}, --refill from {MIN_REFILL} to {MAX_REFILL}, "
            f"and both multiplied to {MAX_FILLING:.0e}"
        ) from None


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    database_option(common)
    common.add_argument("--json", action="store_true", help="print one JSON object")
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("account", type=UUID, metavar="ACCOUNT", help="the account's id (ACI)")
    one.add_argument("limit", choices=[str(limit) for limit in Limit], metavar="LIMIT", help="the limit's name")

    parser = argparse.ArgumentParser(
        prog="subrosa grant", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, dest="command", metavar="set | list | remove")
    setting = commands.add_parser("set", parents=[one, common], help="grant a bucket to an account")
    setting.add_argument("--size", type=float, required=True, help="tokens at once")
    setting.add_argument("--refill", type=float, required=True, help="seconds until one more")
    commands.add_parser("list", parents=[common], help="show all grants")
    commands.add_parser("remove", parents=[one, common], help="take a grant back")
    return parser


if __name__ == "__main__":
    sys.exit(main())
