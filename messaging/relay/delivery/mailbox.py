"""What a socket does with its open mailbox: read a page, count what failed, forget gaps that its device has heard of."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from messaging.relay.accounts.tables import mailboxes_of_suspended
from messaging.relay.database import Database
from messaging.relay.delivery.stream import ReadPage
from messaging.relay.messages.tables import (
    Progress,
    StoredEnvelope,
    StoredGap,
    count_failure,
    delete_gap,
    insert_gaps,
    progress_of,
    read_envelopes,
)

PROGRESS_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Closed:
    """The mailbox is there, and its account is suspended."""


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """Reads mailboxes. ``now`` gives milliseconds since 1970."""

    database: Database
    now: Callable[[], int]

    async def read_page(self, mailbox_id: int, page: ReadPage) -> list[StoredEnvelope]:
        """The envelopes that ``page`` asks for."""
        async with self.database.read() as db:
            return await read_envelopes(db, mailbox_id, after=page.after, limit=page.limit, now=self.now())

    async def progress(self, mailbox_ids: Collection[int]) -> dict[int, Progress | Closed]:
        """How far each mailbox is that exists, or that nothing is delivered to it.

        Raises:
            TimeoutError: the database does not answer soon.
        """
        async with self.database.read(seconds=PROGRESS_SECONDS) as db:
            found, closed = await progress_of(db, mailbox_ids), await mailboxes_of_suspended(db, mailbox_ids)
        return {mailbox_id: Closed() if mailbox_id in closed else each for mailbox_id, each in found.items()}

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
