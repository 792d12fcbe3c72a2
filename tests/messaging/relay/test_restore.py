"""A backup that is put back: all is there as it was, and nothing that happened since does harm."""

import asyncio
import json
import secrets
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from messaging.relay.backup import ATTACHMENTS, MANIFEST, digest_of
from messaging.relay.database import normalise_url, open_database
from messaging.relay.errors import StartupError
from messaging.relay.migrate import migrate, require_current
from messaging.relay.restore import SKIPPED_SEQUENCES, put_in_place
from messaging.wire.identifiers import IdentityKind
from messaging.wire.keys import SetKeysRequest
from messaging.wire.messages import PrekeysLow
from tests.devices import Device, MakePeer, Peer, kyber_prekey, one_time_prekey
from tests.messaging.relay.backups import Backups, pieces, tools
from tests.messaging.relay.test_backup import attach
from tests.relays import Relays, StartedRelay


@pytest.fixture
async def backups(relays: Relays, backend: str, tmp_path: Path) -> Backups:
    return Backups(await relays.settings(backend), tmp_path / "backups")


def at(relay: StartedRelay, device: Device) -> Device:
    return Device(Peer(relay, device.peer.http), device.known, device.aci, device.pni)


async def upload_prekeys(device: Device, count: int) -> None:
    keys = SetKeysRequest(
        pre_keys=tuple(map(one_time_prekey, range(count))),
        pq_pre_keys=tuple(kyber_prekey(device.known.identity, number) for number in range(count)),
    )
    assert (await device.upload(keys)).status == 204


async def fetch(device: Device, of: Device) -> dict[str, object]:
    return dict((await device.call("GET", f"/v2/keys/{of.aci}/1")).json()["devices"][0])


async def rows(backups: Backups, query: str) -> list[Any]:
    database = open_database(normalise_url(backups.settings.database_url))
    async with database.read() as db:
        found = list(await db.scalars(text(query)))
    await database.close()
    return found


async def test_what_was_there_is_there_again(relays: Relays, backups: Backups, peer_of: MakePeer) -> None:
    relay = await relays.serve(backups.settings)
    alice, bob = await peer_of(relay).register(), await peer_of(relay).register()
    await alice.send(bob, b"before")
    key = await attach(alice, b"a picture")
    backup, manifest = await backups.make()
    await alice.send(bob, b"after")
    late = await peer_of(relay).register()
    await relays.stop()
    for piece in pieces(backups.attachments):
        piece.unlink()

    restored = await backups.put_back(backup)
    assert (restored.made_at, restored.attachments) == (manifest.made_at, 1)
    relay = await relays.serve(backups.settings)
    async with at(relay, bob).socket() as socket:
        assert await socket.receive(1) == [b"before"]
        await socket.queue_empty()
    assert (await at(relay, bob).peer.call("GET", f"/attachments/{key}")).body == b"a picture"
    assert (await at(relay, late).call("GET", "/v1/accounts/whoami")).status == 401


async def test_prekeys_that_were_handed_out_since_are_void_and_devices_are_told(
    relays: Relays, backups: Backups, peer_of: MakePeer
) -> None:
    relay = await relays.serve(backups.settings)
    alice, bob = await peer_of(relay).register(), await peer_of(relay).register()
    await upload_prekeys(alice, 20)
    backup, _ = await backups.make()
    given = await fetch(bob, alice)
    assert given["preKey"]["keyId"] == 0  # type: ignore[index]
    await relays.stop()

    restored = await backups.put_back(backup)
    assert restored.voided_prekeys == 40
    relay = await relays.serve(backups.settings)
    again = await fetch(at(relay, bob), alice)
    assert "preKey" not in again
    assert again["pqPreKey"] != given["pqPreKey"]
    async with at(relay, alice).socket(x_subrosa_notices="prekeys") as socket:
        requests = [await socket.request() for _ in range(2)]  # one of them says that the queue is empty
        told = [PrekeysLow.from_json(each.body or b"") for each in requests if each.path == "/api/v1/keys/low"]
    assert (IdentityKind.ACI, 0, 0) in [(low.identity, low.count, low.pq_count) for low in told]
    await upload_prekeys(at(relay, alice), 5)
    assert (await fetch(at(relay, bob), alice))["preKey"]["keyId"] == 0  # type: ignore[index]  # of those that are new


