"""``subrosa invite``: make, list and revoke the codes with which people register. Works on the relay's database."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from messaging.relay.accounts.invite_service import InviteService
from messaging.relay.accounts.invites import MAX_USES, InvalidTerms, Invite, Role, Terms, parse_lifetime
from messaging.relay.app import now_milliseconds
from messaging.relay.database import normalise_url, open_database, sqlite_path
from messaging.relay.errors import StartupError
from messaging.relay.operator import database_option, require_database
from messaging.relay.server_secret import secret_of

MAX_ID = 2**63 - 1  # what a database can number

DESCRIPTION = """\
Invites to a relay that runs with --verification invite: nobody registers without one, and no code is sent to anybody.
Those for bots are good at every relay.

One code for one person, good for a week:

  subrosa invite create

A code that twenty people may use, and one for a bot:

  subrosa invite create --uses 20 --expires 48h
  subrosa invite create --role bot

A bot registers with a number that no telephone has (+999 and 12 digits), and everybody sees that it is a bot, for good.

Who is invited asks the app to register, and types the code where it asks for the one that was sent. An invite for any number
is good for new accounts only. To register a number again, for instance on a new phone, bind an invite to it:

  subrosa invite create --number +4915550000101

An invite does not show that somebody owns a number: hand it to whom you know. The code is shown once; the relay keeps a
keyed hash of it. What there is, and the end of one of them:

  subrosa invite list
  subrosa invite revoke 3

Where the relay has --database-url and --secret-file, or SUBROSA_DATABASE_URL and SUBROSA_SECRET_FILE, give the same here.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        sys.stdout.write(asyncio.run(_run(arguments)) + "\n")
    except (StartupError, InvalidTerms) as error:
        sys.stderr.write(f"invite: {error}\n")
        return 1
    except (OSError, DBAPIError) as error:
        sys.stderr.write(f"invite: the database cannot be reached or changed ({type(error).__name__})\n")
        return 1
    return 0


async def _run(arguments: argparse.Namespace) -> str:
    terms = _terms(arguments) if arguments.command is _create else None
    url = normalise_url(arguments.database_url)
    await require_database(url)
    database = open_database(url)
    try:
        secret = secret_of(arguments.secret_file, sqlite_path(url), create=False)
        service = InviteService(database, secret, now_milliseconds)
        return str(await arguments.command(service, arguments, terms))
    finally:
        await database.close()


def _terms(arguments: argparse.Namespace) -> Terms:
    lifetime = parse_lifetime(arguments.expires)
    return Terms(Role(arguments.role), arguments.uses, lifetime, arguments.number)


async def _create(service: InviteService, arguments: argparse.Namespace, terms: Terms) -> str:
    made = await service.create(terms)
    if arguments.json:
        return json.dumps({**_facts(made.invite, service.now()), "code": made.code})
    return f"{_line(made.invite, service.now())}\n\n  {made.code}\n\nThe code is shown this once."


async def _list(service: InviteService, arguments: argparse.Namespace, _terms: None) -> str:
    found, now = await service.all(), service.now()
    if arguments.json:
        return json.dumps({"invites": [_facts(invite, now) for invite in found]})
    return "\n".join(_line(invite, now) for invite in found) or "There are no invites."


async def _revoke(service: InviteService, arguments: argparse.Namespace, _terms: None) -> str:
    if not 0 < arguments.id <= MAX_ID or not await service.revoke(arguments.id):
        raise StartupError("there is no invite with this id")
    return json.dumps({"revoked": arguments.id}) if arguments.json else "Revoked. Who has registered with it stays."


def _facts(invite: Invite, now: int) -> dict[str, object]:
    return {
        "id": invite.id,
        "role": invite.role,
        "usesLeft": invite.uses_left,
        "createdAt": invite.created_at,
        "expiresAt": invite.expires_at,
        "forOneNumber": invite.number_hash is not None,
        "state": invite.state(now),
    }


def _line(invite: Invite, now: int) -> str:
    until = datetime.fromtimestamp(invite.expires_at // 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    uses = f"{invite.uses_left} {'use' if invite.uses_left == 1 else 'uses'} left"
    whom = "for new accounts" if invite.number_hash is None else "for one number"
    return f"invite {invite.id}: {invite.role}, {uses}, until {until}, {whom}, {invite.state(now)}"


def _parser(environment: Mapping[str, str] = os.environ) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    database_option(common, environment)
    common.add_argument(
        "--secret-file",
        type=Path,
        default=environment.get("SUBROSA_SECRET_FILE"),
        metavar="PATH",
        help="the relay's secret file; with SQLite, the one beside the database if this is not given",
    )
    common.add_argument("--json", action="store_true", help="print one JSON object; times are milliseconds since 1970")

    parser = argparse.ArgumentParser(
        prog="subrosa invite", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="create | list | revoke")

    def command(name: str, run: Callable[..., Coroutine[Any, Any, str]], what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[common], help=what, description=what)
        added.set_defaults(command=run)
        return added

    create = command("create", _create, "make an invite and show its code")
    create.add_argument(
        "--role", choices=[str(role) for role in Role], default=str(Role.MEMBER), help="(default: member)"
    )
    create.add_argument("--uses", type=int, default=1, metavar="N", help=f"1 to {MAX_USES} (default: 1)")
    create.add_argument(
        "--expires", default="7d", metavar="TIME", help="30m, 12h or 7d: 1 minute to 365 days from now (default: 7d)"
    )
    create.add_argument(
        "--number", metavar="NUMBER", help="good for this number alone, which may have an account already"
    )
    command("list", _list, "show every invite, without its code")
    command("revoke", _revoke, "make an invite worthless").add_argument("id", type=int, metavar="ID")
    return parser


if __name__ == "__main__":
    sys.exit(main())
