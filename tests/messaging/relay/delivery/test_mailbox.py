"""Reading a mailbox."""

from messaging.relay.database import Database
from messaging.relay.delivery.mailbox import Mailboxes
from messaging.relay.delivery.stream import ReadPage
from messaging.relay.messages.tables import NewEnvelope, Progress, StoredGap, append_envelopes, create_mailbox


async def mailbox_with(database: Database, *expire_at: int) -> int:
    async with database.begin() as db:
        box = await create_mailbox(db)
        for number, expires_at in enumerate(expire_at):
            await append_envelopes(db, {box: NewEnvelope(b"%d" % number)}, expires_at=expires_at)
    return box


async def sequences(mailboxes: Mailboxes, box: int) -> list[int]:
    return [envelope.sequence for envelope in await mailboxes.read_page(box, ReadPage(0, 99))]


async def test_a_page_is_read_and_the_last_number_known(database: Database) -> None:
    mailboxes = Mailboxes(database, lambda: 50)
    box = await mailbox_with(database, 50, 100, 100)
    page = await mailboxes.read_page(box, ReadPage(after=0, limit=10))
    assert [(envelope.sequence, envelope.data) for envelope in page] == [(2, b"1"), (3, b"2")]
    assert await mailboxes.progress([box, 99]) == {box: Progress(last_sequence=3, connection=0)}


async def test_what_fails_five_times_is_parked_and_no_page_holds_it(database: Database) -> None:
    mailboxes = Mailboxes(database, lambda: 0)
    box = await mailbox_with(database, 9, 9)
    for _ in range(4):
        assert await mailboxes.count_failure(box, 1) == []
    assert await sequences(mailboxes, box) == [1, 2]
    assert await mailboxes.count_failure(box, 1) == [StoredGap(1, 1, "parked")]
    assert await sequences(mailboxes, box) == [2]
    assert await mailboxes.count_failure(box, 1) == []
