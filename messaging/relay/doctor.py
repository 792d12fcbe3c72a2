"""``subrosa doctor``: look at a deployment as its relays are configured, and say what is wrong and how to mend it.

It takes the relay's own options and environment, changes nothing, and needs no relay to run. What it finds is decided in
``doctor_rules`` and shown by ``doctor_report``. A check that fails is itself a finding, and stops no other.
"""

import argparse
import asyncio
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from cryptography import x509
from sqlalchemy import text
from sqlalchemy.engine import URL

from messaging.relay.__main__ import relay_options, settings_of
from messaging.relay.accounts.tables import assistants
from messaging.relay.app import attachments_url_of, generation_file_of, version
from messaging.relay.backup import folder_of, read_stamp
from messaging.relay.database import Database, normalise_url, open_database, sqlite_path
from messaging.relay.doctor_report import (
    Check,
    Finding,
    as_json,
    as_metrics,
    as_text,
    exit_code,
    ok,
    problem,
    warning,
)
from messaging.relay.doctor_rules import (
    PostgresSettings,
    judge_assistants,
    judge_backup,
    judge_certificate,
    judge_clock,
    judge_connections,
    judge_database_version,
    judge_disk,
    judge_generation_file,
    judge_http_clock,
    judge_nodes,
    judge_open_files,
    judge_postgresql,
    judge_redis,
    judge_revision,
    judge_secret_file,
    judge_setting,
    judge_versions,
)
from messaging.relay.errors import StartupError
from messaging.relay.facts import database_facts, disk_facts, redis_facts
from messaging.relay.limits import LiveSizes, Sizes
from messaging.relay.migrate import current_revision, known_revisions
from messaging.relay.nodes import database_time, read_nodes
from messaging.relay.operator_settings import LIMITS, REMOTE_CONFIG, read_setting
from messaging.relay.remote_config import LiveConfig
from messaging.relay.server_secret import secret_path
from messaging.relay.settings import Settings
from messaging.relay.speed import what_is_slow

LOOK_SECONDS: Final = 10
# A log of a million entries takes a minute, and so does a large SQLite file that is read whole.
LONG_SECONDS: Final[dict[Check, float]] = {Check.AUDIT_LOG: 600, Check.DATABASE: 600}
_AUDIT: Final = "messaging.relay.admin.audit_command"  # run, not imported: nothing of the relay's imports it
DESCRIPTION = """\
Look whether a deployment is sound: give it the options or the environment of the relay, and the folder of backups.

  subrosa doctor --backup-dir /var/backups/subrosa

Each finding is ok, a warning or a problem, and says how to mend it. The exit code is 1 if there is a problem. It changes nothing. Run it
on the relay's machine with the relay's rights: what it cannot see there it cannot judge. --textfile writes what alerts read.
"""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is looked at. ``backup_dir`` is where ``subrosa backup`` writes, if it is used."""

    settings: Settings
    url: URL
    backup_dir: Path | None
    database: Database

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database."""
        return sqlite_path(self.url)

    @property
    def secret_file(self) -> Path | None:
        """Where the server's secret is."""
        return secret_path(self.settings.secret_file, self.path)

    @property
    def attachments(self) -> Path | None:
        """The folder of attachments; ``None`` for a bucket."""
        return folder_of(attachments_url_of(self.settings, self.url))


async def examine(deployment: Deployment, checks: Collection[Check] | None = None) -> list[Finding]:
    """What is found, check by check: of these, or of all. What is in tables is left out where they are not this version's."""
    findings: list[Finding] = []
    left_out = frozenset() if await _has_our_tables(deployment.url) else OF_TABLES
    for check, look in CHECKS.items():
        if check in left_out or (checks is not None and check not in checks):
            continue
        try:
            async with asyncio.timeout(LONG_SECONDS.get(check, LOOK_SECONDS)):
                findings += [finding async for finding in look(deployment)]
        except StartupError as error:
            findings.append(problem(check, str(error), "Correct the option, or what it names."))
        except Exception as error:  # noqa: BLE001 - in its own words it could tell a secret; the other checks go on
            said = f"it could not be looked at ({type(error).__name__})"
            findings.append(
                problem(check, said, "Look whether what it is about runs, and whether this user may reach it.")
            )
    return findings


