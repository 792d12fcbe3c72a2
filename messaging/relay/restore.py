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
import shutil
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
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
    alone_in,
    copy_pieces,
    digest_of,
    folder_of,
    pieces_below,
    storage_options,
)
from messaging.relay.database import normalise_url, open_database, sqlite_path
from messaging.relay.errors import StartupError
from messaging.relay.keys.generation import void_one_time_keys
from messaging.relay.messages.tables import MailboxRow
from messaging.relay.migrate import current_revision, finish_restore, known_revisions
from messaging.relay.nodes import State, database_time, read_nodes
from messaging.relay.restore_postgresql import IN_USE, put_into_postgresql
from messaging.relay.settings import Settings

SKIPPED_SEQUENCES: Final = 2**32  # more envelopes than a mailbox can have got since the backup
# What opens the console, and what relays say of themselves: of the time of the backup, and true no more.
_ENDED: Final = ("sign_ins", "challenges", "enrolments", "nodes")
DESCRIPTION = """\
Put a backup in the place of a relay's database and attachments. Stop all relays and the console first.

  subrosa restore /var/backups/subrosa/2026-11-26T031500.000000Z

Give the same --database-url and --attachments-url as to the relay, and start it with the secret file of then. Never restore the generation file.
The database that is there is put aside, so there has to be room for both; with PostgreSQL the role needs CREATEDB for it, and what was granted
on the database itself is to be granted again.
All one-time prekeys are voided: devices upload new ones when they connect, and until then last-resort keys serve. What was done after the
backup is undone: who registered since is unknown, and what was revoked, suspended or deleted since is back. Do that again before you
let anybody in.
"""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back, and what was made void. ``replaced`` names the database that was there, which is kept."""

    made_at: int
    voided_prekeys: int
    attachments: int | None
    replaced: str | None


async def restore(
    folder: Path, url: URL, attachments: str, tools: Tools, say: Say, *, replace: bool = False
) -> Restored:
    """Put the backup in ``folder`` in the place of a database and of attachments.

    Attachments come first, and the database at once: whenever this ends, what relays find is all of the one or all of the other.

    Raises:
        StartupError: it is no whole backup of this kind of database, relays run, or something is there and ``replace`` is not given.
    """
    manifest = Manifest.read(folder)
    await asyncio.to_thread(_check, folder, manifest, url)
    await _require_quiet(url, replace=replace)
    await _require_room(url, replace=replace)
    try:
        pieces = await asyncio.to_thread(_put_back, folder / ATTACHMENTS, folder_of(attachments), say)
        copy, path = folder / manifest.database, sqlite_path(url)
        if path is None:
            replaced, voided = await put_into_postgresql(copy, manifest.revision, url, tools, say, forget_what_is_past)
        else:
            replaced, voided = await _into_sqlite(copy, path, say)
        os.sync()
    except OSError as error:
        raise StartupError(f"the backup cannot be put back: {error.strerror}") from None
    except (DBAPIError, sqlite3.Error) as error:
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
    if manifest.attachments is not None and len(pieces_below(folder / ATTACHMENTS)) != manifest.attachments:
        raise StartupError("the backup is damaged: its attachments are not all there")


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


async def _require_room(url: URL, *, replace: bool) -> None:
    path = sqlite_path(url)
    taken = path.exists() if path is not None else await current_revision(url) is not None
    if taken and not replace:
        raise StartupError("there is a database already; --replace puts it aside. Or name a new, empty one")


async def _into_sqlite(copy: Path, path: Path, say: Say) -> tuple[str | None, int]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    stamp = time.time_ns() // 1_000_000
    aside, new = path.with_name(f"{path.name}.replaced-{stamp}"), path.with_name(f"{path.name}.restoring")
    with alone_in(path.parent, "the same is being done already"):
        _remove(new)  # of a restoration that was killed
        say("database: copying ...")
        try:
            os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            await asyncio.to_thread(shutil.copyfile, copy, new)
            at = normalise_url(f"sqlite:///{new}")  # done there, before anybody finds it in its place
            voided = await finish_restore(at, forget_what_is_past, restored=None)
            end_log(new)
            return put_in_place(new, path, aside), voided
        finally:
            _remove(new)


def _remove(database: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)


def end_log(path: Path) -> None:
    """Write into an SQLite file what is still in its log, so that it is the whole database.

    Raises:
        StartupError: somebody uses it.
        sqlite3.Error: it cannot be read or written.
    """
    with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as db:
        try:
            db.execute("PRAGMA journal_mode = DELETE").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise StartupError(IN_USE) from None
            raise


def put_in_place(new: Path, path: Path, aside: Path) -> str | None:
    """Have ``path`` name the file ``new``, and ``aside`` what it named before; returns the latter's name, if there was any.

    Ended at any moment, ``path`` is the one or the other, whole.
    """
    replaced = aside.name if path.exists() else None
    if replaced is not None:
        with suppress(sqlite3.DatabaseError):  # a damaged one, in which there is nothing to save
            end_log(path)
        _name_also(path, aside)
    for ending in ("-wal", "-shm"):  # what is left of a damaged one: the next database would take it for its own
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    new.replace(path)
    return replaced


def _name_also(path: Path, another: Path) -> None:
    try:
        os.link(path, another)
    except OSError:  # a file system without such names
        shutil.copyfile(path, another)


async def forget_what_is_past(db: AsyncConnection) -> int:
    """Change what would harm if it were taken for true after a backup was put back; returns how many prekeys were voided."""
    for table in _ENDED:
        await db.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names of ours
    row = MailboxRow
    await db.execute(update(row).values(last_sequence=row.last_sequence + SKIPPED_SEQUENCES, version=row.version + 1))
    return await void_one_time_keys(db)


def _put_back(source: Path, target: Path | None, say: Say) -> int | None:
    """Copy the pieces that are not there. One that is, is the same: a piece never changes, and is there as a whole."""
    if not source.is_dir():
        return None
    if target is None:
        say("attachments: the relay's are in a bucket, so copy those of the backup there")
        return None
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        lines.append(f"The database that was there is kept beside it, until you delete it: {done.replaced}")
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
        "--replace", action="store_true", help="put aside the database that is there, under another name"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
