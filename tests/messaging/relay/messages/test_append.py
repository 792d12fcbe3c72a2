"""Appending a batch: each send as a whole or not at all, compared with the database under the locks of its mailboxes."""

import asyncio
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import integers, lists
from hypothesis.strategies import sets as sets_of

from messaging.relay.database import Database
from messaging.relay.lanes import Lane
from messaging.relay.messages.append import Append, Payload, Place, Remembered, Sequences, append
from messaging.relay.messages.idempotency import Once, recall
from messaging.relay.messages.tables import (
    NewEnvelope,
    change_versions,
    create_mailbox,
    delete_mailboxes,
    read_envelopes,
)


async def mailboxes(database: Database, count: int) -> list[int]:
    async with database.begin() as db:
        return [await create_mailbox(db) for _ in range(count)]


async def appended(database: Database, *sends: Append) -> list[Sequences | None]:
    lane = Lane(database, relaxed=False)
    async with lane.batch() as db:
        found = await append(db, sends)
    await lane.close()
    return found


def to(*boxes: int, version: int | None = 0, data: bytes = b"x", rests_on: Sequence[Place] = ()) -> Append:
    return Append([(Place(box, version), NewEnvelope(data)) for box in boxes], expires_at=99, rests_on=rests_on)


def under(key: bytes, *boxes: int) -> Append:
    envelopes = [(Place(box, 0), NewEnvelope(b"once")) for box in boxes]
    return Append(envelopes, expires_at=99, remembered=Remembered(Once(key, b"request"), b"answer", 99))


async def contents(database: Database, box: int) -> list[tuple[int, bytes]]:
    async with database.read() as db:
        return [(each.sequence, each.data) for each in await read_envelopes(db, box, after=0, limit=999, now=0)]


async def test_each_send_of_a_batch_gets_the_next_numbers(database: Database) -> None:
    one, two = await mailboxes(database, 2)
    found = await appended(database, to(one, data=b"a"), to(one, two, data=b"b"), to(two, one, data=b"c"))
    assert found == [{one: 1}, {one: 2, two: 1}, {two: 2, one: 3}]
    assert await contents(database, one) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert await contents(database, two) == [(1, b"b"), (2, b"c")]
    assert await appended(database, to(one)) == [{one: 4}]


async def test_a_send_that_rests_on_something_old_stores_nothing_and_takes_no_number(database: Database) -> None:
    one, two, gone = await mailboxes(database, 3)
    async with database.begin() as db:
        await change_versions(db, [two])
        await delete_mailboxes(db, [gone])
    found = await appended(
        database,
        to(one, two),
        to(one, gone),
        to(one),
        to(two, version=1),
        to(two, version=None),
        to(gone, version=None),
    )
    assert found == [None, None, {one: 1}, {two: 1}, {two: 2}, None]
    assert await contents(database, one) == [(1, b"x")]


async def test_the_sender_has_to_be_as_it_was_too(database: Database) -> None:
    box, own, gone = await mailboxes(database, 3)
    async with database.begin() as db:
        await delete_mailboxes(db, [gone])
    found = await appended(
        database,
        to(box, rests_on=[Place(own, 0)]),
        to(box, rests_on=[Place(own, 1)]),
        to(box, rests_on=[Place(gone, None)]),
    )
    assert found == [{box: 1}, None, None]


async def test_a_key_stands_for_one_send_in_a_batch_and_after_it(database: Database) -> None:
    box, gone = await mailboxes(database, 2)
    async with database.begin() as db:
        await delete_mailboxes(db, [gone])
    assert await appended(database, under(b"k", box), under(b"k", box), under(b"other", box)) == [
        {box: 1},
        None,
        {box: 2},
    ]
    assert await appended(database, under(b"k", box), under(b"refused", gone)) == [None, None]
    async with database.read() as db:
        assert await recall(db, Once(b"k", b"request")) == b"answer"
        assert await recall(db, Once(b"refused", b"request")) is None  # what stored nothing may be tried again


