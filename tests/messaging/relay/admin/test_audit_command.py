"""``subrosa audit``: what was written is verified, from the database and from an export; what was changed is found."""

import asyncio
import json
from pathlib import Path

import pytest
from sqlalchemy import insert, text, update

from messaging.relay.admin.audit import Entry, Outcome, Said, link
from messaging.relay.admin.audit_command import main
from messaging.relay.admin.audit_tables import AuditRow, AuditTurnRow, _values
from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.server_secret import read_secret
from tests.relays import Relays

COUNT = 1203  # more than two pages


class Log:
    """A database with a log, and the command on it."""

    def __init__(self, url: str, secret_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self.secret_file = secret_file
        self.capsys = capsys

    async def run(self, *argv: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        more = ["--secret-file", str(self.secret_file)] if argv[0] == "verify" else []
        code = await asyncio.to_thread(main, [*argv, "--database-url", self.url, *more])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    async def head(self) -> str:
        return str(json.loads((await self.run("head", "--json"))[1])["head"])

    async def change(self, *statements: str) -> None:
        """As somebody would who can write to the database and get rid of its triggers."""
        database = open_database(normalise_url(self.url))
        async with database.begin() as db:
            for statement in statements:
                await db.execute(text(statement))
        await database.close()


@pytest.fixture
async def log(relays: Relays, backend: str, capsys: pytest.CaptureFixture[str]) -> Log:
    settings = await relays.settings(backend)
    assert settings.secret_file is not None
    database = open_database(normalise_url(settings.database_url))
    await write(database, COUNT, read_secret(settings.secret_file, create=False).audit_key)
    await database.close()
    return Log(settings.database_url, settings.secret_file, capsys)


async def write(database: Database, count: int, key: bytes) -> None:
    """What ``append`` writes, all at once."""
    entries: list[Entry] = []
    for number in range(count):
        said = Said(at=number, operator="ada", via="api", action="x.do", outcome=Outcome.DONE, reason=f"r{number}")
        entries.append(link(said, after=entries[-1] if entries else None, key=key))
    async with database.begin() as db:
        await db.execute(insert(AuditRow), [_values(entry) for entry in entries])
        await db.execute(update(AuditTurnRow).values(entries=count))


def without_triggers(backend: str) -> list[str]:
    if backend == "postgresql":
        return ["DROP TRIGGER audit_entries_stay ON audit_entries"]
    return ["DROP TRIGGER audit_entries_stay_update", "DROP TRIGGER audit_entries_stay_delete"]


async def test_a_log_as_it_was_written_is_verified(log: Log) -> None:
    code, said, _ = await log.run("verify")
    assert code == 0
    assert f"Verified: {COUNT} entries, each as it was written and sealed by this server." in said
    head = await log.head()
    assert head in said
    code, said, _ = await log.run("verify", "--head", head, "--json")
    assert (code, json.loads(said)) == (0, {"entries": COUNT, "head": head, "seals": True})


async def test_an_export_is_verified_where_the_database_is_not(log: Log, tmp_path: Path) -> None:
    _, exported, _ = await log.run("export")
    file = tmp_path / "audit.jsonl"
    file.write_text(exported)
    head = await log.head()
    code, said, _ = await log.run("verify", "--file", str(file), "--head", head)
    assert code == 0
    assert "the seals were not looked at" in said
    file.write_text(exported.replace('"reason":"r700"', '"reason":"r007"'))
    code, _, told = await log.run("verify", "--file", str(file))
    assert (code, told) == (1, "audit: NOT VERIFIED. Entry 701 was changed.\n")
    file.write_text("".join(exported.splitlines(keepends=True)[:-1]))
    assert (await log.run("verify", "--file", str(file)))[0] == 0
    assert (await log.run("verify", "--file", str(file), "--head", head))[0] == 1
    file.write_bytes(b"\xff\xfe\n")
    assert (await log.run("verify", "--file", str(file)))[0] == 1


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE audit_entries SET reason = 'x' WHERE sequence = 700", "Entry 700 was changed."),
        ("DELETE FROM audit_entries WHERE sequence = 700", "Before entry 701 something is missing or was changed."),
        ("UPDATE audit_entries SET outcome = 'x' WHERE sequence = 700", "Entry 700 was changed."),
        ("UPDATE audit_entries SET detail = '7' WHERE sequence = 700", "Entry 700 was changed."),
        ("DELETE FROM audit_entries WHERE sequence > 1202", "The end of the log is missing."),
        ("DELETE FROM audit_turn", "The end of the log is missing."),
    ],
)
async def test_what_was_changed_in_the_database_is_found(log: Log, backend: str, statement: str, told: str) -> None:
    await log.change(*without_triggers(backend), statement)
    assert await log.run("verify") == (1, "", f"audit: NOT VERIFIED. {told}\n")


async def test_another_servers_secret_verifies_nothing(log: Log, tmp_path: Path) -> None:
    log.secret_file = tmp_path / "another"
    log.secret_file.write_bytes(b"x" * 32)
    code, _, told = await log.run("verify")
    assert (code, told) == (1, "audit: NOT VERIFIED. Entry 1 was not written by this server.\n")


async def test_an_empty_log_is_no_fault(relays: Relays, capsys: pytest.CaptureFixture[str]) -> None:
    settings = await relays.settings("sqlite")
    assert settings.secret_file is not None
    log = Log(settings.database_url, settings.secret_file, capsys)
    assert (await log.run("verify"))[:2] == (0, "The log is empty.\n")
    assert (await log.run("head"))[:2] == (0, "The log is empty.\n")
    assert (await log.run("export"))[:2] == (0, "")


def test_a_database_that_there_is_not_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["head", "--database-url", f"sqlite:///{tmp_path / 'none.db'}"]) == 1
    assert "there is no such database" in capsys.readouterr().err


@pytest.mark.parametrize("head", ["", "xyz", "00"])
def test_a_head_that_is_no_digest_is_refused(head: str) -> None:
    with pytest.raises(SystemExit):
        main(["verify", "--head", head])
