"""A disk that is full, a database that is read-only, slow or not there yet: refused clearly, and good again afterwards."""

import asyncio
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from messaging.relay.app import open_relay
from messaging.relay.database import normalise_url
from messaging.relay.errors import StartupError
from messaging.relay.migrate import migrate
from tests.devices import Device, MakePeer
from tests.processes import relay_process
from tests.relays import Relays
from tests.servers import own_postgres

KIB = 1024


def database_size(settings_url: str) -> int:
    path = Path(settings_url.removeprefix("sqlite:///"))
    return max(each.stat().st_size for each in path.parent.iterdir() if each.name.startswith("relay.db"))


async def test_on_a_full_disk_nothing_is_accepted_and_nothing_accepted_is_lost(
    relays: Relays, peer_of: MakePeer
) -> None:
    """The limit on the size of files stands for the disk: writing fails as it does on a full one."""
    settings = await relays.settings("sqlite")
    soft = 2 * 1024 * KIB

    def little_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))

    async with relay_process(settings, begin=little_disk) as relay:
        peer = peer_of(relay.started)
        alice, bob = await peer.register(), await peer.register()
        accepted = await accepted_until_refused(alice, bob)
        assert database_size(settings.database_url) <= soft
        resource.prlimit(relay.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert (await alice.send(bob, b"there is room again")).status == 200
        async with bob.socket() as socket:
            assert await socket.receive(len(accepted) + 1) == [*accepted, b"there is room again"]
        assert relay.process.returncode is None


async def accepted_until_refused(alice: Device, bob: Device) -> list[bytes]:
    """Send until the disk is full and five sends are refused; returns what was accepted."""
    accepted: list[bytes] = []
    refused = 0
    for number in range(2000):
        content = b"%04d" % number + os.urandom(60 * KIB)
        reply = await alice.send(bob, content)
        if reply.status == 200:
            accepted.append(content)
        else:
            assert (reply.status, reply.json()) == (503, {"code": "unavailable"})
            refused += 1
            if refused == 5:
                break
    assert refused == 5
    return accepted


@pytest.mark.parametrize(("part", "ends"), [("base", False), ("pg_wal", True)], ids=["tables", "log"])
async def test_on_a_full_disk_under_postgresql_nothing_accepted_is_lost(
    relays: Relays, peer_of: MakePeer, part: str, ends: bool
) -> None:
    """Full tables are an error of a statement; PostgreSQL ends itself when it cannot write its log."""
    with own_postgres({"listen_addresses": "", "max_wal_size": "1GB"}) as server:
        await migrate(normalise_url(server.url))
        server.stop()
        with little_disk(server.data / part, 40) as enlarge:
            server.start()
            settings = await relays.settings("postgresql", database_url=server.url, redis_url=None)
            peer = peer_of(await relays.serve(settings))
            alice, bob = await peer.register(), await peer.register()
            accepted = await accepted_until_refused(alice, bob)
            assert accepted
            async with asyncio.timeout(20):
                while ends and server.runs:
                    await asyncio.sleep(0.05)
                assert server.runs is not ends
                enlarge(400)
                if ends:
                    server.start()
                while (await alice.send(bob, b"there is room again")).status != 200:
                    await asyncio.sleep(0.1)
            async with bob.socket() as socket:
                got = await socket.caught_up()
            # A send that was refused while PostgreSQL ended may be stored all the same.
            assert [content for content in got if content in accepted] == accepted
            assert got[-1] == b"there is room again"
            await relays.stop()
            server.stop()


@contextmanager
def little_disk(folder: Path, mib: int) -> Iterator[Callable[[int], None]]:
    """Put what is in ``folder`` on a disk of its own with ``mib`` MiB; yields what gives the disk another size."""
    saved = folder.rename(folder.with_suffix(".saved"))
    folder.mkdir()
    owner = saved.stat()
    options = f"size={mib}m,mode=700,uid={owner.st_uid},gid={owner.st_gid}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a disk of its own needs root")
    try:
        subprocess.run(["cp", "-a", f"{saved}/.", folder], check=True)
        yield partial(_resize, folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _resize(folder: Path, mib: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={mib}m", folder], check=True)


async def test_a_database_that_is_read_only_refuses_sends_and_delivers_what_it_has(
    relays: Relays, peer_of: MakePeer
) -> None:
    settings = await relays.settings("postgresql")
    peer = peer_of(await relays.serve(settings))
    alice, bob = await peer.register(), await peer.register()
    assert (await alice.send(bob, b"before")).status == 200
    name = settings.database_url.partition("?")[0].rpartition("/")[2]
    await relays.postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await drop_connections(relays, name)
    assert await status_after_reconnecting(alice, bob) == 503
    await relays.postgres.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = off')
    await drop_connections(relays, name)
    async with asyncio.timeout(20):
        while (await alice.send(bob, b"after")).status != 200:
            await asyncio.sleep(0.1)
    async with bob.socket() as socket:
        assert await socket.receive(2) == [b"before", b"after"]


async def drop_connections(relays: Relays, name: str) -> None:
    await relays.postgres.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608 - a name of ours
    )


async def status_after_reconnecting(alice: Device, bob: Device) -> int:
    for _ in range(2):  # these meet connections that are gone
        await alice.send(bob, b"refused")
    return (await alice.send(bob, b"refused")).status


async def test_a_table_that_is_locked_makes_sends_wait_and_none_is_lost(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql")
    peer = peer_of(await relays.serve(settings))
    alice, bob = await peer.register(), await peer.register()
    await alice.send(bob, b"warm")
    other = await asyncpg.connect(settings.database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("LOCK TABLE envelopes IN EXCLUSIVE MODE")
    sends = [asyncio.create_task(alice.send(bob, b"%d" % number)) for number in range(20)]
    done, _ = await asyncio.wait(sends, timeout=1)
    assert not done  # no answer before the commit
    await transaction.rollback()
    await other.close()
    assert {reply.status for reply in await asyncio.gather(*sends)} == {200}
    async with bob.socket() as socket:
        assert sorted(await socket.receive(21)) == sorted([b"warm", *(b"%d" % number for number in range(20))])


async def test_a_relay_waits_for_its_database_and_says_so(relays: Relays) -> None:
    settings = await relays.settings("postgresql", database_wait=timedelta(seconds=1))
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    said: list[str] = []
    with pytest.raises(StartupError, match="no database within 1 s"):
        async with open_relay(replace(settings, database_url=nowhere), said.append):
            pass
    assert said == ["waiting for the database, up to 1 s ..."]
    async with open_relay(settings, said.append) as running:
        assert running.port > 0
    assert [sentence for sentence in said if "waiting" in sentence] == said[:1]
