"""What a socket does with its mailbox: read a page, forget what was acknowledged. And the sweep of what has expired."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from messaging.relay.accounts.tables import delete_expired_verifications
from messaging.relay.database import Database
from messaging.relay.delivery.stream import ReadPage
from messaging.relay.logs import get_logger
from messaging.relay.messages.tables import (
    StoredEnvelope,
    delete_envelopes,
    delete_expired,
    last_sequences,
    mailboxes_behind,
    read_envelopes,
)

SWEEP_SECONDS = 60 * 60
_SWEPT_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """Reads and empties mailboxes. ``now`` gives milliseconds since 1970."""

    database: Database
    now: Callable[[], int]

    async def read_page(self, mailbox_id: int, page: ReadPage) -> list[StoredEnvelope]:
        """The envelopes that ``page`` asks for."""
        async with self.database.read() as db:
            return await read_envelopes(db, mailbox_id, after=page.after, limit=page.limit, now=self.now())

    async def last_sequences(self, mailbox_ids: Collection[int]) -> dict[int, int]:
        """The last sequence given in each mailbox that exists."""
        async with self.database.read() as db:
            return await last_sequences(db, mailbox_ids)

    async def delete(self, mailbox_id: int, sequences: Collection[int]) -> None:
        """Forget envelopes."""
        async with self.database.begin() as db:
            await delete_envelopes(db, mailbox_id, sequences)

    async def sweep(self) -> int:
        """Forget expired envelopes, a few mailboxes at a time, and expired verification sessions; returns how many."""
        async with self.database.begin() as db:
            count = await delete_expired_verifications(db, now=self.now())
        first = 0
        while True:
            async with self.database.read() as db:
                ids = await mailboxes_behind(db, first, limit=_SWEPT_AT_ONCE)
            if not ids:
                return count
            async with self.database.begin() as db:
                count += await delete_expired(db, first=ids[0], last=ids[-1], now=self.now())
            first = ids[-1]


async def sweep_regularly(mailboxes: Mailboxes) -> None:
    """Sweep at once and then every hour, until cancelled."""
    log = get_logger()
    while True:
        try:
            log.info("swept", count=await mailboxes.sweep())
        except Exception as error:  # noqa: BLE001 - a sweep that fails is tried again later; nothing else depends on it
            log.warning("sweep_failed", error=type(error).__name__)
        await asyncio.sleep(SWEEP_SECONDS)
