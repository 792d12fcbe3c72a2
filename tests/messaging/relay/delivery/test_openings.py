"""Opening mailboxes: what a device is told, what is forgotten, and that it is one step for all who connect at a time."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from messaging.relay.database import Database
from messaging.relay.delivery.mailbox import Mailboxes
from messaging.relay.delivery.openings import Opened, Openings
from messaging.relay.messages.tables import NewEnvelope, StoredGap, append_envelopes, create_mailbox, forget_envelopes
from messaging.relay.tasks import running
from tests.messaging.relay.delivery.test_mailbox import mailbox_with, sequences

NOW = 50


@pytest.fixture
async def openings(database: Database) -> AsyncIterator[Openings]:
    made = Openings(database, lambda: NOW)
    async with running(made.run()):
        yield made


async def opened(openings: Openings, box: int, *, resume_after: int | None = None, wants_gaps: bool = False) -> Opened:
    found = await openings.open(box, resume_after=resume_after, wants_gaps=wants_gaps)
    assert found is not None
    return found


async def test_a_device_that_resumes_forgets_what_it_has_and_hears_what_it_missed(
    openings: Openings, database: Database
) -> None:
    box = await mailbox_with(database, 100, 100, 50, 50, 100, 50)
    found = await opened(openings, box, resume_after=1, wants_gaps=True)
    assert found.last_sequence == 6
    assert found.gaps == [StoredGap(3, 4, "expired"), StoredGap(6, 6, "expired")]
    mailboxes = Mailboxes(database, lambda: NOW)
    assert await sequences(mailboxes, box) == [2, 5]
    await mailboxes.forget_gap(box, 3)
    assert (await opened(openings, box, wants_gaps=True)).gaps == [StoredGap(6, 6, "expired")]


async def test_gaps_are_not_kept_for_a_device_that_does_not_ask_for_them(
    openings: Openings, database: Database
) -> None:
    box = await mailbox_with(database, 50)
    assert (await opened(openings, box, wants_gaps=True)).gaps == [StoredGap(1, 1, "expired")]
    await opened(openings, box)
    assert (await opened(openings, box, wants_gaps=True)).gaps == []


async def test_a_mailbox_that_is_gone_cannot_be_opened(openings: Openings) -> None:
    assert await openings.open(99, resume_after=5, wants_gaps=True) is None


async def test_what_is_parked_survives_a_device_that_says_it_has_it(openings: Openings, database: Database) -> None:
    box = await mailbox_with(database, 100, 100)
    mailboxes = Mailboxes(database, lambda: NOW)
    for _ in range(5):
        await mailboxes.count_failure(box, 1)
    assert (await opened(openings, box, resume_after=2)).empty_up_to == 0
    assert await sequences(mailboxes, box) == []


@pytest.mark.parametrize(("acknowledged", "empty_up_to"), [([], 0), ([1], 1), ([1, 2], 2), ([2], 0), ([1, 2, 3], 3)])
async def test_a_device_need_not_look_where_nothing_waits(
    openings: Openings, database: Database, acknowledged: list[int], empty_up_to: int
) -> None:
    box = await mailbox_with(database, 100, 100, 100)
    if acknowledged:
        async with database.begin() as db:
            await forget_envelopes(db, [(box, sequence) for sequence in acknowledged])
    found = await opened(openings, box)
    assert (found.last_sequence, found.empty_up_to) == (3, empty_up_to)


async def test_all_who_connect_at_a_time_get_numbers_of_their_own(openings: Openings, database: Database) -> None:
    boxes = [await mailbox_with(database, 100) for _ in range(20)]
    found = await asyncio.gather(*(opened(openings, box) for box in [*boxes, *boxes, boxes[0]]))
    assert [each.connection for each in found] == [1] * 20 + [2] * 20 + [3]


async def test_an_envelope_that_is_stored_meanwhile_does_not_count_as_seen(
    openings: Openings, database: Database
) -> None:
    """The mailbox is locked by a send that commits while the device connects."""
    if database.turn is not None:
        return  # on SQLite one writes after the other
    async with database.begin() as db:
        box = await create_mailbox(db)
    async with database.begin() as db:
        await append_envelopes(db, {box: NewEnvelope(b"1")}, expires_at=100)
        connecting = asyncio.create_task(opened(openings, box))
        await asyncio.sleep(0.3)
        assert not connecting.done()
    found = await connecting
    assert (found.last_sequence, found.empty_up_to) == (1, 0)
