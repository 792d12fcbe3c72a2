"""What a socket does with its mailbox: open it, read a page, forget what was acknowledged, count what failed."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta

from messaging.relay.database import Database
from messaging.relay.delivery.receipts import ReceiptDue, store_receipts
from messaging.relay.delivery.stream import ReadPage
from messaging.relay.delivery.wakeups import MailArrived, Wakeups
from messaging.relay.http import Caller
from messaging.relay.messages.tables import (
    StoredEnvelope,
    StoredGap,
    count_connection,
    count_failure,
    delete_envelopes,
    delete_expired,
    delete_gap,
    delete_gaps,
    delete_up_to,
    insert_gaps,
    last_sequences,
    read_envelopes,
    read_gaps,
)

GAPS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Opened:
    """A mailbox as it is when its device connects."""

    connection: int  # its number: of two connections the later one has the greater
    last_sequence: int
    gaps: list[StoredGap]


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """Reads and empties mailboxes. ``now`` gives milliseconds since 1970."""

    database: Database
    wakeups: Wakeups
    now: Callable[[], int]
    receipt_lifetime: timedelta = timedelta(days=30)

    async def open(self, mailbox_id: int, *, resume_after: int | None, wants_gaps: bool) -> Opened | None:
        """Begin to deliver; ``None`` if the mailbox is gone.

        ``resume_after`` is the sequence up to which the device has everything: that is forgotten. What has expired is forgotten
        too, and its gaps are told to a device that wants to hear of gaps.
        """
        async with self.database.begin() as db:
            counted = await count_connection(db, mailbox_id)
            if counted is None:
                return None
            connection, last_sequence = counted
            if resume_after is not None:
                await delete_up_to(db, mailbox_id, resume_after)
            await delete_expired(db, first=mailbox_id, last=mailbox_id, now=self.now())
            if not wants_gaps:
                await delete_gaps(db, mailbox_id)  # nobody will ever hear of them
            gaps = await read_gaps(db, mailbox_id, limit=GAPS_AT_ONCE) if wants_gaps else []
        return Opened(connection, last_sequence, gaps)

    async def read_page(self, mailbox_id: int, page: ReadPage) -> list[StoredEnvelope]:
        """The envelopes that ``page`` asks for."""
        async with self.database.read() as db:
            return await read_envelopes(db, mailbox_id, after=page.after, limit=page.limit, now=self.now())

    async def last_sequences(self, mailbox_ids: Collection[int]) -> dict[int, int]:
        """The last sequence given in each mailbox that exists."""
        async with self.database.read() as db:
            return await last_sequences(db, mailbox_ids)

    async def acknowledge(self, receiver: Caller, acknowledged: Mapping[int, ReceiptDue | None]) -> None:
        """Forget envelopes by sequence, and leave receipts for their senders, in one transaction."""
        now = self.now()
        async with self.database.begin() as db:
            gone = await delete_envelopes(db, receiver.mailbox_id, acknowledged)
            due = [receipt for sequence in gone if (receipt := acknowledged[sequence]) is not None]
            expires_at = now + self.receipt_lifetime // timedelta(milliseconds=1)
            queued = await store_receipts(db, due, receiver, now=now, expires_at=expires_at) if due else {}
        for mailbox_id, sequence in queued.items():
            self.wakeups.announce(mailbox_id, MailArrived(sequence))

    async def count_failure(self, mailbox_id: int, sequence: int) -> list[StoredGap]:
        """Count a failed delivery; the gap, if the envelope is parked now."""
        async with self.database.begin() as db:
            parked = await count_failure(db, mailbox_id, [sequence])
            await insert_gaps(db, [(mailbox_id, each, each) for each in parked], reason="parked")
        return [StoredGap(each, each, "parked") for each in parked]

    async def forget_gap(self, mailbox_id: int, first: int) -> None:
        """The device has heard of this gap."""
        async with self.database.begin() as db:
            await delete_gap(db, mailbox_id, first)
