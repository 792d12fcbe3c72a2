"""``subrosa restore``: put a backup in the place of a relay's database and attachments, while no relay runs.

A backup knows nothing of what happened after it. So every one-time prekey is voided, for it may have been handed out since
(``keys.generation``), and devices are told to upload new ones when they connect. Numbers of envelopes that mailboxes gave since are
never given again, or a device would take new envelopes for those that it has (``delivery.outbound``: a device says up to where it
has all). Whoever was signed in as an operator signs in again.
"""

import argparse
import asyncio
import hmac
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import text, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.app import attachments_url_of
from messaging.relay.backup import (
    ATTACHMENTS,
    SQLITE_FILE,
    Manifest,
    Say,
    Tools,
    copy_pieces,
    digest_of,
    folder_of,
    list_dump,
    pieces_below,
    run_postgresql,
    storage_options,
)
from messaging.relay.database import normalise_url, open_database, sqlite_path
from messaging.relay.errors import StartupError
from messaging.relay.keys.generation import void_one_time_keys
from messaging.relay.messages.tables import MailboxRow
from messaging.relay.migrate import current_revision, finish_restore, known_revisions, migrate
from messaging.relay.nodes import State, database_time, read_nodes
from messaging.relay.settings import Settings

SKIPPED_SEQUENCES: Final = 2**32  # more envelopes than a mailbox can have got since the backup
# What opens the console, and what relays say of themselves: of the time of the backup, and true no more.
_ENDED: Final = ("sign_ins", "challenges", "enrolments", "nodes")
_NAMES_REVISION: Final = re.compile(r" TABLE DATA \S+ alembic_version ")  # the line of a dump's table of contents
DESCRIPTION = """\
Put a backup in the place of a relay's database and attachments. Stop all relays and the console first.

  subrosa restore /var/backups/subrosa/2026-11-26T031500.000000Z

Give the same --database-url and --attachments-url as to the relay, and start it with the secret file of then. Never restore the generation file.
All one-time prekeys are voided: devices upload new ones when they connect, and until then last-resort keys serve. What was done after the
backup is undone: who registered since is unknown, and what was revoked, suspended or deleted since is back. Do that again before you
let anybody in.
"""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back, and what was made void."""

    made_at: int
    voided_prekeys: int
    attachments: int | None
    replaced: str | None


async def restore(
    folder: Path, url: URL, attachments: str, tools: Tools, say: Say, *, replace: bool = False
) -> Restored:
    """Put the backup in ``folder`` in the place of a database and of attachments.

    Raises:
        StartupError: it is no whole backup of this kind of database, relays run, or something is there and ``replace`` is not given.
    """
    manifest = Manifest.read(folder)
    await asyncio.to_thread(_check, folder, manifest, url)
    await _require_quiet(url, replace=replace)
    path = sqlite_path(url)
    try:
        if path is None:
            replaced, voided = (
                None,
                await _into_postgresql(folder / manifest.database, manifest.revision, url, tools, say, replace=replace),
            )
        else:
            replaced, voided = await _into_sqlite(folder / manifest.database, path, say, replace=replace)
        pieces = None
        if manifest.attachments is not None and (target := folder_of(attachments)) is not None:
            target.mkdir(parents=True, exist_ok=True, mode=0o700)
            pieces = await asyncio.to_thread(_put_back, folder / ATTACHMENTS, target, say)
        os.sync()
    except OSError as error:
        raise StartupError(f"the backup cannot be put back: {error.strerror}") from None
    except DBAPIError as error:
        raise StartupError(f"the database cannot be reached or changed ({type(error).__name__})") from None
    return Restored(manifest.made_at, voided, pieces, replaced)


def _check(folder: Path, manifest: Manifest, url: URL) -> None:
    if (manifest.database == SQLITE_FILE) is (sqlite_path(url) is None):
        raise StartupError("the backup is of the other kind of database: SQLite and PostgreSQL are not exchanged")
    if manifest.revision not in known_revisions():
        raise StartupError("the backup is of a newer version than this one")
    try:
        digest = digest_of(folder / manifest.database)
    except OSError as error:
        raise StartupError(f"the backup cannot be read: {error.strerror}") from None
    if not hmac.compare_digest(digest, manifest.digest):
        raise StartupError("the backup is damaged: its database is not what was written")


async def _require_quiet(url: URL, *, replace: bool) -> None:
    """Check that no relay uses the database.

    Raises:
        StartupError: one was seen a moment ago, or there is no telling.
    """
    path = sqlite_path(url)
    if path is not None and not path.is_file():
        return
    try:
        if await current_revision(url) != known_revisions()[0]:
            return  # no relay of this version has used it
    except StartupError:
        if path is None or not replace:
            raise
        return  # a damaged file is why one restores: what is in it cannot be asked
    database = open_database(url)
    try:
        async with database.read() as db:
            now, nodes = await database_time(db), await read_nodes(db)
    finally:
        await database.close()
    running = sorted(node.name for node in nodes if node.state is not State.ENDED and node.seen_lately(now))
    if running:
        raise StartupError(
            f"relays run on this database: {', '.join(running)}. Stop them, and wait 20 seconds if one was killed"
        )


async def _into_sqlite(copy: Path, path: Path, say: Say, *, replace: bool) -> tuple[str | None, int]:
    _make_room(path, replace=replace)
    stamp = time.time_ns() // 1_000_000
    aside, new = path.with_name(f"{path.name}.replaced-{stamp}"), path.with_name(f"{path.name}.restoring-{stamp}")
    say("database: copying ...")
    try:
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        await asyncio.to_thread(shutil.copyfile, copy, new)
        at = normalise_url(f"sqlite:///{new}")
        voided = await finish_restore(at, forget_what_is_past, restored=None)  # before anybody can find it in its place
        for ending in ("-wal", "-shm"):
            new.with_name(new.name + ending).unlink(missing_ok=True)  # empty: the last connection has been closed
        replaced = _put_aside(path, aside)
        new.rename(path)
    finally:
        for ending in ("", "-wal", "-shm"):
            new.with_name(new.name + ending).unlink(missing_ok=True)
    return replaced, voided


def _make_room(path: Path, *, replace: bool) -> None:
    if path.exists() and not replace:
        raise StartupError("there is a database already; --replace puts it aside")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)


def _put_aside(path: Path, aside: Path) -> str | None:
    """The database before its log: ended half-way, there is none that lacks its last changes. A log that is left goes too:
    the next database would take it for its own.
    """
    replaced = aside.name if path.exists() else None
    for ending in ("", "-wal", "-shm"):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    return replaced


async def _into_postgresql(copy: Path, revision: str, url: URL, tools: Tools, say: Say, *, replace: bool) -> int:
    program = tools.find("pg_restore")
    contents = _without_revision(await list_dump(program, copy, url))  # a copy that it cannot read deletes nothing
    if await current_revision(url) is not None:
        if not replace:
            raise StartupError("there is a database already; --replace deletes what is in it. Or name a new, empty one")
        await migrate(url, revision="base")  # a later version may have made more than the backup knows to replace
    say("database: pg_restore ...")
    how = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--clean", "--if-exists"]
    with TemporaryDirectory() as folder:
        listed = Path(folder) / "contents"
        listed.write_text(contents)
        await run_postgresql(program, [*how, f"--use-list={listed}", str(copy)], url)
    return await finish_restore(url, forget_what_is_past, restored=revision)


def _without_revision(contents: str) -> str:
    """The table of contents without what says that the schema is there: ended half-way, no relay starts on what is there."""
    kept = [line for line in contents.splitlines() if not _NAMES_REVISION.search(line)]
    if len(kept) + 1 != len(contents.splitlines()):
        raise StartupError("the backup is no copy of a relay's database")
    return "\n".join(kept) + "\n"


async def forget_what_is_past(db: AsyncConnection) -> int:
    """Change what would harm if it were taken for true after a backup was put back; returns how many prekeys were voided."""
    for table in _ENDED:
        await db.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names of ours
    row = MailboxRow
    await db.execute(update(row).values(last_sequence=row.last_sequence + SKIPPED_SEQUENCES, version=row.version + 1))
    return await void_one_time_keys(db)


def _put_back(source: Path, target: Path, say: Say) -> int:
    """Copy the pieces that are not there. One that is, is the same: a piece never changes."""
    present = {piece.relative_to(target) for piece in pieces_below(target)}
    return copy_pieces(source, target, None, say, leave_out=present)[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        url = normalise_url(arguments.database_url)
        settings = Settings(database_url=arguments.database_url, attachments_url=arguments.attachments_url)
        say: Say = (lambda _: None) if arguments.json else _say
        attachments, tools = attachments_url_of(settings, url), Tools(arguments.pg_bin)
        done = asyncio.run(restore(arguments.folder, url, attachments, tools, say, replace=arguments.replace))
    except StartupError as error:
        sys.stderr.write(f"restore: {error}\n")
        return 1
    sys.stdout.write((json.dumps(asdict(done)) if arguments.json else _told(done)) + "\n")
    return 0


def _say(sentence: str) -> None:
    sys.stderr.write(f"restore: {sentence}\n")


def _told(done: Restored) -> str:
    lines = [
        f"Restored. {done.voided_prekeys} one-time prekeys were voided; devices upload new ones when they connect."
    ]
    if done.replaced is not None:
        lines.append(f"What was there before is beside it: {done.replaced}")
    lines.append(
        "What was revoked, suspended or deleted after the backup is back: do it again before you let anybody in."
    )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="subrosa restore", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the backup: a folder below --backup-dir")
    storage_options(parser)
    parser.add_argument(
        "--replace", action="store_true", help="what is there gives way: SQLite's is put aside, PostgreSQL's deleted"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
