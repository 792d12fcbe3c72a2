"""What a lost notice would have said, read from the database every few seconds for all sockets of this process at once."""

import asyncio
from dataclasses import dataclass
from itertools import islice

from messaging.relay.delivery.mailbox import Closed, Mailboxes
from messaging.relay.delivery.wakeups import (
    ConnectedElsewhere,
    CredentialsReplaced,
    Heard,
    LocalWakeups,
    MailboxSeen,
    Suspended,
)
from messaging.relay.messages.tables import Progress
from messaging.serving.logs import get_logger

WATCH_SECONDS = 3  # no socket sleeps longer than 5 s, whatever happens to Redis
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class MailboxWatch:
    """Compares the sockets of this process with the database."""

    mailboxes: Mailboxes
    listeners: LocalWakeups

    async def look(self) -> None:
        """Tell each listener how far its mailbox is, or that it is gone or closed."""
        connected = iter(self.listeners.mailboxes())
        while some := list(islice(connected, _AT_ONCE)):
            found = await self.mailboxes.progress(some)
            for mailbox_id in some:
                for notice in _heard_of(found.get(mailbox_id)):
                    self.listeners.announce(mailbox_id, notice)

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - the next look is a few seconds away
                get_logger().warning("watch_failed", error=type(error).__name__)


def _heard_of(found: Progress | Closed | None) -> tuple[Heard, ...]:
    match found:
        case None:
            return (CredentialsReplaced(),)
        case Closed():
            return (Suspended(),)
        case Progress(last_sequence, connection):
            return ConnectedElsewhere(connection), MailboxSeen(last_sequence)