async def test_prekeys_are_void_even_where_the_generation_file_is_lost(
    relays: Relays, backups: Backups, peer_of: MakePeer
) -> None:
    relay = await relays.serve(backups.settings)
    alice = await peer_of(relay).register()
    await upload_prekeys(alice, 5)
    backup, _ = await backups.make()
    await relays.stop()
    await backups.put_back(backup)
    assert await rows(backups, "SELECT count(*) FROM one_time_prekeys") == [0]
    assert await rows(backups, "SELECT count(*) FROM one_time_kyber_prekeys") == [0]
    assert await rows(backups, "SELECT count(*) FROM last_resort_kyber_prekeys") != [0]


async def test_a_device_that_was_further_than_the_backup_loses_nothing_that_comes(
    relays: Relays, backups: Backups, peer_of: MakePeer
) -> None:
    """Its place in the mailbox, told to the relay, must not stand for envelopes that are sent after the restoration."""
    relay = await relays.serve(backups.settings)
    alice, bob = await peer_of(relay).register(), await peer_of(relay).register()
    backup, _ = await backups.make()
    for number in range(3):
        await alice.send(bob, b"lost %d" % number)
    async with bob.socket() as socket:
        requests = [(await socket.envelope())[0] for _ in range(3)]
        for request in requests:
            await socket.answer(request)
        cursor = requests[-1].headers["x-subrosa-cursor"]
    await relays.stop()

    await backups.put_back(backup)
    relay = await relays.serve(backups.settings)
    for number in range(2):
        await at(relay, alice).send(at(relay, bob), b"new %d" % number)
    async with at(relay, bob).socket(x_subrosa_resume_after=cursor) as socket:
        assert await socket.receive(2) == [b"new 0", b"new 1"]
        await socket.queue_empty()
        await at(relay, alice).send(at(relay, bob), b"live")
        assert await socket.receive(1) == [b"live"]
    assert min(await rows(backups, "SELECT last_sequence FROM mailboxes")) >= SKIPPED_SEQUENCES


async def test_nobody_is_restored_while_relays_run(relays: Relays, backups: Backups) -> None:
    await relays.serve(replace(backups.settings, node_name="north"))
    backup, _ = await backups.make()
    async with asyncio.timeout(20):
        while not await rows(backups, "SELECT name FROM nodes"):
            await asyncio.sleep(0.02)
    with pytest.raises(StartupError, match="relays run on this database: north"):
        await backups.put_back(backup)
    await relays.stop()
    await backups.put_back(backup)
    assert await rows(backups, "SELECT name FROM nodes") == []


async def test_nothing_gives_way_unless_that_is_said(relays: Relays, backups: Backups) -> None:
    await relays.serve(backups.settings)
    backup, _ = await backups.make()
    await relays.stop()
    with pytest.raises(StartupError, match="--replace"):
        await backups.put_back(backup, replace=False)


async def test_what_was_there_is_kept_under_another_name(
    relays: Relays, backups: Backups, backend: str, peer_of: MakePeer
) -> None:
    relay = await relays.serve(backups.settings)
    backup, _ = await backups.make()
    await peer_of(relay).register()
    await relays.stop()
    restored = await backups.put_back(backup)
    assert restored.replaced is not None
    assert await rows(backups, "SELECT count(*) FROM accounts") == [0]
    if backend == "sqlite":
        url = f"sqlite:///{backups.database.with_name(restored.replaced)}"
    else:
        url = relays.postgres.url_of(restored.replaced)
    kept = replace(backups, settings=replace(backups.settings, database_url=url))
    assert await rows(kept, "SELECT count(*) FROM accounts") == [1]


