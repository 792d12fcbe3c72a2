"""What a lost notice would have said, read from the database every few seconds for all sockets of this process at once."""

import asyncio
from dataclasses import dataclass
from itertools import islice

from messaging.relay.delivery.mailbox import Mailboxes
from messaging.relay.delivery.wakeups import CredentialsReplaced, LocalWakeups, MailArrived
from messaging.relay.logs import get_logger

WATCH_SECONDS = 5
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class MailboxWatch:
    """Compares the sockets of this process with the database."""

    mailboxes: Mailboxes
    listeners: LocalWakeups

    async def look(self) -> None:
        """Tell each listener how far its mailbox is, or that it is gone."""
        connected = iter(self.listeners.mailboxes())
        while some := list(islice(connected, _AT_ONCE)):
            found = await self.mailboxes.last_sequences(some)
            for mailbox_id in some:
                sequence = found.get(mailbox_id)
                notice = CredentialsReplaced() if sequence is None else MailArrived(sequence)
                self.listeners.announce(mailbox_id, notice)

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - the next look is a few seconds away
                get_logger().warning("watch_failed", error=type(error).__name__)
