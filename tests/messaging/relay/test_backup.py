"""A backup is whole, made while others write, readable by its owner only, and without what must not be in it."""

import asyncio
import fcntl
import json
import os
import sqlite3
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from messaging.relay.app import generation_file_of
from messaging.relay.backup import (
    ATTACHMENTS,
    MANIFEST,
    POSTGRESQL_FILE,
    SQLITE_FILE,
    STAMP,
    Manifest,
    Tools,
    copy_pieces,
    copy_sqlite,
    digest_of,
    main,
    pieces_below,
    read_stamp,
    require_apart,
    run_postgresql,
)
from messaging.relay.database import normalise_url
from messaging.relay.errors import StartupError
from tests.devices import Device
from tests.messaging.relay.backups import Backups, pieces, tools
from tests.relays import StartedRelay


@pytest.fixture
def backups(relay: StartedRelay, tmp_path: Path) -> Backups:
    return Backups(relay.settings, tmp_path / "backups")


async def attach(device: Device, data: bytes) -> str:
    """Upload an attachment; returns its key."""
    form = (await device.call("GET", f"/v4/attachments/form/upload?uploadLength={len(data)}")).json()
    tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Length": str(len(data))}
    assert (await device.peer.call("POST", "/upload/attachments", data, {**form["headers"], **tus})).status == 201
    return str(form["key"])


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_a_backup_of_a_running_relay_says_what_it_holds(backups: Backups, backend: str, alice: Device) -> None:
    await attach(alice, b"a picture")
    folder, manifest = await backups.make()
    database = SQLITE_FILE if backend == "sqlite" else POSTGRESQL_FILE
    assert Manifest.read(folder) == manifest
    assert (manifest.database, manifest.digest) == (database, digest_of(folder / database))
    assert manifest.database_bytes == (folder / database).stat().st_size > 0
    assert (manifest.attachments, manifest.attachment_bytes) == (1, 9)
    (piece,) = pieces(folder / ATTACHMENTS)
    assert piece.read_bytes() == b"a picture"
    assert files(folder) == {MANIFEST, database, str(piece.relative_to(folder))}
    stamp = read_stamp(backups.folder)
    assert stamp is not None
    assert (stamp.made_at, stamp.folder) == (manifest.made_at, folder.name)
    assert any("attachments: 1 pieces" in said for said in backups.said)


async def test_nobody_else_can_read_it_and_no_secret_is_in_it(backups: Backups, alice: Device) -> None:
    folder, _ = await backups.make()
    for path in [folder, *folder.rglob("*"), backups.folder / STAMP]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    settings = backups.settings
    assert settings.secret_file is not None
    generation = generation_file_of(settings, normalise_url(settings.database_url)).read_bytes()
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for canary in (settings.secret_file.read_bytes(), generation, alice.known.number.encode()):
        assert canary not in everything


async def test_a_later_backup_shares_the_disk_of_pieces_that_an_earlier_one_has(
    backups: Backups, alice: Device
) -> None:
    await attach(alice, b"first")
    first, _ = await backups.make()
    await attach(alice, b"second")
    second, manifest = await backups.make()
    assert manifest.attachments == 2
    inodes = [{piece.stat().st_ino for piece in pieces(each / ATTACHMENTS)} for each in (first, second)]
    assert inodes[0] < inodes[1]


async def test_only_pieces_are_copied_and_no_link_is_followed(backups: Backups, alice: Device, tmp_path: Path) -> None:
    await attach(alice, b"whole")
    (piece,) = pieces(backups.attachments)
    inside = str(piece.relative_to(backups.attachments))
    canary = tmp_path / "canary"
    canary.write_bytes(b"canary")
    for name in ("secret", "relay.db", f"{piece.parent.name}/secret", f"{'0' * 40}/secret"):
        (backups.attachments / name).parent.mkdir(exist_ok=True)
        (backups.attachments / name).write_bytes(b"canary")
    piece.with_name(f"{1:012}-{'0' * 16}").symlink_to(canary)
    (backups.attachments / ("1" * 40)).symlink_to(piece.parent)
    folder, manifest = await backups.make()
    assert manifest.attachments == 1
    assert {name for name in files(folder) if name.startswith(ATTACHMENTS)} == {f"{ATTACHMENTS}/{inside}"}