OF_TABLES: Final = frozenset(
    {Check.VERSIONS, Check.CONNECTIONS, Check.NODES, Check.SETTINGS, Check.ASSISTANTS, Check.AUDIT_LOG}
)


async def _has_our_tables(url: URL) -> bool:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await current_revision(url) == known_revisions()[0]
    except (StartupError, TimeoutError):
        return False  # said where the schema is looked at


async def _versions(deployment: Deployment) -> AsyncIterator[Finding]:
    for slow in what_is_slow():
        yield warning(
            Check.VERSIONS,
            slow.removeprefix("warning: "),
            "Install what is missing: pip install --force-reinstall subrosa",
        )
    async with deployment.database.read() as db:
        yield judge_database_version(await database_facts(db, deployment.path))
        yield judge_versions(version(), await read_nodes(db), await database_time(db))


async def _migrations(deployment: Deployment) -> AsyncIterator[Finding]:
    current = await current_revision(deployment.url)
    yield judge_revision(current, known_revisions(), migrates=deployment.settings.migrate)


async def _certificate(deployment: Deployment) -> AsyncIterator[Finding]:
    file = deployment.settings.tls_certificate
    if file is None:
        yield ok(Check.CERTIFICATE, "the relay has no certificate of its own: this machine only, or a proxy does TLS")
        return
    try:
        certificates = x509.load_pem_x509_certificates(await asyncio.to_thread(file.read_bytes))
    except (OSError, ValueError):
        yield problem(Check.CERTIFICATE, "the certificate cannot be read", "Correct --tls-cert.")
        return
    public = deployment.settings.public_url
    yield judge_certificate(certificates[0], None if public is None else urlsplit(public).hostname, datetime.now(UTC))