async def test_a_backup_goes_into_an_empty_database(
    relays: Relays, backups: Backups, backend: str, peer_of: MakePeer
) -> None:
    relay = await relays.serve(backups.settings)
    alice = await peer_of(relay).register()
    backup, _ = await backups.make()
    await relays.stop()
    if backend == "sqlite":
        url = f"sqlite:///{backups.folder / 'elsewhere' / 'relay.db'}"
    else:
        name = await relays.postgres.create()
        relays.databases.push_async_callback(relays.postgres.drop, name)
        url = relays.postgres.url_of(name)
    elsewhere = Backups(replace(backups.settings, database_url=url), backups.folder)
    await elsewhere.put_back(backup, replace=False)
    relay = await relays.serve(elsewhere.settings)
    assert (await at(relay, alice).call("GET", "/v1/accounts/whoami")).status == 200


async def test_of_a_copy_that_cannot_be_read_postgresql_deletes_nothing(relays: Relays, tmp_path: Path) -> None:
    backups = Backups(await relays.settings("postgresql"), tmp_path / "backups")
    await relays.serve(backups.settings)
    backup, manifest = await backups.make()
    await relays.stop()
    copy = backup / manifest.database
    copy.write_bytes(b"no dump any more")
    change(backup, digest=digest_of(copy))
    with pytest.raises(StartupError, match="pg_restore failed"):
        await backups.put_back(backup)
    await require_current(normalise_url(backups.settings.database_url))


class Killed(Exception):
    """Stands for the end of the process at this point."""


def killed(*_: object) -> None:
    raise Killed


KILLED_THERE = """
import os, signal, sys
from messaging.cli import main
from messaging.relay import restore
def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if there := sys.argv.pop(1):
    setattr(restore, there, killed)
main()
"""
PG_RESTORE_THAT_KILLS = """#!/bin/sh
case "$*" in *--list*) ;; *) kill -9 $PPID ;; esac
exec {program} "$@"
"""


