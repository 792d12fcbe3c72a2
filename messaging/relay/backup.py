"""``subrosa backup``: a copy of a relay's database and attachments, made while it runs.

The database is copied first and as of one moment, then the attachments: what the copy of the database points at is there, unless it
expired meanwhile. The secret file is never among it: whoever finds the copy must not be able to read numbers out of it. Nor is the
generation file, by which relays notice that a copy was put in the place of the original (``keys.generation``).
"""

import argparse
import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from sqlalchemy.engine import URL

from messaging.relay.app import attachments_url_of, version
from messaging.relay.attachments.storage import is_piece
from messaging.relay.database import normalise_url, sqlite_path
from messaging.relay.errors import StartupError
from messaging.relay.migrate import current_revision
from messaging.relay.operator import database_option, require_database
from messaging.relay.settings import Settings

FORMAT: Final = 1
STAMP: Final = "last-backup.json"  # in the folder of backups: when the last one was made
MANIFEST: Final = "backup.json"
SQLITE_FILE, POSTGRESQL_FILE, ATTACHMENTS = "database.sqlite", "database.dump", "attachments"
_INCOMPLETE: Final = ".incomplete-"
_PAGES: Final = 4096  # of SQLite, between two words about progress
_HASHED_AT_ONCE: Final = 1 << 20
# Of a URL's query, what PostgreSQL's programs take, by the name that asyncpg has for it (libpq, "Parameter Key Words").
_LIBPQ_NAMES: Final = {"ssl": "sslmode"} | {
    name: name
    for name in (
        "user",
        "host",
        "port",
        "dbname",
        "passfile",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslcrl",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
    )
}
_MAX_SAID: Final = 200  # characters of what a program of PostgreSQL says
DESCRIPTION = """\
Copy a relay's database and its attachments into a new folder below --backup-dir, while relays run:

  subrosa backup --backup-dir /var/backups/subrosa

Keep the secret file elsewhere: without it a backup is of no use, and with it numbers can be read from one. Attachments in a bucket (s3://) are
not copied: use what the bucket has for that. Pieces of attachments never change, so a later backup shares the disk of those that an earlier
one has. PostgreSQL is copied by its own pg_dump, of the server's version or a later one.
"""

