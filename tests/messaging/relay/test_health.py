"""Alive and ready, and not ready any more before a relay stops."""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.database import Database
from messaging.relay.errors import Unavailable
from messaging.relay.health import HealthService
from messaging.relay.limits import Bucket, Limit
from messaging.relay.tasks import running
from tests.devices import MakePeer, Peer
from tests.relays import UNLIMITED, Relays


async def test_a_relay_that_works_is_alive_and_ready(peer: Peer) -> None:
    for path, status in (("live", "alive"), ("ready", "ready")):
        reply = await peer.call("GET", f"/v1/health/{path}")
        assert (reply.status, reply.json()) == (200, {"status": status})


async def test_who_asks_whether_it_lives_is_told_whatever_else_comes_from_there(
    relays: Relays, peer_of: MakePeer
) -> None:
    limits = {**UNLIMITED, Limit.REQUESTS: Bucket(1, 3600, fail_open=True)}
    peer = peer_of(await relays.start("sqlite", limits=limits))
    assert [(await peer.call("GET", "/v1/server-info")).status for _ in range(2)] == [200, 429]
    for path in ("live", "ready"):
        assert (await peer.call("GET", f"/v1/health/{path}")).status == 200


async def test_without_its_database_it_is_alive_and_not_ready(relays: Relays, peer_of: MakePeer) -> None:
    settings = await relays.settings("postgresql")
    peer = peer_of(await relays.serve(settings))
    name = settings.database_url.partition("?")[0].rpartition("/")[2]
    await relays.postgres.drop(name)
    assert (await peer.call("GET", "/v1/health/ready")).status == 503
    assert (await peer.call("GET", "/v1/health/live")).status == 200
    await relays.stop()
    await relays.postgres.execute(f'CREATE DATABASE "{name}"')  # for the fixture to drop


async def test_who_asks_at_the_same_time_shares_one_look(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, read = 0, Database.read

    def counted(opened: Database) -> AbstractAsyncContextManager[AsyncConnection]:
        nonlocal looks
        looks += 1
        return read(opened)

    monkeypatch.setattr(Database, "read", counted)
    service = HealthService(database, asyncio.Event(), asyncio.Event())
    await asyncio.gather(*(service.check_ready() for _ in range(50)))
    assert looks == 1
    await service.check_ready()
    assert looks == 2


async def test_when_a_part_has_failed_it_is_not_ready_any_more(database: Database) -> None:
    broken = asyncio.Event()
    service = HealthService(database, asyncio.Event(), broken)
    await service.check_ready()

    async def fail() -> None:
        raise ValueError

    async with running(fail(), failed=broken.set):
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await service.check_ready()


async def test_before_it_stops_it_is_not_ready_and_still_takes_requests(
    relays: Relays, backend: str, peer_of: MakePeer
) -> None:
    peer = peer_of(await relays.start(backend, drain_delay=timedelta(seconds=1)))
    alice, bob = await peer.register(), await peer.register()
    async with bob.socket() as socket:
        await socket.queue_empty()
        stopping = asyncio.create_task(relays.stop())
        await asyncio.sleep(0.2)
        reply = await peer.call("GET", "/v1/health/ready")
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert (await alice.send(bob, b"while it drains")).status == 200
        assert await socket.receive(1) == [b"while it drains"]
        message = await socket.websocket.receive()
        assert (message.data, (message.extra or "")[:12]) == (1001, "retry-after=")
        await stopping