@pytest.mark.parametrize("inside", [True, False])
async def test_backups_and_attachments_lie_apart(backups: Backups, alice: Device, *, inside: bool) -> None:
    await attach(alice, b"whole")
    backups.folder = backups.attachments / "backups" if inside else backups.attachments.parent
    with pytest.raises(StartupError, match="must lie apart"):
        await backups.make()
    assert not list(backups.folder.glob(".incomplete-*"))


def test_what_is_secret_does_not_lie_among_attachments(tmp_path: Path) -> None:
    folder, backup_dir = tmp_path / "attachments", tmp_path / "backups"
    require_apart(folder.as_uri(), backup_dir, [tmp_path / "secret"])
    with pytest.raises(StartupError, match="must not lie in the folder of attachments"):
        require_apart(folder.as_uri(), backup_dir, [tmp_path / "secret", folder / "secret.generation"])


async def test_the_relays_own_variables_say_where_its_secrets_are(
    backups: Backups, alice: Device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await attach(alice, b"whole")
    monkeypatch.setenv("SUBROSA_SECRET_FILE", str(backups.attachments / "secret"))
    settings = backups.settings
    where = ["--database-url", settings.database_url, "--attachments-url", str(settings.attachments_url)]
    command = [*where, "--backup-dir", str(backups.folder)]
    assert await asyncio.to_thread(main, command) == 1
    assert "must not lie in the folder of attachments" in capsys.readouterr().err


async def test_what_is_still_being_written_is_left_out(backups: Backups, alice: Device) -> None:
    await attach(alice, b"whole")
    (piece,) = pieces(backups.attachments)
    piece.with_name(f"{piece.name}#1").write_bytes(b"half")
    _, manifest = await backups.make()
    assert manifest.attachments == 1


async def test_a_backup_that_fails_leaves_nothing_and_the_stamp_of_the_one_before(
    backups: Backups, alice: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    await attach(alice, b"first")
    first, _ = await backups.make()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("messaging.relay.backup.digest_of", full)
    with pytest.raises(StartupError, match="No space left"):
        await backups.make()
    assert sorted(path.name for path in backups.folder.iterdir()) == sorted([first.name, STAMP])
    stamp = read_stamp(backups.folder)
    assert stamp is not None
    assert stamp.folder == first.name


async def test_what_one_that_was_killed_has_left_goes_and_two_are_not_made_at_once(
    backups: Backups, alice: Device
) -> None:
    await attach(alice, b"a picture")
    left = backups.folder / ".incomplete-2026-11-26T031500.000000Z"
    left.mkdir(parents=True)
    (left / "database.sqlite").write_bytes(b"half")
    handle = os.open(backups.folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(StartupError, match="another backup is being made"):
        await backups.make()
    assert left.is_dir()  # it may be that one's
    os.close(handle)
    await backups.make()
    assert not left.exists()


def test_a_copy_that_ends_half_way_is_not_taken_for_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restoration that is done again leaves out what is there."""
    piece = tmp_path / "source" / ("a" * 40) / "000000000000-0123456789abcdef"
    piece.parent.mkdir(parents=True)
    piece.write_bytes(b"whole")

    def ends(_: Path, target: Path) -> None:
        target.write_bytes(b"wh")
        raise TimeoutError

    with monkeypatch.context() as patched:
        patched.setattr("shutil.copyfile", ends)
        with pytest.raises(TimeoutError):
            copy_pieces(tmp_path / "source", tmp_path / "target", None, lambda _: None)
    assert pieces_below(tmp_path / "target") == []
    copy_pieces(tmp_path / "source", tmp_path / "target", None, lambda _: None)
    (copied,) = pieces_below(tmp_path / "target")
    assert (copied.read_bytes(), copied.stat().st_mode & 0o777) == (b"whole", 0o600)


async def test_sqlite_is_copied_as_of_one_moment_while_others_write(tmp_path: Path) -> None:
    """The copying takes several steps, and between any two of them somebody writes: it neither begins anew nor sees a part of it."""
    source, target = tmp_path / "source.db", tmp_path / "copy.db"
    writer = sqlite3.connect(source, isolation_level=None, check_same_thread=False)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE numbers (number INTEGER, filling BLOB)")
    writer.execute("BEGIN")
    writer.executemany("INSERT INTO numbers VALUES (?, zeroblob(4000))", [(number,) for number in range(12_000)])
    writer.execute("COMMIT")
    said: list[str] = []

    def say(sentence: str) -> None:
        said.append(sentence)
        writer.execute("UPDATE numbers SET number = number + 1 WHERE number % 1000 = 0")
        writer.execute("DELETE FROM numbers WHERE number > 11000")

    await asyncio.to_thread(copy_sqlite, source, target, say)
    copied = sqlite3.connect(target)
    assert copied.execute("SELECT count(*), sum(number) FROM numbers").fetchone() == (12_000, sum(range(12_000)))
    assert copied.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    copied.close()
    writer.close()
    assert len(said) >= 3
    assert files(tmp_path) >= {"copy.db"}
    assert not {"copy.db-wal", "copy.db-shm"} & files(tmp_path)


async def test_what_is_no_database_is_not_backed_up(tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database" * 1000)
    with pytest.raises(StartupError, match="cannot be copied"):
        await asyncio.to_thread(copy_sqlite, broken, tmp_path / "copy.db", lambda _: None)


async def test_attachments_in_a_bucket_are_left_to_the_bucket(backups: Backups) -> None:
    backups.settings = replace(backups.settings, attachments_url="s3://bucket/attachments")
    folder, manifest = await backups.make()
    assert manifest.attachments is None
    assert not (folder / ATTACHMENTS).exists()
    assert any("in a bucket, and not copied" in said for said in backups.said)


@pytest.mark.parametrize(
    "given",
    ["relay:canary@db/relay?ssl=require", "db/relay?user=relay&password=canary&ssl=require&prepared_statement=x"],
)
async def test_a_password_is_neither_among_arguments_nor_in_an_error(tmp_path: Path, given: str) -> None:
    program = tmp_path / "pg_dump"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\necho "error: $PGPASSWORD is wrong" >&2\nexit 1\n')
    program.chmod(0o700)
    url = normalise_url(f"postgresql://{given}")
    with pytest.raises(StartupError) as raised:
        await run_postgresql(Tools(tmp_path).find("pg_dump"), ["--x"], url)
    assert str(raised.value) == "pg_dump failed: error: ... is wrong"
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments[:2] == ["--x", "--no-password"]
    assert arguments[2:] in (
        ["--dbname=postgresql://relay@db/relay?sslmode=require"],
        ["--dbname=postgresql://db/relay?sslmode=require&user=relay"],
    )


def test_a_program_that_is_missing_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="--pg-bin"):
        Tools(tmp_path).find("pg_dump")


@pytest.mark.parametrize("text", ["", "[]", '{"made_at": "x"}', '{"made_at": 5}'])
def test_a_stamp_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / STAMP).write_text(text)
    assert read_stamp(tmp_path) is None


def test_the_secret_file_is_refused_with_the_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--backup-dir", str(tmp_path), "--with-secret"]) == 1
    assert "goes into no backup" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


async def test_as_a_command_it_prints_one_object(relay: StartedRelay, tmp_path: Path) -> None:
    settings = relay.settings
    command = ["-m", "messaging.cli", "backup", "--backup-dir", str(tmp_path / "b"), "--json"]
    where = ["--database-url", settings.database_url, "--attachments-url", str(settings.attachments_url)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        *where,
        "--pg-bin",
        str(tools().folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    told = json.loads(said)
    assert Manifest.read(Path(told["folder"])).digest == told["digest"]
