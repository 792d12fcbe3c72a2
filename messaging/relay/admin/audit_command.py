"""``subrosa audit``: verify, export and take the head of the audit log, where the database is or where only an export is."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TextIO

from sqlalchemy.exc import DBAPIError

from messaging.relay.admin.audit import Entry, Verifier
from messaging.relay.admin.audit_tables import all_entries, entries_written, last_entry
from messaging.relay.admin.errors import AuditBroken
from messaging.relay.database import normalise_url, sqlite_path
from messaging.relay.errors import StartupError
from messaging.relay.operator import database_option, relay_database
from messaging.relay.server_secret import secret_of

MAX_LINE = 1024 * 1024  # characters of an exported entry
_DIGEST_BYTES = sha256().digest_size

Command = Callable[[argparse.Namespace], Coroutine[None, None, None]]

DESCRIPTION = """\
The record of what operators did and looked at. Each entry names the digest of the one before it, so that nothing in it can be
changed, left out or added later without that being found:

  subrosa audit verify

What no chain can show is that its end was cut off. Note the digest of the last entry now and then where this server cannot write
(a sheet of paper will do), and say it when you verify:

  subrosa audit head
  subrosa audit verify --head DIGEST

For somebody else, who has neither the database nor the secret: then the chain and the head are checked, and not the seals.

  subrosa audit export > audit.jsonl
  subrosa audit verify --file audit.jsonl --head DIGEST

Where the relay has --database-url and --secret-file, or SUBROSA_DATABASE_URL and SUBROSA_SECRET_FILE, give the same here.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 1 if the log is not what was written, or cannot be read."""
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    try:
        asyncio.run(command(arguments))
    except AuditBroken as error:
        sys.stderr.write(f"audit: NOT VERIFIED. {error}\n")
        return 1
    except StartupError as error:
        sys.stderr.write(f"audit: {error}\n")
        return 1
    except (OSError, DBAPIError, TimeoutError) as error:
        sys.stderr.write(f"audit: the log cannot be read ({type(error).__name__})\n")
        return 1
    return 0


async def _verify(arguments: argparse.Namespace) -> None:
    if arguments.file is not None:
        last, sealed = await asyncio.to_thread(_verify_file, arguments.file, arguments.head), False
    else:
        last, sealed = await _verify_database(arguments), True
    _say(arguments, _facts(last) | {"seals": sealed}, _verdict(last, sealed=sealed))


async def _verify_database(arguments: argparse.Namespace) -> Entry | None:
    key = secret_of(arguments.secret_file, sqlite_path(normalise_url(arguments.database_url)), create=False).audit_key
    verifier = Verifier(key=key, head=arguments.head)
    async with relay_database(arguments.database_url) as database:
        async with database.read() as db:
            written = await entries_written(db)
        async for entry in all_entries(database):
            verifier.take(entry)
    last = verifier.finish()
    if written is None or (0 if last is None else last.sequence) < written:
        raise AuditBroken("The end of the log is missing.")
    return last


def _verify_file(path: Path, head: bytes | None) -> Entry | None:
    verifier = Verifier(key=None, head=head)
    with path.open(encoding="utf-8", newline="\n") as file:
        while line := _line_of(file):
            verifier.take(Entry.from_json(line))
    return verifier.finish()


def _line_of(file: TextIO) -> str:
    try:
        line = file.readline(MAX_LINE)
    except UnicodeDecodeError:
        raise AuditBroken("A line of the audit log is not an entry.") from None
    return line


async def _export(arguments: argparse.Namespace) -> None:
    async with relay_database(arguments.database_url) as database:
        async for entry in all_entries(database):
            sys.stdout.write(entry.as_json() + "\n")


async def _head(arguments: argparse.Namespace) -> None:
    async with relay_database(arguments.database_url) as database, database.read() as db:
        last = await last_entry(db)
    digest = "The log is empty." if last is None else f"{last.digest.hex()}\nEntry {last.sequence}."
    _say(arguments, _facts(last), digest)


def _facts(last: Entry | None) -> dict[str, object]:
    return {"entries": 0, "head": None} if last is None else {"entries": last.sequence, "head": last.digest.hex()}


def _verdict(last: Entry | None, *, sealed: bool) -> str:
    if last is None:
        return "The log is empty."
    seals = "and sealed by this server" if sealed else "(the seals were not looked at: that needs the server's secret)"
    return f"Verified: {last.sequence} entries, each as it was written {seals}.\nThe last one is {last.digest.hex()}"


def _say(arguments: argparse.Namespace, facts: Mapping[str, object], text: str) -> None:
    sys.stdout.write((json.dumps(facts) if arguments.json else text) + "\n")


def _digest(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != _DIGEST_BYTES:
        raise ValueError
    return found


_digest.__name__ = "digest"  # what argparse calls it


def _parser(environment: Mapping[str, str] = os.environ) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    database_option(common, environment)
    parser = argparse.ArgumentParser(
        prog="subrosa audit", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="verify | export | head")

    def command(name: str, run: Command, what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[common], help=what, description=what)
        added.set_defaults(command=run)
        return added

    verify = command("verify", _verify, "check that the log is what was written")
    verify.add_argument("--secret-file", type=Path, default=environment.get("SUBROSA_SECRET_FILE"), metavar="PATH")
    verify.add_argument("--file", type=Path, metavar="PATH", help="an export, instead of the database")
    verify.add_argument("--head", type=_digest, metavar="DIGEST", help="a digest noted earlier, which has to be in it")
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    command("export", _export, "print every entry, one JSON object a line")
    head = command("head", _head, "print the digest of the last entry")
    head.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
