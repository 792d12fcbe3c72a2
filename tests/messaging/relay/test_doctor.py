"""A deployment that is sound, and the same after something was done to it: the doctor looks with the relay's own options."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update

from messaging.relay.accounts.tables import AccountRow
from messaging.relay.database import normalise_url, open_database
from messaging.relay.doctor import CHECKS, LONG_SECONDS, OF_TABLES, Deployment, examine, main
from messaging.relay.doctor_report import Check, Finding, Level
from messaging.relay.migrate import migrate
from messaging.relay.operator_settings import LIMITS, write_setting
from messaging.relay.settings import Settings
from tests.devices import MakePeer
from tests.messaging.relay.backups import Backups
from tests.relays import Relays

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM
CANARY = "canary"


async def found(settings: Settings, backup_dir: Path | None = None, *, only: Check | None = None) -> list[Finding]:
    url = normalise_url(settings.database_url)
    database = open_database(url)
    try:
        return await examine(Deployment(settings, url, backup_dir, database), None if only is None else [only])
    finally:
        await database.close()


async def worst(settings: Settings, check: Check, backup_dir: Path | None = None) -> Level:
    levels = {finding.level for finding in await found(settings, backup_dir, only=check)}
    return next(level for level in (PROBLEM, WARNING, OK) if level in levels)


@pytest.fixture
async def settings(relays: Relays, backend: str) -> Settings:
    """Those of a relay that runs and has been seen."""
    prepared = await relays.settings(backend)
    assert prepared.secret_file is not None
    assert prepared.assistant_token_file is not None
    for file in (prepared.secret_file, prepared.assistant_token_file):
        file.chmod(0o600)
    relay = await relays.serve(prepared)
    database = open_database(normalise_url(prepared.database_url))
    async with asyncio.timeout(20), database.read() as db:
        while not (await db.execute(text("SELECT count(*) FROM nodes"))).scalar_one():
            await asyncio.sleep(0.02)
    await database.close()
    return replace(prepared, public_url=relay.url)


async def test_a_deployment_that_is_sound_has_no_problem_of_its_own(
    settings: Settings, backend: str, tmp_path: Path
) -> None:
    backups = Backups(settings, tmp_path / "backups")
    await backups.make()
    findings = await found(settings, backups.folder)
    assert {finding.check for finding in findings} == CHECKS.keys()
    of_the_tests = {Check.OPEN_FILES, Check.DISK}  # this machine's
    if backend == "postgresql":
        of_the_tests.add(Check.DATABASE)  # the PostgreSQL of the tests does without its disk, to be quick
    assert [each for each in findings if each.level is PROBLEM and each.check not in of_the_tests] == []


async def test_a_database_that_does_without_its_disk_is_a_problem(relays: Relays) -> None:
    said = [each.said for each in await found(await relays.settings("postgresql"), only=Check.DATABASE)]
    assert [sentence.split()[0] for sentence in said] == ["fsync", "full_page_writes", "synchronous_commit"]


def damage(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(b"\xff" * 40_960)


async def test_a_file_that_is_damaged_is_a_problem(relays: Relays) -> None:
    settings = await relays.settings("sqlite")
    assert await worst(settings, Check.DATABASE) is OK
    damage(Path(settings.database_url.removeprefix("sqlite:///")))
    assert await worst(settings, Check.DATABASE) is PROBLEM


async def test_a_relay_that_does_not_run_is_a_problem(relays: Relays, backend: str) -> None:
    assert await worst(await relays.settings(backend), Check.NODES) is PROBLEM


async def test_others_that_can_read_a_secret_are_a_problem(settings: Settings) -> None:
    assert await worst(settings, Check.SECRET_FILES) is OK
    assert settings.secret_file is not None
    settings.secret_file.chmod(0o644)
    assert await worst(settings, Check.SECRET_FILES) is PROBLEM
    assert await worst(replace(settings, tls_key=Path("/nowhere")), Check.SECRET_FILES) is PROBLEM


async def test_an_audit_log_that_was_changed_is_a_problem(settings: Settings, backend: str) -> None:
    assert await worst(settings, Check.AUDIT_LOG) is OK
    insert = """
    INSERT INTO audit_entries (sequence, at, operator, via, action, outcome, subject, reason, detail, previous, digest, seal)
    VALUES (1, 1, 'eve', 'api', 'nodes.drain', 'done', '', '', '{}', :nothing, :nothing, :nothing)
    """
    database = open_database(normalise_url(settings.database_url))
    async with database.begin() as db:
        await db.execute(text(insert), {"nothing": bytes(32)})
    await database.close()
    assert await worst(settings, Check.AUDIT_LOG) is PROBLEM


async def test_an_audit_log_without_the_secret_is_not_said_to_be_broken(settings: Settings) -> None:
    (finding,) = await found(replace(settings, secret_file=Path("/nowhere")), only=Check.AUDIT_LOG)
    assert (finding.level, finding.said) == (PROBLEM, "the audit log could not be verified")


async def test_an_audit_log_that_takes_too_long_is_left(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    run = asyncio.create_subprocess_exec

    async def noted(*command: str, **more: Any) -> asyncio.subprocess.Process:
        started.append(await run(*command, **more))
        return started[-1]

    monkeypatch.setattr("asyncio.create_subprocess_exec", noted)
    monkeypatch.setitem(LONG_SECONDS, Check.AUDIT_LOG, 0.05)
    (finding,) = await found(settings, only=Check.AUDIT_LOG)
    assert (finding.level, finding.said) == (PROBLEM, "it could not be looked at (TimeoutError)")
    assert await asyncio.wait_for(started[0].wait(), 10) == -signal.SIGKILL


@pytest.mark.parametrize("revision", ["0004", "base"])
async def test_of_a_schema_that_is_not_this_versions_only_that_is_said(
    relays: Relays, backend: str, revision: str
) -> None:
    settings = await relays.settings(backend)
    await migrate(normalise_url(settings.database_url), revision=revision)
    findings = await found(settings)
    assert [each.level for each in findings if each.check is Check.MIGRATIONS] == [WARNING]
    assert not [each for each in findings if "could not be" in each.said]


async def test_a_database_that_is_away_is_said_once(relays: Relays) -> None:
    away = replace(await relays.settings("postgresql"), database_url="postgresql://nobody@127.0.0.1:1/nothing")
    checks = [each.check for each in await found(away) if each.level is PROBLEM and "could not be" in each.said]
    assert set(checks) <= {Check.CLOCK, Check.DATABASE}
    assert await worst(away, Check.MIGRATIONS) is PROBLEM


async def test_a_redis_that_is_away_is_a_problem(settings: Settings) -> None:
    assert await worst(replace(settings, redis_url="redis://127.0.0.1:1"), Check.REDIS) is PROBLEM


async def test_limits_that_relays_cannot_apply_are_a_problem(settings: Settings) -> None:
    assert await worst(settings, Check.SETTINGS) is OK
    database = open_database(normalise_url(settings.database_url))
    for version, (size, level) in enumerate(((7, OK), (-1, PROBLEM))):
        document = {"everybody": {"messages": {"size": size, "refill": 1}}}
        async with database.begin() as db:
            await write_setting(db, LIMITS, document, after=version, at=1, by="olga")
        assert await worst(settings, Check.SETTINGS) is level
    await database.close()


async def test_backups_are_asked_for(settings: Settings, tmp_path: Path) -> None:
    assert await worst(settings, Check.BACKUPS) is WARNING
    assert await worst(settings, Check.BACKUPS, tmp_path) is PROBLEM


async def test_an_assistant_that_accepts_nobody_is_a_warning(relays: Relays, backend: str, peer_of: MakePeer) -> None:
    relay = await relays.start(backend)
    await peer_of(relay).register()
    assert await worst(relay.settings, Check.ASSISTANTS) is OK
    database = open_database(normalise_url(relay.settings.database_url))
    async with database.begin() as db:
        await db.execute(update(AccountRow).values(assistant_name="rose", accepting=False))
    await database.close()
    assert await worst(relay.settings, Check.ASSISTANTS) is WARNING


async def test_who_answers_at_the_public_url_is_looked_at(settings: Settings, relays: Relays) -> None:
    looked = await found(settings, only=Check.PUBLIC_URL)
    assert [(each.check, each.level) for each in looked] == [(Check.PUBLIC_URL, OK), (Check.CLOCK, OK)]
    assert await worst(settings, Check.CLOCK) is OK
    for wrong in ("http://127.0.0.1:1", f"{settings.public_url}/elsewhere", "no url"):
        assert await worst(replace(settings, public_url=wrong), Check.PUBLIC_URL) is PROBLEM
    behind_tls = await relays.start("sqlite", tls=True)  # by a certificate that no client knows
    (finding,) = await found(replace(settings, public_url=behind_tls.url), only=Check.PUBLIC_URL)
    assert "not one that clients accept" in finding.said


async def test_the_certificate_is_for_the_host_of_the_public_url(settings: Settings, relays: Relays) -> None:
    own = replace(settings, tls_certificate=relays.tls.certificate, tls_key=relays.tls.key)
    (finding,) = await found(own, only=Check.CERTIFICATE)
    assert "valid until" in finding.said
    (finding,) = await found(replace(own, public_url="https://chat.example"), only=Check.CERTIFICATE)
    assert "does not name the host" in finding.said
    assert await worst(replace(own, tls_certificate=relays.tls.key), Check.CERTIFICATE) is PROBLEM


async def test_a_schema_that_is_not_this_versions_is_told(relays: Relays, backend: str) -> None:
    settings = await relays.settings(backend)
    assert await worst(settings, Check.MIGRATIONS) is OK
    database = open_database(normalise_url(settings.database_url))
    async with database.begin() as db:
        await db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    assert await worst(settings, Check.MIGRATIONS) is PROBLEM


async def test_a_check_that_fails_stops_no_other_and_tells_nothing_of_what_it_saw() -> None:
    settings = Settings(
        database_url=f"postgresql://{CANARY}:{CANARY}@127.0.0.1:1/{CANARY}",
        redis_url=f"redis://:{CANARY}@127.0.0.1:1",
        public_url=f"http://{CANARY}:{CANARY}@127.0.0.1:1",
        secret_file=Path("/nowhere/secret"),
        attachments_url="file:///nowhere",
    )
    findings = await found(settings)
    assert {finding.check for finding in findings} == CHECKS.keys() - OF_TABLES
    assert CANARY not in repr(findings)


async def doctor(*arguments: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "messaging.cli", "doctor", *arguments),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await process.communicate()
    assert errors == b""
    return process.returncode, said.decode()


def files_like(folder: Path, pattern: str) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob(pattern)}


async def test_as_a_command_it_reads_the_relays_environment(settings: Settings, tmp_path: Path) -> None:
    environment = {
        "SUBROSA_DATABASE_URL": settings.database_url,
        "SUBROSA_ATTACHMENTS_URL": str(settings.attachments_url),
        "SUBROSA_SECRET_FILE": str(settings.secret_file),
        "SUBROSA_BACKUP_DIR": str(tmp_path / "none"),
    }
    code, said = await doctor("--json", "--textfile", str(tmp_path / "doctor.prom"), **environment)
    told = json.loads(said)
    assert (code, told["healthy"]) == (1, False)  # there is no backup
    assert {"check": "backups", "level": "problem"}.items() <= next(
        each for each in told["findings"] if each["check"] == "backups"
    ).items()
    written = files_like(tmp_path, "doctor.prom*")
    assert list(written) == ["doctor.prom"]
    assert 'subrosa_doctor_problem{check="backups"} 1.0' in written["doctor.prom"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--database-url", f"mysql://{CANARY}@x/y"], "must be sqlite"),
        (["--database-url", "sqlite:///nowhere/there.db"], "no such database"),
        (["--certificate-key-id", "0"], "certificate-key-id"),
    ],
    ids=["database", "file", "option"],
)
def test_options_with_which_a_relay_would_not_start_are_the_finding(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["check"] == "options"
    assert sentence in finding["said"]
    assert CANARY not in str(finding)
