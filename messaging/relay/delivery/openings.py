"""Devices that connect: all mailboxes that are opened at a time are opened together, as after a relay has been replaced.

It is a relaxed commit. A crash of the database may take back the number of a connection, which is then given again: at the worst
a device has two sockets until the old one is found dead. What a device says it has may be delivered to it once more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.relay.batching import Bounds, GroupCommit
from messaging.relay.database import Database
from messaging.relay.errors import RelayError, Unavailable
from messaging.relay.lanes import Lane
from messaging.relay.messages.held import Held
from messaging.relay.messages.tables import (
    Connected,
    Connecting,
    StoredGap,
    connect_mailboxes,
    delete_expired,
    read_gaps,
)

BOUNDS = Bounds(batch_items=200, batch_bytes=1, waiting_items=50_000, waiting_bytes=1)
GAPS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Opened:
    """A mailbox as it is when its device connects. Nothing waits up to ``empty_up_to``."""

    connection: int  # its number: of two connections the later one has the greater
    last_sequence: int
    empty_up_to: int
    gaps: list[StoredGap]


class Openings:
    """Opens mailboxes. ``run`` does the work; ``now`` gives milliseconds since 1970."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now
        self._lane = Lane(database, relaxed=True)
        self._held = Held(self._lane)
        self._commits: GroupCommit[Connecting, Connected | None] = GroupCommit(self._connect, BOUNDS)

    async def open(self, mailbox_id: int, *, resume_after: int | None, wants_gaps: bool) -> Opened | None:
        """Begin to deliver; ``None`` if the mailbox is gone.

        ``resume_after`` is the sequence up to which the device has everything: that is forgotten. For a device that wants to hear
        of gaps, what has expired is forgotten too, and told.

        Raises:
            Unavailable: the database cannot be reached.
        """
        connected = await self._commits.submit(Connecting(mailbox_id, resume_after, wants_gaps))
        if connected is None:
            return None
        gaps = await self._gaps(mailbox_id) if wants_gaps else []
        return Opened(connected.connection, connected.last_sequence, connected.empty_up_to, gaps)

    async def run(self) -> None:
        """Open until cancelled."""
        try:
            await self._commits.run()
        finally:
            await self._lane.close()

    async def _connect(self, connecting: Sequence[Connecting]) -> Sequence[Connected | RelayError | None]:
        boxes = (each.mailbox_id for each in connecting)
        return await self._held.beside(boxes, lambda: self._connect_free(connecting))

    async def _connect_free(self, connecting: Sequence[Connecting]) -> Sequence[Connected | RelayError | None]:
        results: list[Connected | RelayError | None] = [Unavailable() for _ in connecting]
        places = [place for place, each in enumerate(connecting) if not self._held.any_of([each.mailbox_id])]
        while places:  # a device that connects twice at a time: each connection has its own number
            once = {connecting[place].mailbox_id: place for place in reversed(places)}
            now = [connecting[place] for place in once.values()]
            found = await self._lane.twice(partial(_connect_all, now))
            for mailbox_id, place in once.items():
                results[place] = found.get(mailbox_id)
            places = [place for place in places if place not in once.values()]
        return results

    async def _gaps(self, mailbox_id: int) -> list[StoredGap]:
        async with self._database.begin() as db:
            await delete_expired(db, first=mailbox_id, last=mailbox_id, now=self._now())
            return await read_gaps(db, mailbox_id, limit=GAPS_AT_ONCE)


async def _connect_all(connecting: Sequence[Connecting], db: AsyncConnection) -> dict[int, Connected]:
    return await connect_mailboxes(db, connecting)
