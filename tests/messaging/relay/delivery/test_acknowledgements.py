"""What devices have is forgotten, in batches; receipts are stored with it, once, and for good."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from messaging.relay.database import Database, normalise_url, open_database
from messaging.relay.delivery.acknowledgements import Acknowledged, Acknowledgements
from messaging.relay.delivery.receipts import ReceiptDue
from messaging.relay.delivery.wakeups import LocalWakeups
from messaging.relay.http import Caller
from messaging.relay.lanes import Lane
from messaging.relay.messages.tables import NewEnvelope, append_envelopes, create_mailbox, read_envelopes
from messaging.wire.envelope import EnvelopeType, decode_envelope
from tests.devices import Device
from tests.relays import StartedRelay


@pytest.fixture
async def acknowledgements(database: Database) -> AsyncIterator[Acknowledgements]:
    made = Acknowledgements(database, LocalWakeups(), lambda: 50, timedelta(days=1))
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.wait([task])


async def mailbox_with(database: Database, count: int) -> Caller:
    async with database.begin() as db:
        box = await create_mailbox(db)
        for number in range(count):
            await append_envelopes(db, {box: NewEnvelope(b"%d" % number)}, expires_at=99)
    return Caller(1, uuid4(), None, 1, box)


async def sequences(database: Database, receiver: Caller) -> list[int]:
    async with database.read() as db:
        return [each.sequence for each in await read_envelopes(db, receiver.mailbox_id, after=0, limit=99, now=0)]


async def test_what_is_acknowledged_is_gone_once_it_has_settled(
    acknowledgements: Acknowledgements, database: Database
) -> None:
    one, two = await mailbox_with(database, 4), await mailbox_with(database, 2)
    for receiver, sequence in ((one, 2), (two, 1), (one, 4), (one, 77)):
        acknowledgements.acknowledge(receiver, sequence, None)
    await acknowledgements.settle()
    assert (await sequences(database, one), await sequences(database, two)) == ([1, 3], [2])


async def test_an_envelope_that_is_acknowledged_twice_leaves_one_receipt(
    relay: StartedRelay, alice: Device, bob: Device
) -> None:
    for _ in range(2):
        await alice.send(bob, b"hello")
    async with bob.socket() as socket:
        (request, _), (second, _) = [await socket.envelope() for _ in range(2)]
        for _ in range(2):
            await socket.answer(request)
        await socket.answer(second)
    async with alice.socket() as socket:
        found = [decode_envelope((await socket.request()).body or b"") for _ in range(2)]
        assert [each.type for each in found] == [EnvelopeType.SERVER_DELIVERY_RECEIPT] * 2
        await socket.queue_empty()


async def synchronous(lane: Lane) -> str:
    async with lane.batch() as db:
        if db.dialect.name == "postgresql":
            return str(await db.scalar(text("SHOW synchronous_commit")))
        return {1: "off", 2: "on"}[int(await db.scalar(text("PRAGMA synchronous")) or 0)]


async def test_deletions_may_be_undone_by_a_crash_and_what_gives_numbers_may_not(relay: StartedRelay) -> None:
    database = open_database(normalise_url(relay.settings.database_url))
    made = Acknowledgements(database, LocalWakeups(), lambda: 50, timedelta(days=1))
    receiver = Caller(1, uuid4(), None, 1, 1)
    plain, owed = Acknowledged(receiver, 1, None), Acknowledged(receiver, 2, ReceiptDue(uuid4(), 1))
    assert await synchronous(made.lane_for([plain])) == "off"
    if relay.settings.redis_url is None:  # the PostgreSQL of the tests commits nothing for good
        assert await synchronous(made.lane_for([plain, owed])) == "on"
    assert made.lane_for([plain, owed]) is not made.lane_for([plain])
    for lane in (made.lane_for([plain]), made.lane_for([owed])):
        await lane.close()
    await database.close()