WITHOUT_KEYS: Final = (
    "the secret file goes into no backup: whoever finds one could read numbers out of it. Copy it by hand, once, "
    "to a place that only you can read"
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. ``made_at`` is in milliseconds since 1970, ``digest`` SHA-256 of the database's copy.

    ``attachments`` is ``None`` where they are in a bucket, and so no part of it.
    """

    made_at: int
    version: str
    revision: str
    database: str
    database_bytes: int
    digest: str
    attachments: int | None
    attachment_bytes: int | None
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> Self:
        """That of a backup.

        Raises:
            StartupError: the folder is no backup, or one that this version does not understand.
        """
        try:
            found = json.loads((folder / MANIFEST).read_bytes())
            manifest = cls(**found)
        except (OSError, ValueError, TypeError):
            raise StartupError("that folder is no backup: it has no readable backup.json") from None
        if manifest.format != FORMAT or manifest.database not in (SQLITE_FILE, POSTGRESQL_FILE):
            raise StartupError("that backup was made by a newer version")
        return manifest


@dataclass(frozen=True, slots=True)
class Tools:
    """Where PostgreSQL's programs are."""

    folder: Path | None = None

    def find(self, name: str) -> Path:
        """A program.

        Raises:
            StartupError: it is not there.
        """
        found = shutil.which(name, path=None if self.folder is None else str(self.folder))
        if found is None:
            raise StartupError(
                f"{name} is not there: install PostgreSQL's client programs, or name their folder: --pg-bin"
            )
        return Path(found)


async def back_up(
    url: URL, attachments: str, backup_dir: Path, tools: Tools, say: Say, *, secrets: Iterable[Path] = ()
) -> tuple[Path, Manifest]:
    """Make a backup in a folder of its own below ``backup_dir``; returns that folder and what it holds.

    It appears there when it is complete. ``attachments`` is the URL at which they are kept, ``secrets`` are files of the
    relay that must go into no backup, as far as they are known.

    Raises:
        StartupError: there is no such database, it cannot be copied, or what has to be apart is not.
    """
    await require_database(url)
    require_apart(attachments, backup_dir, [path for path in (sqlite_path(url), *secrets) if path is not None])
    made_at = time.time_ns() // 1_000_000
    name = datetime.fromtimestamp(made_at / 1000, UTC).strftime("%Y-%m-%dT%H%M%S.%fZ")
    folder = backup_dir / name
    try:
        with _begun(backup_dir, name) as begun:
            revision, copy = await current_revision(url), await _copy_database(url, begun, tools, say)
            copied = await asyncio.to_thread(_copy_attachments, attachments, begun, last_backup_folder(backup_dir), say)
            digest = await asyncio.to_thread(digest_of, copy)
            size = copy.stat().st_size
            manifest = Manifest(made_at, version(), revision or "", copy.name, size, digest, *copied)
            _write(begun / MANIFEST, asdict(manifest))
            os.sync()
            begun.rename(folder)
        _write(backup_dir / STAMP, {"made_at": made_at, "folder": folder.name})
        os.sync()
    except OSError as error:
        raise StartupError(f"the backup cannot be written: {error.strerror}") from None
    return folder, manifest


@contextmanager
def _begun(backup_dir: Path, name: str) -> Iterator[Path]:
    """A folder for a backup that is not complete. There is one at a time: what was left by one that was killed goes."""
    backup_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone_in(backup_dir, "another backup is being made into that folder"):
        for left in backup_dir.glob(f"{_INCOMPLETE}*"):
            shutil.rmtree(left, ignore_errors=True)
        begun = backup_dir / f"{_INCOMPLETE}{name}"
        begun.mkdir(mode=0o700)
        try:
            yield begun
        finally:
            shutil.rmtree(begun, ignore_errors=True)


@contextmanager
def alone_in(folder: Path, refusal: str) -> Iterator[None]:
    """While the block lasts, nobody else is in such a block of this folder.

    Raises:
        StartupError: somebody is; it says the ``refusal``.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(refusal) from None
        yield
    finally:
        os.close(handle)


async def _copy_database(url: URL, into: Path, tools: Tools, say: Say) -> Path:
    path = sqlite_path(url)
    if path is None:
        copy = into / POSTGRESQL_FILE
        await _dump(url, copy, tools, say)
    else:
        copy = into / SQLITE_FILE
        await asyncio.to_thread(copy_sqlite, path, copy, say)
    return copy


def copy_sqlite(source: Path, target: Path, say: Say) -> None:
    """Copy an SQLite database as it is at one moment, while others write to it.

    Raises:
        StartupError: it cannot be read, or the copy is not whole.
    """
    told = -1

    def tell(_status: int, left: int, pages: int) -> None:
        nonlocal told
        share = 100 if not pages else 100 * (pages - left) // pages
        if share // 10 > told:
            told = share // 10
            say(f"database: {share} %")

    try:
        from_file = sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        to_file = sqlite3.connect(_empty(target), isolation_level=None)
        try:
            # In one transaction: else the copying would begin anew with every write of somebody else, and perhaps never end.
            from_file.execute("BEGIN").close()
            from_file.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            from_file.backup(to_file, pages=_PAGES, progress=tell)
            found = to_file.execute("PRAGMA quick_check").fetchone()
            to_file.execute("PRAGMA journal_mode = DELETE").close()  # one file, and no other beside it
        finally:
            from_file.close()
            to_file.close()
    except sqlite3.Error as error:
        raise StartupError(f"the database cannot be copied ({type(error).__name__})") from None
    if found != ("ok",):
        raise StartupError("the copy of the database is damaged, and so the database probably is")


def _empty(path: Path) -> Path:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return path


async def _dump(url: URL, target: Path, tools: Tools, say: Say) -> None:
    program = tools.find("pg_dump")
    say("database: pg_dump ...")
    await run_postgresql(program, ["--format=custom", "--no-owner", "--no-privileges", f"--file={_empty(target)}"], url)


async def run_postgresql(program: Path, arguments: Sequence[str], url: URL) -> None:
    """Run one of PostgreSQL's programs on a database. The password is not among its arguments, which others can see.

    Raises:
        StartupError: it fails.
    """
    environment = dict(os.environ)
    if (password := _password_of(url)) is not None:
        environment["PGPASSWORD"] = password
    await _run(program, [*arguments, "--no-password", f"--dbname={_as_libpq(url)}"], url, environment)


async def list_dump(program: Path, copy: Path, url: URL) -> str:
    """The table of contents of a copy that pg_dump made, an entry a line, as ``pg_restore --use-list`` takes it.

    Raises:
        StartupError: pg_restore cannot read it.
    """
    return await _run(program, ["--list", str(copy)], url, dict(os.environ))


async def _run(program: Path, arguments: Sequence[str], url: URL, environment: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, said = await process.communicate()
    if process.returncode != 0:
        raise StartupError(f"{program.name} failed: {_first_error(said.decode(errors='replace'), url)}")
    return told.decode(errors="replace")


def _as_libpq(url: URL) -> str:
    """For PostgreSQL's programs, which others can see: what they know, and no password."""
    named = {_LIBPQ_NAMES[name]: value for name, value in url.query.items() if name in _LIBPQ_NAMES}
    bare = URL.create("postgresql", url.username, None, url.host, url.port, url.database, named)
    return bare.render_as_string(hide_password=False)


def _password_of(url: URL) -> str | None:
    """As asyncpg finds it: before the host, or in the query."""
    given = url.password if url.password is not None else url.query.get("password")
    return given[-1] if isinstance(given, tuple) else None if given is None else str(given)


def _first_error(said: str, url: URL) -> str:
    """The first line that names an error: later ones may hold what stands in the database."""
    lines = [line for line in said.splitlines() if "error" in line.lower()] or ["it does not say why"]
    return lines[0].replace(_password_of(url) or "\0", "...")[:_MAX_SAID]


def last_backup_folder(backup_dir: Path) -> Path | None:
    """The last backup, if it is still there."""
    stamp = read_stamp(backup_dir)
    folder = None if stamp is None else backup_dir / Path(stamp.folder).name
    return folder if folder is not None and folder.is_dir() else None


@dataclass(frozen=True, slots=True)
class Stamp:
    """When the last backup was made, in milliseconds since 1970, and the name of its folder."""

    made_at: int
    folder: str


def read_stamp(backup_dir: Path) -> Stamp | None:
    """That of a folder of backups; ``None`` if none was made there."""
    try:
        found = json.loads((backup_dir / STAMP).read_bytes())
        return Stamp(int(found["made_at"]), str(found["folder"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def folder_of(attachments: str) -> Path | None:
    """The folder at which attachments are kept; ``None`` if that is a bucket."""
    parts = urlsplit(attachments)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def require_apart(attachments: str, backup_dir: Path, others: Iterable[Path]) -> None:
    """Check that nothing else lies among attachments, where it could be taken for one of them.

    Raises:
        StartupError: backups do, or attachments among them, or one of ``others``: the database, the secret file, the generation file.
    """
    if (folder := folder_of(attachments)) is None:
        return
    folder, backups = folder.resolve(), backup_dir.resolve()
    if backups.is_relative_to(folder) or folder.is_relative_to(backups):
        raise StartupError("the folder of backups and that of attachments must lie apart: one is inside the other")
    if any(other.resolve().is_relative_to(folder) for other in others):
        raise StartupError(
            "the database, the secret file and the generation file must not lie in the folder of attachments"
        )


def _copy_attachments(attachments: str, begun: Path, before: Path | None, say: Say) -> tuple[int | None, int | None]:
    source = folder_of(attachments)
    if source is None:
        say("attachments: in a bucket, and not copied: use what the bucket has for that")
        return None, None
    target = begun / ATTACHMENTS
    target.mkdir(mode=0o700)
    return copy_pieces(source, target, None if before is None else before / ATTACHMENTS, say)


def copy_pieces(
    source: Path, target: Path, before: Path | None, say: Say, *, leave_out: AbstractSet[Path] = frozenset()
) -> tuple[int, int]:
    """Copy pieces of attachments; those that ``before`` has too share its disk. Returns how many, and how many bytes.

    A piece has its name for ever. One that vanishes meanwhile has expired.
    """
    count = size = told = 0
    for piece in pieces_below(source):
        name = piece.relative_to(source)
        if name in leave_out:
            continue
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            size += _copy(piece, copy, None if before is None else before / name)
        except FileNotFoundError:
            continue
        count += 1
        if count // 1000 > told:
            told = count // 1000
            say(f"attachments: {count} pieces")
    say(f"attachments: {count} pieces, {size} bytes")
    return count, size


def pieces_below(folder: Path) -> list[Path]:
    """All pieces in a folder of attachments. Of other files, of those still being written, and behind links there is none."""
    found = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return sorted(
        path
        for path in found
        if is_piece(path.relative_to(folder).as_posix()) and not path.is_symlink() and path.is_file()
    )


def _copy(piece: Path, copy: Path, before: Path | None) -> int:
    """Ended half-way, there is no file of this name: whoever goes on takes what is there for the whole piece."""
    size = piece.stat().st_size
    if before is not None and before.is_file() and before.stat().st_size == size:
        os.link(before, copy)
    else:
        aside = _aside(copy)
        shutil.copyfile(piece, aside)
        aside.replace(copy)
    return size


def _aside(path: Path) -> Path:
    """An empty file beside, for what is to be there as a whole or not at all."""
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    return _empty(aside)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while some := file.read(_HASHED_AT_ONCE):
            digest.update(some)
    return digest.hexdigest()


def _write(path: Path, document: Mapping[str, Any]) -> None:
    aside = _aside(path)
    aside.write_text(json.dumps(document, indent=1) + "\n")
    aside.replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.with_secret:
        sys.stderr.write(f"backup: {WITHOUT_KEYS}\n")
        return 1
    try:
        url = normalise_url(arguments.database_url)
        settings = Settings(database_url=arguments.database_url, attachments_url=arguments.attachments_url)
        say: Say = (lambda _: None) if arguments.json else _say
        attachments, tools = attachments_url_of(settings, url), Tools(arguments.pg_bin)
        work = back_up(url, attachments, arguments.backup_dir, tools, say, secrets=_secrets(os.environ))
        folder, manifest = asyncio.run(work)
    except StartupError as error:
        sys.stderr.write(f"backup: {error}\n")
        return 1
    sys.stdout.write(_told(folder, manifest, as_json=arguments.json) + "\n")
    return 0


def _secrets(environment: Mapping[str, str]) -> list[Path]:
    """Where the relay has its secret and its generation file, if it is said as to the relay; else they are beside the database."""
    return [
        Path(environment[name]) for name in ("SUBROSA_SECRET_FILE", "SUBROSA_GENERATION_FILE") if environment.get(name)
    ]


def _say(sentence: str) -> None:
    sys.stderr.write(f"backup: {sentence}\n")


def _told(folder: Path, manifest: Manifest, *, as_json: bool) -> str:
    if as_json:
        return json.dumps({"folder": str(folder), **asdict(manifest)})
    kept = "" if manifest.attachments is None else f" and {manifest.attachments} pieces of attachments"
    return (
        f"Backed up into {folder}: {manifest.database_bytes} bytes of database{kept}. The secret file is not among it."
    )


def storage_options(parser: argparse.ArgumentParser, environment: Mapping[str, str] = os.environ) -> None:
    """Add where the database and the attachments are, and PostgreSQL's programs."""
    database_option(parser, environment)
    parser.add_argument(
        "--attachments-url",
        default=environment.get("SUBROSA_ATTACHMENTS_URL"),
        metavar="TEXT",
        help="the relay's attachments (with SQLite the default is the folder beside the file)",
    )
    parser.add_argument("--pg-bin", type=Path, metavar="PATH", help="folder of pg_dump and pg_restore (default: PATH)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and no progress")


def _parser(environment: Mapping[str, str] = os.environ) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="subrosa backup", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    storage_options(parser, environment)
    given = environment.get("SUBROSA_BACKUP_DIR")
    parser.add_argument(
        "--backup-dir",
        type=Path,
        default=None if given is None else Path(given),
        required=given is None,
        metavar="PATH",
        help="folder of backups, on another disk or machine; also SUBROSA_BACKUP_DIR",
    )
    parser.add_argument(
        "--with-secret", action="store_true", help=argparse.SUPPRESS
    )  # what many look for: refused, with the reason
    return parser


if __name__ == "__main__":
    sys.exit(main())
