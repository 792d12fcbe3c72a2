"""What the service does beside its handlers: time, and a device that is replaced between two steps."""

import asyncio
from datetime import timedelta

import pytest

from messaging.relay.accounts.directory import Directory
from messaging.relay.accounts.tables import find_credentials
from messaging.relay.database import normalise_url, open_database
from messaging.relay.delivery.mailbox import Mailboxes
from messaging.relay.delivery.stream import ReadPage
from messaging.relay.delivery.wakeups import Heard, LocalWakeups, MailArrived, listening
from messaging.relay.errors import NotAuthenticated
from messaging.relay.messages.reports import SpamReports
from messaging.relay.messages.service import MessageService, Sending
from messaging.relay.messages.writer import EnvelopeWriter
from messaging.relay.server_secret import ServerSecret
from messaging.wire.envelope import decode_envelope
from messaging.wire.messages import IncomingMessageList
from tests.devices import Device, NewDevice, message_for
from tests.relays import StartedRelay, unlimited

NOW = 1_700_000_000_000


async def test_an_ephemeral_message_is_kept_for_seconds_and_others_for_their_lifetime(
    relay: StartedRelay, alice: Device, bob: Device
) -> None:
    database = open_database(normalise_url(relay.settings.database_url))
    wakeups, heard = LocalWakeups(), list[Heard]()
    limits = unlimited()
    reports = SpamReports(database, ServerSecret.derive(bytes(32)), limits, lambda: NOW)
    writer = EnvelopeWriter(database, wakeups, wakeups)
    writing = asyncio.create_task(writer.run())
    service = MessageService(database, Directory(database), writer, limits, reports, lambda: NOW, timedelta(days=30))
    async with database.read() as db:
        stored = await find_credentials(db, bob.aci.uuid, 1)
        sender = await find_credentials(db, alice.aci.uuid, 1)
    assert stored is not None
    assert sender is not None
    mailbox = stored.caller.mailbox_id

    def message(content: bytes, *, online: bool = False) -> IncomingMessageList:
        return IncomingMessageList.from_json(message_for(bob, content, online=online, timestamp=0))

    async with listening(wakeups, mailbox, heard.append):
        await service.send(message(b"kept"), bob.aci, Sending(sender.caller, None))
        await service.send(message(b"typing", online=True), bob.aci, Sending(sender.caller, None))
    assert heard == [MailArrived(1), MailArrived(2)]

    async def contents_after(passed: timedelta) -> list[bytes]:
        later = Mailboxes(database, lambda: NOW + passed // timedelta(milliseconds=1))
        return [decode_envelope(found.data).content for found in await later.read_page(mailbox, ReadPage(0, 9))]

    assert await contents_after(timedelta(seconds=9)) == [b"kept", b"typing"]
    assert await contents_after(timedelta(seconds=11)) == [b"kept"]
    assert await contents_after(timedelta(days=31)) == []
    envelope = decode_envelope((await Mailboxes(database, lambda: NOW).read_page(mailbox, ReadPage(0, 1)))[0].data)
    assert envelope.client_timestamp == envelope.server_timestamp == NOW

    await alice.peer.register(NewDevice(number=alice.known.number))
    with pytest.raises(NotAuthenticated):  # the caller was authenticated before, and replaced since
        await service.send(message(b"from the old device"), bob.aci, Sending(sender.caller, None))
    await bob.peer.register(NewDevice(number=bob.known.number))
    with pytest.raises(NotAuthenticated):  # and hears nothing of the recipient's devices, which have changed too
        await service.send(message(b"from the old device"), bob.aci, Sending(sender.caller, None))
    writing.cancel()
    await asyncio.wait([writing])
    await database.close()
