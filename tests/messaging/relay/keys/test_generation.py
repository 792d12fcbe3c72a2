"""A restored backup voids every one-time prekey, and nothing else does."""

import asyncio
import shutil
from pathlib import Path

import pytest

from messaging.relay.database import Database
from messaging.relay.errors import StartupError
from messaging.relay.keys import generation as module
from messaging.relay.keys.generation import open_generation
from messaging.wire.identifiers import IdentityKind
from messaging.wire.keys import SetKeysRequest
from tests.devices import Device, MakePeer, Peer, kyber_prekey, one_time_prekey
from tests.relays import Relays, StartedRelay


async def upload(device: Device, count: int = 5) -> None:
    for identity, key in ((IdentityKind.ACI, device.known.identity), (IdentityKind.PNI, device.known.pni_identity)):
        keys = SetKeysRequest(
            pre_keys=tuple(map(one_time_prekey, range(count))),
            pq_pre_keys=tuple(kyber_prekey(key, number) for number in range(count)),
        )
        assert (await device.upload(keys, identity)).status == 204


async def left(device: Device) -> tuple[int, int]:
    count = (await device.call("GET", "/v2/keys")).json()
    return count["count"], count["pqCount"]


def at(relay: StartedRelay, device: Device) -> Device:
    return Device(Peer(relay, device.peer.http), device.known, device.aci, device.pni)


async def test_a_restart_keeps_the_keys(relays: Relays, peer_of: MakePeer, backend: str) -> None:
    settings = await relays.settings(backend)
    alice = await peer_of(await relays.serve(settings)).register()
    await upload(alice)
    await relays.stop()
    assert await left(at(await relays.serve(settings), alice)) == (5, 5)


async def test_a_restored_backup_voids_every_one_time_key(relays: Relays, peer_of: MakePeer, tmp_path: Path) -> None:
    settings = await relays.settings("sqlite")
    database = Path(settings.database_url.removeprefix("sqlite:///"))
    first = await relays.serve(settings)
    alice, bob = await peer_of(first).register(), await peer_of(first).register()
    await upload(alice)
    await relays.stop()
    shutil.copy(database, tmp_path / "backup.db")
    again = at(await relays.serve(settings), bob)
    given = (await again.call("GET", f"/v2/keys/{alice.aci}/1")).json()["devices"][0]
    assert given["preKey"]["keyId"] == 0
    await relays.stop()
    for part in database.parent.glob("relay.db*"):
        if part.suffix in {".db", ".db-wal", ".db-shm"}:
            part.unlink()
    shutil.copy(tmp_path / "backup.db", database)
    restored = at(await relays.serve(settings), alice)
    assert await left(restored) == (0, 0)
    last_resort = (await at(restored.peer.relay, bob).call("GET", f"/v2/keys/{alice.aci}/1")).json()["devices"][0]
    assert "preKey" not in last_resort
    await upload(restored)
    assert await left(restored) == (5, 5)


async def test_a_missing_file_is_like_a_restored_database(relays: Relays, peer_of: MakePeer, backend: str) -> None:
    settings = await relays.settings(backend)
    alice = await peer_of(await relays.serve(settings)).register()
    await upload(alice)
    await relays.stop()
    assert settings.secret_file is not None
    file = settings.secret_file.with_name("secret.generation")
    for broken in (file.unlink, lambda: file.write_text("{"), lambda: file.write_text('{"relay": "x", "number": 1}')):
        await upload(at(await relays.serve(settings), alice))
        await relays.stop()
        broken()
        assert await left(at(await relays.serve(settings), alice)) == (0, 0)
        await relays.stop()


async def test_relays_side_by_side_have_a_file_each(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql")
    here, there = await relays.serve(settings), await relays.serve(settings)
    alice, bob = await peer_of(here).register(), await peer_of(here).register()
    await upload(alice)
    for relay in (here, there, here):
        assert (await at(relay, bob).call("GET", f"/v2/keys/{alice.aci}/1")).status == 200
    await relays.stop()
    assert await left(at(await relays.serve(settings), alice)) == (2, 2)


async def test_the_file_is_ahead_of_any_backup_that_has_the_key_unused(database: Database, tmp_path: Path) -> None:
    """Each step is in the database before it is in the file, and whoever asked is answered after both."""
    async with open_generation(database, tmp_path / "g") as generation:
        before = module._read(tmp_path / "g")
        assert before is not None
        await asyncio.gather(*(generation.advance() for _ in range(20)))
        after = module._read(tmp_path / "g")
        assert after is not None
        assert before.number + 1 <= after.number <= before.number + 3  # who asks at once shares a step
        await generation.advance()
        last = module._read(tmp_path / "g")
        assert last is not None
        assert last.number == after.number + 1


async def test_no_key_leaves_when_the_file_cannot_be_written(
    relays: Relays, peer_of: MakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = peer_of(await relays.start("sqlite"))
    alice, bob = await peer.register(), await peer.register()
    await upload(alice)

    def full(_path: Path, _mark: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "_write", full)
        assert (await bob.call("GET", f"/v2/keys/{alice.aci}/1")).status == 503
    given = (await bob.call("GET", f"/v2/keys/{alice.aci}/1")).json()["devices"][0]
    assert given["preKey"]["keyId"] == 1  # the first is lost, not told twice


async def test_a_folder_that_cannot_be_used_stops_the_start(relays: Relays, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="generation file"):
        await relays.start("sqlite", generation_file=tmp_path / "file" / "generation")
