"""What a lost notice would have said."""

from messaging.relay.database import Database
from messaging.relay.delivery.mailbox import Mailboxes
from messaging.relay.delivery.wakeups import (
    ConnectedElsewhere,
    CredentialsReplaced,
    Heard,
    LocalWakeups,
    MailboxSeen,
    listening,
)
from messaging.relay.delivery.watch import MailboxWatch
from messaging.relay.messages.tables import NewEnvelope, append_envelopes, create_mailbox


async def test_each_listener_is_told_how_far_its_mailbox_is(database: Database) -> None:
    async with database.begin() as db:
        box = await create_mailbox(db)
        await append_envelopes(db, {box: NewEnvelope(b"x")}, expires_at=9)
    listeners, heard = LocalWakeups(), list[Heard]()
    async with listening(listeners, box, heard.append):
        await MailboxWatch(Mailboxes(database, lambda: 0), listeners).look()
    assert heard == [ConnectedElsewhere(0), MailboxSeen(1)]


async def test_a_mailbox_that_is_gone_means_that_the_device_was_registered_anew(database: Database) -> None:
    listeners, heard = LocalWakeups(), list[Heard]()
    async with listening(listeners, 999, heard.append):
        await MailboxWatch(Mailboxes(database, lambda: 0), listeners).look()
    assert heard == [CredentialsReplaced()]