@pytest.mark.parametrize(
    ("backend", "point"),
    [
        ("sqlite", "finish_restore"),
        ("sqlite", "forget_what_is_past"),
        ("sqlite", "put_in_place"),
        ("postgresql", "pg_restore"),
        ("postgresql", "forget_what_is_past"),
    ],
)
async def test_killed_at_any_moment_the_old_database_is_there_and_it_can_be_done_again(
    relays: Relays, backups: Backups, peer_of: MakePeer, tmp_path: Path, point: str
) -> None:
    relay = await relays.serve(backups.settings)
    alice = await peer_of(relay).register()
    backup, _ = await backups.make()
    late = await peer_of(relay).register()
    await relays.stop()

    programs = tools().folder
    if point == "pg_restore":  # which goes on alone
        script, programs = tmp_path / "pg_restore", tmp_path
        script.write_text(PG_RESTORE_THAT_KILLS.format(program=tools().find("pg_restore")))
        script.chmod(0o700)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED_THERE, "" if point == "pg_restore" else point),
        *("restore", str(backup), "--replace", "--pg-bin", str(programs)),
        *("--database-url", backups.settings.database_url),
        *("--attachments-url", str(backups.settings.attachments_url)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL

    relay = await relays.serve(backups.settings)
    for device in (alice, late):
        assert (await at(relay, device).call("GET", "/v1/accounts/whoami")).status == 200
    await relays.stop()
    await backups.put_back(backup)
    relay = await relays.serve(backups.settings)
    assert (await at(relay, alice).call("GET", "/v1/accounts/whoami")).status == 200
    assert (await at(relay, late).call("GET", "/v1/accounts/whoami")).status == 401
    assert await left_half_done(backups) == []


async def left_half_done(backups: Backups) -> list[str]:
    if backups.settings.database_url.startswith("sqlite"):
        return [path.name for path in backups.database.parent.glob("*.restoring*")]
    return await rows(backups, "SELECT datname FROM pg_database WHERE datname = current_database() || '_restoring'")


async def test_into_an_empty_database_no_relay_starts_before_all_is_done(
    relays: Relays, tmp_path: Path, peer_of: MakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups = Backups(await relays.settings("postgresql"), tmp_path / "backups")
    alice = await peer_of(await relays.serve(backups.settings)).register()
    backup, _ = await backups.make()
    await relays.stop()
    name = await relays.postgres.create()
    relays.databases.push_async_callback(relays.postgres.drop, name)
    empty = replace(backups, settings=replace(backups.settings, database_url=relays.postgres.url_of(name)))
    with monkeypatch.context() as patched:
        patched.setattr("messaging.relay.restore.forget_what_is_past", killed)
        with pytest.raises(Killed):
            await empty.put_back(backup, replace=False)
    assert await rows(empty, "SELECT count(*) FROM accounts") == [1]
    url = normalise_url(empty.settings.database_url)
    for refused in (require_current(url), migrate(url)):
        with pytest.raises(StartupError):
            await refused
    await empty.put_back(backup, replace=False)
    relay = await relays.serve(empty.settings)
    assert (await at(relay, alice).call("GET", "/v1/accounts/whoami")).status == 200


async def test_a_database_that_somebody_uses_stays(relays: Relays, backups: Backups, backend: str) -> None:
    """A console, say: of relays their rows tell."""
    await relays.serve(backups.settings)
    backup, _ = await backups.make()
    await relays.stop()
    database = open_database(normalise_url(backups.settings.database_url))
    async with database.read() as db:
        await db.execute(text("SELECT count(*) FROM accounts"))
        with pytest.raises(StartupError, match="is in use: stop relays, the console"):
            await backups.put_back(backup)
    await database.close()
    await backups.put_back(backup)


async def test_postgresql_says_what_a_role_lacks(relays: Relays, tmp_path: Path) -> None:
    backups = Backups(await relays.settings("postgresql"), tmp_path / "backups")
    await relays.serve(backups.settings)
    backup, _ = await backups.make()
    await relays.stop()
    url, role = make_url(backups.settings.database_url), f"r_{secrets.token_hex(8)}"
    await relays.postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' IN ROLE pg_read_all_data")
    poor = url.set(username=role, password="x").render_as_string(hide_password=False)
    try:
        with pytest.raises(StartupError, match="may not make databases"):
            await replace(backups, settings=replace(backups.settings, database_url=poor)).put_back(backup)
    finally:
        await relays.postgres.execute(f"DROP ROLE {role}")
    await require_current(normalise_url(backups.settings.database_url))


def a_database(path: Path, says: str, *, in_the_log: bool = False) -> None:
    """``in_the_log``: as a relay leaves it that is killed, with the last change nowhere else."""
    made = path.with_name("made")
    with closing(sqlite3.connect(made, isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode = {'WAL' if in_the_log else 'DELETE'}")
        db.execute("CREATE TABLE t AS SELECT 'nothing' AS said")
        if in_the_log:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("UPDATE t SET said = ?", (says,))
        for ending in ("", "-wal") if in_the_log else ("",):
            shutil.copyfile(f"{made}{ending}", f"{path}{ending}")
    made.unlink()


def said_in(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        return str(db.execute("SELECT said FROM t").fetchone()[0])


@pytest.mark.parametrize("step", ["messaging.relay.restore.end_log", "os.link", "pathlib.Path.replace"])
def test_sqlite_has_the_old_or_the_new_whenever_the_change_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    new, path, aside = (tmp_path / name for name in ("new", "relay.db", "aside"))
    a_database(path, "old", in_the_log=True)
    a_database(new, "new")
    with monkeypatch.context() as patched:
        patched.setattr(step, killed)
        with pytest.raises(Killed):
            put_in_place(new, path, aside)
    assert said_in(path) == "old"
    aside.unlink(missing_ok=True)
    assert put_in_place(new, path, aside) == "aside"
    assert (said_in(path), said_in(aside)) == ("new", "old")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["aside", "relay.db"]


def test_where_a_file_has_one_name_only_the_old_one_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, path, aside = (tmp_path / name for name in ("new", "relay.db", "aside"))
    a_database(path, "old")
    a_database(new, "new")

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.link", refused)
    assert put_in_place(new, path, aside) == "aside"
    assert (said_in(path), said_in(aside)) == ("new", "old")


def test_a_log_without_its_database_is_not_left_to_the_next_one(tmp_path: Path) -> None:
    new, path = tmp_path / "new", tmp_path / "relay.db"
    a_database(new, "new")
    path.with_name("relay.db-wal").write_bytes(b"x")
    assert put_in_place(new, path, tmp_path / "aside") is None
    assert sorted(each.name for each in tmp_path.iterdir()) == ["aside-wal", "relay.db"]


def damage(path: Path) -> None:
    path.write_bytes(b"no database any more" * 1000)


async def test_a_damaged_database_gives_way(relays: Relays, tmp_path: Path) -> None:
    backups = Backups(await relays.settings("sqlite"), tmp_path / "backups")
    await relays.serve(backups.settings)
    backup, _ = await backups.make()
    await relays.stop()
    damage(backups.database)
    with pytest.raises(StartupError):
        await backups.put_back(backup, replace=False)
    await backups.put_back(backup)
    await relays.serve(backups.settings)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "is no backup"),
        (lambda folder: change(folder, format=2), "newer version"),
        (lambda folder: change(folder, revision="9999"), "newer version"),
        (lambda folder: change(folder, database="../secret"), "newer version"),
        (lambda folder: change(folder, digest="0" * 64), "damaged"),
        (lambda folder: change(folder, attachments=1), "attachments are not all there"),
        (lambda folder: (folder / "database.sqlite").write_bytes(b"x"), "damaged"),
        (lambda folder: (folder / "database.sqlite").unlink(), "cannot be read"),
    ],
    ids=["no manifest", "format", "revision", "another file", "digest", "attachments", "changed", "gone"],
)
async def test_what_is_no_whole_backup_changes_nothing(
    relays: Relays, tmp_path: Path, spoil: object, sentence: str
) -> None:
    backups = Backups(await relays.settings("sqlite"), tmp_path / "backups")
    await relays.serve(backups.settings)
    backup, _ = await backups.make()
    await relays.stop()
    assert callable(spoil)
    spoil(backup)
    before = digest_of(backups.database)
    with pytest.raises(StartupError, match=sentence):
        await backups.put_back(backup)
    assert digest_of(backups.database) == before


def change(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))


async def test_the_kind_of_database_is_not_exchanged(relays: Relays, tmp_path: Path) -> None:
    made = Backups(await relays.settings("sqlite"), tmp_path / "backups")
    backup, _ = await made.make()
    other = Backups(await relays.settings("postgresql"), tmp_path / "backups")
    with pytest.raises(StartupError, match="other kind"):
        await other.put_back(backup)


async def test_pieces_that_are_there_stay_as_they_are(relays: Relays, tmp_path: Path, peer_of: MakePeer) -> None:
    backups = Backups(await relays.settings("sqlite"), tmp_path / "backups")
    alice = await peer_of(await relays.serve(backups.settings)).register()
    await attach(alice, b"one")
    backup, _ = await backups.make()
    await relays.stop()
    assert (await backups.put_back(backup)).attachments == 0
    assert len(pieces(backup / ATTACHMENTS)) == len(pieces(backups.attachments)) == 1


async def test_as_a_command_it_says_what_has_to_be_done_again(relays: Relays, backups: Backups) -> None:
    await relays.serve(backups.settings)
    backup, _ = await backups.make()
    await relays.stop()
    settings = backups.settings
    where = ["--database-url", settings.database_url, "--attachments-url", str(settings.attachments_url)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "messaging.cli", "restore", str(backup), "--replace", "--pg-bin", str(tools().folder)),
        *where,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"do it again before you let anybody in" in said
