"""Forgetting what has expired, of every domain, now and then."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.accounts.linking_tables import delete_expired_links
from messaging.relay.accounts.tables import delete_expired_tombstones, delete_expired_verifications
from messaging.relay.accounts.usernames import delete_expired_usernames
from messaging.relay.database import Database
from messaging.relay.messages.idempotency import delete_expired_sends
from messaging.relay.messages.reports import delete_expired_reports
from messaging.relay.messages.tables import delete_expired, delete_unused_payloads, mailboxes_behind
from messaging.relay.metrics import Figures
from messaging.relay.profiles.tables import expire_unshown_avatars
from messaging.serving.logs import get_logger

SWEEP_SECONDS = 60 * 60
_SWEPT_AT_ONCE = 500


class Forget(Protocol):
    """Forgets rows of one table that have expired; returns how many."""

    def __call__(self, db: AsyncConnection, *, now: int) -> Awaitable[int]:
        """Forget them."""


# Payloads come last: what pointed at them is gone by then. Avatars come before the sweep of attachments.
EVERYTHING: Sequence[Forget] = (
    delete_expired_verifications,
    delete_expired_tombstones,
    delete_expired_links,
    delete_expired_usernames,
    delete_expired_sends,
    delete_expired_reports,
    expire_unshown_avatars,
    delete_unused_payloads,
)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Forgets what has expired. ``now`` gives milliseconds since 1970; ``more`` are sweeps of other stores."""

    database: Database
    now: Callable[[], int]
    more: Sequence[Callable[[], Awaitable[int]]] = ()
    figures: Figures = field(default_factory=Figures)

    async def sweep(self) -> int:
        """Forget envelopes, a few mailboxes at a time, and then the rest; returns how many rows."""
        count = await self._envelopes()
        for forget in EVERYTHING:
            async with self.database.begin(seconds=None) as db:  # after a long absence there may be much
                count += await forget(db, now=self.now())
        for another in self.more:
            count += await another()
        self.figures.sweeps += 1
        self.figures.swept_rows += count
        return count

    async def run(self) -> None:
        """Sweep at once and then every hour, until cancelled."""
        log = get_logger()
        while True:
            try:
                log.info("swept", count=await self.sweep())
            except Exception as error:  # noqa: BLE001 - tried again later; nothing else depends on it
                self.figures.sweep_failures += 1
                log.warning("sweep_failed", error=type(error).__name__)
            await asyncio.sleep(SWEEP_SECONDS)

    async def _envelopes(self) -> int:
        count = first = 0
        while True:
            async with self.database.read() as db:
                ids = await mailboxes_behind(db, first, limit=_SWEPT_AT_ONCE)
            if not ids:
                return count
            async with self.database.begin(seconds=None) as db:
                count += await delete_expired(db, first=ids[0], last=ids[-1], now=self.now())
            first = ids[-1]
