"""Reading and emptying a mailbox, and the sweep."""

from messaging.relay.accounts.tables import insert_verification
from messaging.relay.database import Database
from messaging.relay.delivery.mailbox import Mailboxes
from messaging.relay.delivery.stream import ReadPage
from messaging.relay.messages.tables import append_envelopes, create_mailbox


async def test_a_page_is_read_and_what_was_acknowledged_forgotten(database: Database) -> None:
    mailboxes = Mailboxes(database, lambda: 50)
    async with database.begin() as db:
        box = await create_mailbox(db)
        for number in range(3):
            await append_envelopes(db, {box: b"%d" % number}, expires_at=100 if number else 50)
    page = await mailboxes.read_page(box, ReadPage(after=0, limit=10))
    assert [(envelope.sequence, envelope.data) for envelope in page] == [(2, b"1"), (3, b"2")]
    await mailboxes.delete(box, {2})
    assert [envelope.sequence for envelope in await mailboxes.read_page(box, ReadPage(0, 10))] == [3]
    assert await mailboxes.last_sequences([box]) == {box: 3}


async def test_the_sweep_forgets_what_has_expired_and_nothing_else(database: Database) -> None:
    async with database.begin() as db:
        boxes = [await create_mailbox(db) for _ in range(4)]
        for expires_at in (10, 20):
            await append_envelopes(db, dict.fromkeys(boxes, b"x"), expires_at=expires_at)
        for id_hash, expires_at in ((b"a", 10), (b"b", 11)):
            await insert_verification(db, id_hash, a_verification(expires_at))
    assert await Mailboxes(database, lambda: 10).sweep() == 5
    assert await Mailboxes(database, lambda: 10).sweep() == 0
    assert [len(await Mailboxes(database, lambda: 0).read_page(box, ReadPage(0, 9))) for box in boxes] == [1] * 4


def a_verification(expires_at: int) -> dict[str, object]:
    return {
        "number_hash": b"",
        "sealed_number": b"",
        "expires_at": expires_at,
        "verified": False,
        "codes_sent": 0,
        "next_code_at": 0,
        "code_mac": None,
        "code_expires_at": 0,
        "attempts": 0,
    }