async def _clock(deployment: Deployment) -> AsyncIterator[Finding]:
    if deployment.path is not None:
        yield ok(Check.CLOCK, "the database has this machine's clock")
        return
    async with deployment.database.read() as db:
        yield judge_clock((time.time_ns() // 1_000_000 - await database_time(db)) / 1000)


async def _public_url(deployment: Deployment) -> AsyncIterator[Finding]:
    public, check = deployment.settings.public_url, Check.PUBLIC_URL
    if public is None:
        yield ok(check, "there is no public URL to look at (--public-url)")
        return
    try:
        status, date = await _is_ready(f"{public.rstrip('/')}/v1/health/ready")
    except aiohttp.ClientConnectorCertificateError:
        said = "the certificate behind the public URL is not one that clients accept"
        yield problem(check, said, "Look at its chain and its names.")
        return
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        said = f"nobody answers at the public URL ({type(error).__name__})"
        yield problem(check, said, "Look at DNS, at the firewall and at the proxy.")
        return
    if status == HTTPStatus.OK:
        yield ok(check, "a relay that is ready answers at the public URL")
    else:
        said = f"the public URL answers {status} when asked whether a relay is ready"
        yield problem(check, said, "Look at the proxy, and at the relay's log.")
    if date is not None:
        yield judge_http_clock(time.time() - date.timestamp())


async def _is_ready(url: str) -> tuple[int, datetime | None]:
    """The status of the answer, and its date."""
    seconds = aiohttp.ClientTimeout(total=LOOK_SECONDS / 2)
    async with aiohttp.ClientSession(timeout=seconds) as http, http.get(url, allow_redirects=False) as answer:
        date = answer.headers.get("Date")
        return answer.status, None if date is None else parsedate_to_datetime(date)


async def _open_files(_deployment: Deployment) -> AsyncIterator[Finding]:
    yield judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


async def _disk(deployment: Deployment) -> AsyncIterator[Finding]:
    kept = {"the database": deployment.path and deployment.path.resolve().parent, "attachments": deployment.attachments}
    for what, folder in kept.items():
        if folder is not None:
            yield judge_disk(what, await asyncio.to_thread(disk_facts, folder))
    if not any(kept.values()):
        yield ok(Check.DISK, "nothing is kept on this machine's disk")


_SETTINGS: Final = """
SELECT current_setting('fsync'), coalesce(boot.setting, current_setting('synchronous_commit')), current_setting('full_page_writes'),
    current_setting('autovacuum'), current_setting('max_connections')::int
FROM (SELECT reset_val AS setting FROM pg_settings WHERE name = 'synchronous_commit') AS boot
"""


async def _database(deployment: Deployment) -> AsyncIterator[Finding]:
    async with deployment.database.read(LONG_SECONDS[Check.DATABASE]) as db:
        if deployment.path is not None:
            found = (await db.execute(text("PRAGMA quick_check(1)"))).scalar_one()
            yield (
                ok(Check.DATABASE, "the file is sound")
                if found == "ok"
                else problem(
                    Check.DATABASE, "the file is damaged", "Stop the relay, keep the file, and run: subrosa restore"
                )
            )
            return
        settings = PostgresSettings(*(await db.execute(text(_SETTINGS))).one())
    for finding in judge_postgresql(settings):
        yield finding


async def _connections(deployment: Deployment) -> AsyncIterator[Finding]:
    if deployment.path is not None:
        yield ok(Check.CONNECTIONS, "SQLite needs none to count")
        return
    async with deployment.database.read() as db:
        facts, now = await database_facts(db, None), await database_time(db)
        serving = sum(node.serves(now) for node in await read_nodes(db))
    yield judge_connections(facts.max_connections or 0, serving)


async def _redis(deployment: Deployment) -> AsyncIterator[Finding]:
    if deployment.settings.redis_url is None:
        yield ok(Check.REDIS, "none is used: one relay process needs none")
        return
    for finding in judge_redis(await redis_facts(deployment.settings.redis_url)):
        yield finding


async def _nodes(deployment: Deployment) -> AsyncIterator[Finding]:
    async with deployment.database.read() as db:
        nodes, now = await read_nodes(db), await database_time(db)
    for finding in judge_nodes(nodes, now, redis=deployment.settings.redis_url is not None):
        yield finding


async def _settings(deployment: Deployment) -> AsyncIterator[Finding]:
    settings = deployment.settings
    applying: dict[str, Callable[[Mapping[str, Any]], None]] = {
        LIMITS: LiveSizes(Sizes(settings.limits, settings.bot_limits)).apply,
        REMOTE_CONFIG: LiveConfig(settings.remote_config).apply,
    }
    async with deployment.database.read() as db:
        found = [setting for name in applying if (setting := await read_setting(db, name)) is not None]
    for setting in found:
        try:
            applying[setting.name](setting.document)
        except Exception:  # noqa: BLE001 - whatever it is, a relay does without it too
            yield judge_setting(setting.name, setting.version, applies=False)
        else:
            yield judge_setting(setting.name, setting.version, applies=True)
    if not found:
        yield ok(Check.SETTINGS, "operators have set nothing: what relays were started with stands")


async def _assistants(deployment: Deployment) -> AsyncIterator[Finding]:
    async with deployment.database.read() as db:
        found = await assistants(db)
    yield judge_assistants(len(found), sum(each.accepting for each in found))


async def _backups(deployment: Deployment) -> AsyncIterator[Finding]:
    folder = deployment.backup_dir
    if folder is None:
        said = "nothing is known of backups"
        yield warning(Check.BACKUPS, said, "Name the folder of subrosa backup: --backup-dir, or SUBROSA_BACKUP_DIR.")
        return
    for finding in await asyncio.to_thread(_judge_backups, folder, deployment.path):
        yield finding


def _judge_backups(folder: Path, path: Path | None) -> list[Finding]:
    stamp = read_stamp(folder)
    there = stamp is not None and (folder / Path(stamp.folder).name).is_dir()
    same = path is not None and there and path.exists() and path.stat().st_dev == folder.stat().st_dev
    made_at = stamp.made_at if stamp is not None and there else None
    return list(judge_backup(made_at, time.time_ns() // 1_000_000, same_disk=same))


async def _secret_files(deployment: Deployment) -> AsyncIterator[Finding]:
    settings = deployment.settings
    files = {
        "secret file": deployment.secret_file,
        "private key of the certificate": settings.tls_key,
        "assistant token file": settings.assistant_token_file,
        "webhook secret file": settings.webhook_secret_file,
    }
    for what, file in files.items():
        if file is not None:
            yield judge_secret_file(what, await asyncio.to_thread(_mode, file))
    if deployment.secret_file is None:
        yield problem(Check.SECRET_FILES, "no secret file is named", "With PostgreSQL a relay needs one: --secret-file")


def _mode(file: Path) -> int | None:
    try:
        return file.stat().st_mode
    except OSError:
        return None


async def _generation_file(deployment: Deployment) -> AsyncIterator[Finding]:
    file = generation_file_of(deployment.settings, deployment.url)
    copied = {"backups": deployment.backup_dir, "attachments": deployment.attachments}
    folders = {what: folder for what, folder in copied.items() if folder is not None}
    yield judge_generation_file(file, exists=await asyncio.to_thread(file.exists), copied=folders)


async def _audit_log(deployment: Deployment) -> AsyncIterator[Finding]:
    """Run ``subrosa audit verify``. What could hold a password goes through the environment, which nobody else sees."""
    environment = {**os.environ, "SUBROSA_DATABASE_URL": deployment.settings.database_url}
    if deployment.secret_file is not None:
        environment["SUBROSA_SECRET_FILE"] = str(deployment.secret_file)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", _AUDIT, "verify"),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:  # it took too long
            process.kill()
    if process.returncode == 0:
        yield ok(Check.AUDIT_LOG, "the audit log is what was written")
    elif b"NOT VERIFIED" in said:
        mend = "Keep a copy of the database as it is now, find out who could write to it, and run: subrosa audit verify"
        yield problem(Check.AUDIT_LOG, "the audit log is not what was written", mend)
    else:
        yield problem(Check.AUDIT_LOG, "the audit log could not be verified", "Run: subrosa audit verify")


Look = Callable[[Deployment], AsyncIterator[Finding]]
CHECKS: Final[dict[Check, Look]] = {
    Check.VERSIONS: _versions,
    Check.MIGRATIONS: _migrations,
    Check.CERTIFICATE: _certificate,
    Check.CLOCK: _clock,
    Check.PUBLIC_URL: _public_url,
    Check.OPEN_FILES: _open_files,
    Check.DISK: _disk,
    Check.DATABASE: _database,
    Check.CONNECTIONS: _connections,
    Check.REDIS: _redis,
    Check.NODES: _nodes,
    Check.SETTINGS: _settings,
    Check.ASSISTANTS: _assistants,
    Check.BACKUPS: _backups,
    Check.SECRET_FILES: _secret_files,
    Check.GENERATION_FILE: _generation_file,
    Check.AUDIT_LOG: _audit_log,
}


async def findings_of(arguments: argparse.Namespace) -> list[Finding]:
    """What is found of the deployment that these options describe."""
    try:
        settings = settings_of(arguments)
        url = normalise_url(settings.database_url)
    except StartupError as error:
        return [problem(Check.OPTIONS, str(error), "Correct the option: a relay would not start with it.")]
    path = sqlite_path(url)
    if path is not None and not path.is_file():
        said = "there is no such database"
        return [problem(Check.OPTIONS, said, "Start the relay once, or name its --database-url.")]
    database = open_database(url)
    try:
        return await examine(Deployment(settings, url, arguments.backup_dir, database))
    finally:
        await database.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Look, and say what was found; returns the exit code."""
    arguments = _parser().parse_args(argv)
    findings = asyncio.run(findings_of(arguments))
    if arguments.textfile is not None:
        findings += _write_metrics(arguments.textfile, findings)
    sys.stdout.write((as_json if arguments.json else as_text)(findings) + "\n")
    return exit_code(findings)


def _write_metrics(file: Path, findings: Sequence[Finding]) -> list[Finding]:
    """Replace the file as a whole: it is read at any time."""
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        aside.write_bytes(as_metrics(findings, time.time()))
        aside.replace(file)
    except OSError as error:
        return [
            problem(
                Check.OPTIONS,
                f"--textfile cannot be written: {error.strerror}",
                "Name a file in a folder that is there.",
            )
        ]
    return []


def _parser() -> argparse.ArgumentParser:
    parser = relay_options("subrosa doctor", DESCRIPTION)
    given = os.environ.get("SUBROSA_BACKUP_DIR")
    parser.add_argument(
        "--backup-dir",
        type=Path,
        default=None if given is None else Path(given),
        metavar="PATH",
        help="the folder that subrosa backup writes to; also SUBROSA_BACKUP_DIR",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--textfile", type=Path, metavar="PATH", help="also write metrics, for node_exporter's textfile collector"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
