"""Where figures come from: each is counted where it happens, seen from outside through a relay or the part that counts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.delivery.acknowledgements import Acknowledgements
from messaging.relay.delivery.redis import Channels, RedisWakeups
from messaging.relay.delivery.sweep import Sweep
from messaging.relay.delivery.wakeups import LocalWakeups
from messaging.relay.errors import Unavailable
from messaging.relay.http import Caller
from messaging.relay.messages.append import Append, Place
from messaging.relay.messages.tables import NewEnvelope, create_mailbox
from messaging.relay.messages.writer import EnvelopeWriter
from messaging.relay.metrics import Figures, Snapshot
from messaging.relay.nodes import read_figures
from messaging.relay.tasks import running
from messaging.wire.limits import MAX_DELIVERIES
from tests.devices import Device
from tests.relays import Relays, StartedRelay
from tests.servers import own_valkey

AWAY = "postgresql://nobody@127.0.0.1:1/none"


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():
            await asyncio.sleep(0.02)


def to(box: int) -> Append:
    return Append([(Place(box, None), NewEnvelope(b"x"))], expires_at=99)


async def test_what_is_committed_is_counted_by_envelope_and_by_batch(database: Database) -> None:
    figures, wakeups = Figures(), LocalWakeups()
    writer = EnvelopeWriter(database, wakeups, wakeups, figures=figures)
    async with database.begin() as db:
        boxes = [await create_mailbox(db) for _ in range(3)]
    assert writer.waiting == 0
    async with running(writer.run()):
        sends = [asyncio.ensure_future(writer.append(to(box))) for box in (*boxes, 999)]  # the last mailbox is gone
        await asyncio.sleep(0)
        assert writer.waiting <= 4
        await asyncio.gather(*sends)
    assert figures.envelopes_stored == 3
    assert 1 <= sum(figures.commit_seconds.counts) <= 4
    assert figures.commit_seconds.total > 0
    assert figures.commit_failures == 0


async def test_a_batch_that_fails_is_counted() -> None:
    figures, wakeups = Figures(), LocalWakeups()
    writer = EnvelopeWriter(open_database(normalise_url(AWAY)), wakeups, wakeups, figures=figures)
    async with running(writer.run()):
        with pytest.raises(Unavailable):
            await writer.append(to(1))
    assert (figures.commit_failures, figures.envelopes_stored, sum(figures.commit_seconds.counts)) == (1, 0, 0)


async def test_acknowledgements_are_counted_and_those_that_fail() -> None:
    figures = Figures()
    made = Acknowledgements(open_database(normalise_url(AWAY)), LocalWakeups(), lambda: 5, timedelta(days=1), figures)
    async with running(made.run()):
        made.acknowledge(Caller(1, uuid4(), None, 1, 1), 1, None)
        await made.settle(10)
    assert (figures.acknowledgement_failures, figures.envelopes_acknowledged) == (1, 0)


async def test_sweeps_are_counted_with_what_they_forget(database: Database) -> None:
    figures = Figures()

    async def two() -> int:
        return 2

    await Sweep(database, lambda: 5, [two], figures).sweep()
    assert (figures.sweeps, figures.swept_rows, figures.sweep_failures) == (1, 2, 0)


async def test_a_sweep_that_fails_is_counted() -> None:
    figures = Figures()
    sweep = Sweep(open_database(normalise_url(AWAY)), lambda: 5, figures=figures)

    async def failed() -> bool:
        return figures.sweep_failures == 1

    async with running(sweep.run()):
        await until(failed)
    assert figures.sweeps == 0


async def test_who_waits_for_a_connection_is_counted(relays: Relays) -> None:
    database = open_database(normalise_url((await relays.settings("postgresql")).database_url))
    release, began = asyncio.Event(), 0

    async def hold() -> None:
        nonlocal began
        async with database.read() as db:
            await db.execute(text("SELECT 1"))
            began += 1
            await release.wait()

    async def all_taken() -> bool:
        return began == 20

    holding = [asyncio.create_task(hold()) for _ in range(20)]
    await until(all_taken)
    assert database.pool_waits == 0
    late = asyncio.create_task(hold())

    async def waits() -> bool:
        return database.pool_waits == 1

    await until(waits)
    release.set()
    await asyncio.gather(late, *holding)
    assert database.pool_waits == 1
    await database.close()


async def test_redis_is_away_until_it_is_heard_and_when_it_ends() -> None:
    figures = Figures()

    async def heard() -> bool:
        return not wakeups.away

    async def lost() -> bool:
        return wakeups.away and figures.redis_failures > 0

    with own_valkey() as server:
        wakeups = RedisWakeups(server.url, Channels.under(bytes(32)), LocalWakeups(), figures)
        assert wakeups.away
        async with running(wakeups.run()):
            await until(heard)
            assert figures.redis_failures == 0
            server.stop()
            await until(lost)


async def figures_of(relay: StartedRelay) -> AsyncIterator[Snapshot]:
    database = open_database(normalise_url(relay.settings.database_url))
    async with database.read() as db:
        for snapshot in (await read_figures(db)).values():
            yield snapshot
    await database.close()


async def test_what_is_parked_is_counted(relay: StartedRelay, relays: Relays, alice: Device, bob: Device) -> None:
    await alice.send(bob, b"poison")
    for _ in range(MAX_DELIVERIES):
        async with bob.socket() as socket:
            request, _ = await socket.envelope()
            await socket.answer(request, 500)
            await socket.queue_empty()
    await relays.stop()  # at its end a process writes its last figures
    (snapshot,) = [each async for each in figures_of(relay)]
    assert snapshot.counters["envelopes_parked"] == 1
    assert snapshot.counters["envelopes_delivered"] == MAX_DELIVERIES
    assert snapshot.counters["envelopes_acknowledged"] == 0
