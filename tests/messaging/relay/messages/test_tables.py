"""Mailboxes: numbers without gaps in the order of commits, and what is read and forgotten."""

import asyncio

from messaging.relay.database import Database
from messaging.relay.messages.tables import (
    NewEnvelope,
    append_envelopes,
    create_mailbox,
    delete_envelopes,
    delete_expired,
    delete_mailboxes,
    mailboxes_behind,
    progress_of,
    read_envelopes,
)


async def append(database: Database, *mailboxes: int, data: bytes = b"x", expires_at: int = 100) -> dict[int, int]:
    async with database.begin() as db:
        return dict(await append_envelopes(db, dict.fromkeys(mailboxes, NewEnvelope(data)), expires_at=expires_at))


async def new_mailbox(database: Database) -> int:
    async with database.begin() as db:
        return await create_mailbox(db)


async def sequences_in(
    database: Database, mailbox: int, *, after: int = 0, limit: int = 100, now: int = 0
) -> list[int]:
    async with database.read() as db:
        found = await read_envelopes(db, mailbox, after=after, limit=limit, now=now)
        return [envelope.sequence for envelope in found]


async def test_each_mailbox_counts_for_itself(database: Database) -> None:
    one, two = await new_mailbox(database), await new_mailbox(database)
    assert await append(database, one) == {one: 1}
    assert await append(database, one, two) == {one: 2, two: 1}
    async with database.read() as db:
        found = await progress_of(db, [one, two, 999])
    assert {box: progress.last_sequence for box, progress in found.items()} == {one: 2, two: 1}


async def test_numbers_have_no_gaps_and_no_doubles_under_concurrent_senders(database: Database) -> None:
    boxes = [await new_mailbox(database) for _ in range(3)]
    # Each send takes the mailboxes in another order: without an order of locking they would wait for each other.
    orders = [boxes[n % 3 :] + boxes[: n % 3] for n in range(30)]
    given = await asyncio.gather(*(append(database, *order) for order in orders))
    for box in boxes:
        assert sorted(sequences[box] for sequences in given) == list(range(1, 31))
        assert await sequences_in(database, box) == list(range(1, 31))


async def test_nothing_is_appended_if_one_mailbox_is_gone(database: Database) -> None:
    here, gone = await new_mailbox(database), await new_mailbox(database)
    async with database.begin() as db:
        await delete_mailboxes(db, [gone])
    assert await append(database, here, gone) == {here: 1}
    assert await sequences_in(database, here) == []


async def test_a_page_begins_behind_a_number_and_leaves_out_what_has_expired(database: Database) -> None:
    box = await new_mailbox(database)
    for expires_at in (100, 50, 100, 100):
        await append(database, box, expires_at=expires_at)
    assert await sequences_in(database, box, after=1, limit=2) == [2, 3]
    assert await sequences_in(database, box, now=50) == [1, 3, 4]
    assert await sequences_in(database, box, now=100) == []


async def test_what_is_acknowledged_is_gone_and_its_number_is_not_used_again(database: Database) -> None:
    box = await new_mailbox(database)
    await append(database, box)
    await append(database, box)
    async with database.begin() as db:
        await delete_envelopes(db, box, [2, 77])
    assert await sequences_in(database, box) == [1]
    assert await append(database, box) == {box: 3}


async def test_an_id_of_a_mailbox_is_not_used_again(database: Database) -> None:
    first = await new_mailbox(database)
    async with database.begin() as db:
        await delete_mailboxes(db, [first])
    assert await new_mailbox(database) > first


async def test_a_mailbox_goes_with_all_that_is_in_it(database: Database) -> None:
    one, two = await new_mailbox(database), await new_mailbox(database)
    await append(database, one, two)
    async with database.begin() as db:
        await delete_mailboxes(db, [one])
    assert (await sequences_in(database, one), await sequences_in(database, two)) == ([], [1])


async def test_expired_envelopes_are_deleted_by_ranges_of_mailboxes(database: Database) -> None:
    boxes = [await new_mailbox(database) for _ in range(3)]
    await append(database, *boxes, expires_at=10)
    await append(database, *boxes, expires_at=20)
    async with database.begin() as db:
        assert await mailboxes_behind(db, boxes[0], limit=9) == boxes[1:]
        assert await delete_expired(db, first=boxes[0], last=boxes[1], now=10) == 2
    assert [await sequences_in(database, box) for box in boxes] == [[2], [2], [1, 2]]
