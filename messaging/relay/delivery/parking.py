"""Parked envelopes: what failed too often stops nobody. Its device may list it, try it again, or drop it.

One that is tried again goes to the end of the queue: what came after it has been delivered long ago.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.database import Database
from messaging.relay.delivery.wakeups import MailArrived, Wakeups
from messaging.relay.errors import NotFound
from messaging.relay.http import Caller
from messaging.relay.messages.tables import (
    Parked,
    append_envelopes,
    delete_envelopes,
    lock_mailboxes,
    parked_envelopes,
)
from messaging.wire.envelope import decode_envelope
from messaging.wire.messages import ParkedMessage, ParkedMessages

LISTED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class ParkingService:
    """Decides about parked envelopes for their device. ``now`` gives milliseconds since 1970."""

    database: Database
    wakeups: Wakeups
    now: Callable[[], int]

    async def parked(self, caller: Caller) -> ParkedMessages:
        """The first parked envelopes of the calling device."""
        async with self.database.read() as db:
            found = await parked_envelopes(db, caller.mailbox_id, now=self.now(), limit=LISTED_AT_ONCE)
        return ParkedMessages(messages=tuple(map(_describe, found)))

    async def retry(self, caller: Caller, sequence: int) -> None:
        """Queue a parked envelope again, at the end.

        Raises:
            NotFound: it is not parked.
        """
        async with self.database.begin() as db:
            queued = await retry_parked(db, caller.mailbox_id, now=self.now(), limit=1, sequence=sequence)
            if not queued:
                raise NotFound  # or registered anew meanwhile
        self.wakeups.announce(caller.mailbox_id, MailArrived(queued[-1]))

    async def drop(self, caller: Caller, sequence: int) -> None:
        """Forget a parked envelope.

        Raises:
            NotFound: it is not parked.
        """
        async with self.database.begin() as db:
            if not await drop_parked(db, caller.mailbox_id, now=self.now(), limit=1, sequence=sequence):
                raise NotFound


async def retry_parked(
    db: AsyncConnection, mailbox_id: int, *, now: int, limit: int, sequence: int | None = None
) -> list[int]:
    """Queue parked envelopes again, at the end, the oldest first; or the one with this sequence. Returns their new sequences."""
    await lock_mailboxes(db, [mailbox_id])  # of two that retry at once, one finds nothing
    found = await parked_envelopes(db, mailbox_id, now=now, limit=limit, sequence=sequence)
    await delete_envelopes(db, mailbox_id, [each.sequence for each in found])
    queued: list[int] = []
    for each in found:
        queued += (await append_envelopes(db, {mailbox_id: each.envelope}, expires_at=each.expires_at)).values()
    return queued


async def drop_parked(
    db: AsyncConnection, mailbox_id: int, *, now: int, limit: int, sequence: int | None = None
) -> int:
    """Forget parked envelopes, the oldest first; or the one with this sequence. Returns how many."""
    found = await parked_envelopes(db, mailbox_id, now=now, limit=limit, sequence=sequence)
    return len(await delete_envelopes(db, mailbox_id, [each.sequence for each in found]))


def _describe(parked: Parked) -> ParkedMessage:
    envelope = decode_envelope(parked.envelope.data)
    return ParkedMessage(
        sequence=parked.sequence,
        guid=str(envelope.guid),
        server_timestamp=envelope.server_timestamp,
        size=parked.size,
        deliveries=parked.deliveries,
    )
