"""What a socket does with its mailbox: open it, read a page, forget what was acknowledged, count what failed."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from messaging.relay.database import Database
from messaging.relay.delivery.stream import ReadPage
from messaging.relay.messages.tables import (
    Progress,
    StoredEnvelope,
    StoredGap,
    count_connection,
    count_failure,
    delete_expired,
    delete_gap,
    delete_gaps,
    delete_up_to,
    insert_gaps,
    progress_of,
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
    now: Callable[[], int]

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

    async def progress(self, mailbox_ids: Collection[int]) -> dict[int, Progress]:
        """How far each mailbox is that exists."""
        async with self.database.read() as db:
            return await progress_of(db, mailbox_ids)

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