async def test_of_two_batches_at_once_one_stores_what_stands_under_a_key(database: Database) -> None:
    (box,) = await mailboxes(database, 1)
    found = await asyncio.gather(*(appended(database, under(b"same", box), to(box)) for _ in range(8)))
    assert sum(first is not None for first, _ in found) == 1
    assert all(second is not None for _, second in found)
    assert [sequence for sequence, _ in await contents(database, box)] == list(range(1, 10))


async def test_a_payload_is_stored_with_its_envelopes_or_not_at_all(database: Database) -> None:
    one, two, gone = await mailboxes(database, 3)
    async with database.begin() as db:
        await delete_mailboxes(db, [gone])

    def shared(number: int, *boxes: int) -> Append:
        views = [(Place(box, 0), NewEnvelope(b"", b"view ", number)) for box in boxes]
        return Append(views, expires_at=99, payload=Payload(number, b"shared"))

    assert await appended(database, shared(7, one, two), shared(8, one, gone)) == [{one: 1, two: 1}, None]
    assert await contents(database, two) == [(1, b"\x42\x0bview shared")]
    assert await appended(database, shared(8, one)) == [{one: 2}]  # the number was not taken


async def test_a_send_without_envelopes_is_remembered_all_the_same(database: Database) -> None:
    assert await appended(database, under(b"nobody"), Append([], 99), under(b"nobody")) == [{}, {}, None]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sends=lists(sets_of(integers(0, 3), min_size=1), min_size=1, max_size=12), split=integers(1, 4))
async def test_numbers_have_no_gaps_and_follow_the_order_of_sends(
    database: Database, sends: list[set[int]], split: int
) -> None:
    boxes = await mailboxes(database, 4)
    plans = [to(*(boxes[each] for each in send), data=b"%d" % number) for number, send in enumerate(sends)]
    for start in range(0, len(plans), split):
        await appended(database, *plans[start : start + split])
    for index, box in enumerate(boxes):
        expected = [b"%d" % number for number, send in enumerate(sends) if index in send]
        assert await contents(database, box) == list(enumerate(expected, start=1))


async def test_batches_that_cross_do_not_wait_for_each_other_for_ever(database: Database) -> None:
    boxes = await mailboxes(database, 6)
    orders = [boxes[n % 6 :] + boxes[: n % 6] for n in range(24)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(appended(database, to(*order), to(*reversed(order))) for order in orders))
    for box in boxes:
        assert [sequence for sequence, _ in await contents(database, box)] == list(range(1, 49))


async def test_who_is_not_there_any_more_stores_nothing_alone_or_with_others(database: Database) -> None:
    """One envelope for each mailbox has a statement of its own; it must agree with the general one."""
    one, two, own, gone = await mailboxes(database, 4)
    async with database.begin() as db:
        await delete_mailboxes(db, [gone])
        await change_versions(db, [two])
    sends = [
        to(one, rests_on=[Place(own, 0)]),
        to(two),
        to(two, version=1, rests_on=[Place(own, 1)]),
        to(gone),
        to(own, rests_on=[Place(gone, None)]),
    ]
    expected: list[Sequences | None] = [{one: 1}, None, None, None, None]
    assert [(await appended(database, send))[0] for send in sends] == expected
    expected = [{one: 2}, None, None, None, None]
    assert await appended(database, sends[0], *sends[1:]) == expected  # two comes twice: the general one
    assert await appended(database, sends[0], sends[2], *sends[3:]) == [{one: 3}, None, None, None]
    assert await appended(database, to(one, version=None), to(two, version=1)) == [{one: 4}, {two: 1}]


async def test_keys_that_cross_do_not_wait_for_each_other_for_ever(database: Database) -> None:
    boxes = await mailboxes(database, 2)
    keys = [b"%03d" % number for number in range(200)]
    forth = [under(key, boxes[0]) for key in keys]
    back = [under(key, boxes[1]) for key in reversed(keys)]
    for _ in range(3):
        async with asyncio.timeout(60):
            await asyncio.gather(appended(database, *forth), appended(database, *back))
    found = [len(await contents(database, box)) for box in boxes]
    assert sum(found) == len(keys)
